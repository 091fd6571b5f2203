"""Stored functions as they were released: each version is one file of `sql/`, never edited."""

from pathlib import Path

FOLDER = Path(__file__).parent / "sql"


def stored_function(name: str, revision: str) -> str:
    """Return the statement that creates a function as the migration `revision` has it."""
    # The first releases had a line break before the statement; so the server is sent the same.
    return "\n" + (FOLDER / f"{name}.{revision}.sql").read_text(encoding="utf-8")
