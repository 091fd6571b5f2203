"""Evaluating what an import made, the way every client does."""

from collections.abc import Mapping
from typing import Any

from app.importers.model import ImportedFlags
from pilothouse_core.evaluation import EMPTY, Evaluation, FlagSet
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.references import check_references


def flag_set(imported: ImportedFlags) -> FlagSet:
    """Read all that was imported, as a commit into an empty environment does."""
    flags = {found["name"]: read_flag(found) for found in imported.flags}
    segments = {found["name"]: read_segment(found) for found in imported.segments}
    check_references(flags, segments, flags, segments)
    return EMPTY.with_changes(
        [(name, flag, 1) for name, flag in flags.items()], list(segments.items())
    )


def evaluate_imported(
    imported: ImportedFlags, name: str, context: Mapping[str, Any], now: float = 0.0
) -> Evaluation:
    return flag_set(imported).evaluate(name, context, now)
