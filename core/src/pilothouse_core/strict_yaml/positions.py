"""The line and the column of each value in a YAML text."""

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pilothouse_core.strict_yaml.reader import LOADER

Path = tuple[str | int, ...]
Position = tuple[int, int]  # line and column, from 1


def document_positions(text: str) -> list[dict[Path, Position]]:
    """Return for each document, also empty ones, where each member and each item begins.

    A member begins at its name. What an alias or a merge key brings has no place of its own.
    The text is one that `load_documents` accepts.
    """
    positions: list[dict[Path, Position]] = []
    for event, path, is_place in _walk(text):
        if isinstance(event, DocumentStartEvent):
            positions.append({})
        elif is_place:
            mark = event.start_mark
            positions[-1].setdefault(path, (mark.line + 1, mark.column + 1))
    return positions


def _walk(text: str) -> Iterator[tuple[Any, Path, bool]]:
    """Yield (event, path, whether a member or item begins) of all events."""
    outer: list[str | int | None] = []  # the last member or index in each open collection
    parser = LOADER(text)
    try:
        while (event := parser.get_event()) is not None:
            if isinstance(event, MappingEndEvent | SequenceEndEvent):
                outer.pop()
                _end_value(outer)
                continue
            is_value = isinstance(
                event, ScalarEvent | AliasEvent | MappingStartEvent | SequenceStartEvent
            )
            if is_value and outer and outer[-1] is None:  # the name of a member
                outer[-1] = getattr(event, "value", None) or ""
                yield event, tuple(filter(_is_step, outer)), True  # type: ignore[arg-type]
                continue
            is_item = is_value and bool(outer) and isinstance(outer[-1], int)
            yield event, tuple(filter(_is_step, outer)), is_item  # type: ignore[arg-type]
            if isinstance(event, MappingStartEvent):
                outer.append(None)
            elif isinstance(event, SequenceStartEvent):
                outer.append(0)
            elif is_value:
                _end_value(outer)
    except yaml.YAMLError:  # the text was not one that `load_documents` accepts
        return
    finally:
        parser.dispose()


def _is_step(step: str | int | None) -> bool:
    return step is not None


def _end_value(outer: list[str | int | None]) -> None:
    if outer:
        last = outer[-1]
        outer[-1] = last + 1 if isinstance(last, int) else None
