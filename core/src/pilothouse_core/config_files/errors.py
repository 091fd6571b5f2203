"""Errors of imported files and exported documents."""

from collections.abc import Sequence

from pilothouse_core.trees import truncated_text

MOST_KEYS = 100  # that one answer names


class BadFile(ValueError):
    """The reason may name keys and lines of the file, never a value: it may be a password."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        if line is None:
            super().__init__(reason)
        elif column is None:
            super().__init__(f"line {line}: {reason}")
        else:
            super().__init__(f"line {line}, column {column}: {reason}")
        self.reason, self.line, self.column = reason, line, column


class FileTooComplex(ValueError):
    """The aliases of a short file expand to too much."""


class NameClash(ValueError):
    """Two keys meet in one name of a dotenv file."""

    def __init__(self, first: str, second: str, name: str) -> None:
        super().__init__(f"the keys {first!r} and {second!r} would both be called {name!r}")
        self.first, self.second, self.name = first, second, name


class NotExpressible(ValueError):
    """Values that readers of a dotenv file read differently, however they are written."""

    def __init__(self, keys: Sequence[str]) -> None:
        others = f" ({len(keys)} keys in all)" if len(keys) > 1 else ""
        super().__init__(
            f"the value of {keys[0]!r} cannot be written so that all readers of dotenv files read "
            f"it alike{others}: `${{NAME}}`, or quotes together with backslashes, `$` or other "
            "quotes; export another format"
        )
        self.keys = list(keys[:MOST_KEYS])


def quoted_name(name: str) -> str:
    """A name as a message may hold it: quoted, and short whatever the file holds."""
    return repr(truncated_text(name))
