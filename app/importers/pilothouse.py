"""Pilothouse's own format of an environment's flags, complete and lossless.

It has no times, versions and actors: of the same flags the same file is made, line by line.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.importers.model import ImportedFlags
from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.flags.model import Flag, Segment
from pilothouse_core.flags.reading import read_flag, read_segment

FORMAT = "pilothouse-flags"
VERSION = 1
_MOST_ITEMS = 100_000
_MANY_TEXTS = 2000  # written at once: during that time the interpreter does nothing else


def write_own(
    environment: str, flags: Iterable[Mapping[str, Any]], segments: Iterable[Mapping[str, Any]]
) -> bytes:
    """Write a document, one flag or segment a line."""
    head = write_json({"format": FORMAT, "version": VERSION, "environment": environment})
    parts = [
        f'"{name}":[\n{lines}\n]'
        if (lines := ",\n".join(map(write_json, items)))
        else f'"{name}":[]'
        for name, items in (("flags", flags), ("segments", segments))
    ]
    return f"{head[:-1]},\n{','.join(parts)}}}\n".encode()


def write_json(value: Any) -> str:
    """Write JSON whose members keep their order; long lists of texts in parts."""
    return "".join(_parts(value))


def _parts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for number, (name, member) in enumerate(value.items()):
            yield f"{'{' if number == 0 else ','}{_dumps(name)}:"
            yield from _parts(member)
        yield "}" if value else "{}"
    elif isinstance(value, list) and len(value) > _MANY_TEXTS:
        for start in range(0, len(value), _MANY_TEXTS):
            yield ("," if start else "[") + _dumps(value[start : start + _MANY_TEXTS])[1:-1]
        yield "]"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield "," if number else "["
            yield from _parts(item)
        yield "]" if value else "[]"
    else:
        yield _dumps(value)


_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def read_own(document: Any) -> ImportedFlags:
    """Read a document; raises DefinitionError with the place in it."""
    place = Place(document)
    place.object(("format", "version", "environment", "flags", "segments"))
    if (stated := place.member("format")).value != FORMAT:
        stated.fail(f"is not {FORMAT!r}: the file is from another system", "unknown_format")
    if (stated := place.member("version")).value != VERSION or stated.value is True:
        stated.fail(f"is not {VERSION}: the file is from another release", "unknown_version")
    flags: list[dict[str, Any]] = []
    archived: set[str] = set()
    for one in _items(place, "flags"):
        members = dict(one.object())
        if members.pop("archived", False) is not False and one.at("archived").boolean():
            archived.add(str(members.get("name")))
        _check(one, members, read_flag)
        flags.append(members)
    segments = [dict(one.object()) for one in _items(place, "segments")]
    for number, members in enumerate(segments):
        _check(place.at("segments").item(number), members, read_segment)
    _refuse_twice(place, "flags", flags)
    _refuse_twice(place, "segments", segments)
    return ImportedFlags(tuple(flags), tuple(segments), (), frozenset(archived))


def _items(place: Place, name: str) -> Sequence[Place]:
    return place.member(name).items(_MOST_ITEMS)


def _check(place: Place, members: Mapping[str, Any], read: Any) -> Flag | Segment:
    try:
        definition: Flag | Segment = read(members)
    except DefinitionError as error:
        raise DefinitionError(place.pointer + error.pointer, error.detail, error.code) from error
    return definition


def _refuse_twice(place: Place, kind: str, items: Sequence[Mapping[str, Any]]) -> None:
    names: set[str] = set()
    for number, members in enumerate(items):
        if members["name"] in names:
            named = place.at(kind).item(number).at("name")
            named.fail("occurs twice in this file", "duplicate")
        names.add(members["name"])
