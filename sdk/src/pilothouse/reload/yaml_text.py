"""YAML read strictly and fast: JSON-like values, aliases and merge keys, nothing to execute.

The values are built from the events of PyYAML's parser. Its own constructor takes four times as
long, lets members stand twice and turns dates into objects.
"""

import re
from math import isinf
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pilothouse.reload.errors import BadConfig
from pilothouse_core.trees import truncated_text

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH: Final = 64
_SHORT: Final = 4300  # digits; CPython refuses to convert more
_MAX_NODES: Final = 1_000_000  # with every alias expanded
_TAGS: Final = "tag:yaml.org,2002:"
_TEXTS: Final = {None, "!", _TAGS + "str"}
_COLLECTIONS: Final = {None, "!", _TAGS + "map", _TAGS + "seq"}
_SPELLINGS: Final[dict[str, bool | None]] = {
    "null": None,
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}
_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    **{
        spelling: value
        for word, value in _SPELLINGS.items()
        for spelling in (word, word.capitalize(), word.upper())
    },
}
_NUMERIC: Final = frozenset("+-.0123456789")
_TYPED: Final = frozenset({word[:1] for word in _WORDS} | _NUMERIC)
_INTEGER: Final = re.compile(
    r"[-+]?(?:0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]+|0|[1-9][0-9_]*)"
)
_FLOAT: Final = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_ABSENT: Final[Any] = object()


def loads(text: str | bytes) -> Any:
    """Return the value of a YAML text of one document; an empty one is None.

    Raises BadConfig, with the line, for what is not YAML or more than one document, a member that
    occurs twice, infinity and NaN, keys that are not scalars, tags that JSON has no type for, and
    sizes nobody writes by hand.
    """
    parser = _LOADER(text)
    try:
        return _read(parser)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise BadConfig(f"{where}not YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise BadConfig(f"not YAML: {error.reason} at byte {error.position}") from None
    finally:
        parser.dispose()


def _read(parser: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - one flat loop, because it is hot
    next_event = parser.get_event
    root: list[Any] = []
    target: Any = root
    key: str | None = None
    is_mapping = False
    merged: Any = _ABSENT
    anchors: dict[str, tuple[Any, int] | None] = {}
    # Of each collection around: itself, the name that waits for a value, whether it is a mapping,
    # what << brings, and of the one inside it the anchor and how many nodes came before.
    around: list[tuple[Any, str | None, bool, Any, str | None, int]] = []
    nodes = documents = 0
    while (event := next_event()) is not None:
        kind = type(event)
        value: Any = None
        if kind is ScalarEvent:
            nodes += 1
            text = event.value
            anchor, tag = event.anchor, event.tag
            if is_mapping and key is None:
                if tag is None and anchor is None and text != "<<" and text not in target:
                    key = text
                else:
                    if anchor is not None:
                        anchors[anchor] = (text, 1)
                    key = _member_name(text, event, target, merged)
                continue
            if tag is None and event.implicit[0]:
                value = text if text[:1] not in _TYPED else _plain(text, event)
            else:
                value = text if tag is None else _tagged_value(text, event)
            if anchor is not None:
                anchors[anchor] = (value, 1)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            _check_start(event, len(around), is_key=is_mapping and key is None)
            if event.anchor:
                anchors[event.anchor] = None
            around.append((target, key, is_mapping, merged, event.anchor, nodes))
            nodes += 1
            is_mapping = kind is MappingStartEvent
            target = {} if is_mapping else []
            key, merged = None, _ABSENT
            continue
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            value = target if merged is _ABSENT else _merged_members(merged, event) | target
            target, key, is_mapping, merged, anchor, before = around.pop()
            if anchor is not None:
                anchors[anchor] = (value, nodes - before)
        elif kind is AliasEvent:
            value, size = _anchored_value(anchors, event)
            nodes += size
            if is_mapping and key is None:
                if not isinstance(value, str):
                    raise _bad("a key that is not a scalar", event)
                key = _member_name(value, event, target, merged)
                continue
        else:
            if kind is DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise _bad("more than one document", event)
            continue
        if nodes > _MAX_NODES:
            raise _bad(f"more than {_MAX_NODES} values and keys", event)
        if not is_mapping:
            target.append(value)
        elif key is _MERGE:
            merged, key = value, None
        else:
            target[key] = value
            key = None
    return root[0] if root else None


_MERGE: Final = str(b"<<", "ascii")  # an object of its own: a quoted "<<" is an ordinary name


def _member_name(text: str, event: Any, target: dict[str, Any], merged: Any) -> str:
    if text == "<<" and type(event) is ScalarEvent and event.tag is None and event.implicit[0]:
        if merged is not _ABSENT:
            raise _bad("the key '<<' occurs twice in one mapping", event)
        return _MERGE
    if type(event) is ScalarEvent and event.tag not in _TEXTS:
        raise _bad("a key with a tag", event)
    if text in target:
        raise _bad(f"the key {truncated_text(text)!r} occurs twice in one mapping", event)
    return text


def _merged_members(value: Any, event: Any) -> dict[str, Any]:
    """Return the members that `<<` brings; of several mappings the first has the last word."""
    members: dict[str, Any] = {}
    for mapping in reversed(value if isinstance(value, list) else [value]):
        if not isinstance(mapping, dict):
            raise _bad("a merge key (<<) leads to something other than mappings", event)
        members |= mapping
    return members


def _anchored_value(anchors: dict[str, tuple[Any, int] | None], event: Any) -> tuple[Any, int]:
    if event.anchor not in anchors:
        raise _bad("an undefined alias", event)
    anchored = anchors[event.anchor]
    if anchored is None:
        raise _bad("a recursive alias", event)
    return anchored


def _check_start(event: CollectionStartEvent, depth: int, *, is_key: bool) -> None:
    if event.tag not in _COLLECTIONS:
        raise _bad("a tag other than !!map and !!seq on a collection", event)
    if is_key:
        raise _bad("a key that is not a scalar", event)
    if depth >= _MAX_DEPTH:
        raise _bad(f"nested more than {_MAX_DEPTH} levels deep", event)


def _plain(text: str, event: Any) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    if text.isascii() and text.isdecimal() and text[0] != "0" and len(text) < _SHORT:
        return int(text)
    if _INTEGER.fullmatch(text):
        return _integer(text, event)
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        if isinf(number):
            raise _bad("a number beyond every double", event)
        return number
    if _NOT_FINITE.fullmatch(text):
        raise _bad("infinity and NaN are no values of a configuration", event)
    return text


def _integer(text: str, event: Any) -> int:
    digits = text.lstrip("+-").replace("_", "")
    base = {"0x": 16, "0b": 2}.get(digits[:2], 8 if digits[0] == "0" else 10)
    try:
        number = int(digits, base)
    except ValueError:
        raise _bad("an integer of more than 4300 digits", event) from None
    return -number if text[0] == "-" else number


def _tagged_value(text: str, event: Any) -> Any:
    tag = event.tag
    if tag in _TEXTS:
        return text
    value = _plain(text, event)
    expected = {"null": type(None), "bool": bool, "int": int, "float": float}.get(
        tag.removeprefix(_TAGS)
    )
    if expected is float and type(value) is int:
        return float(value)
    if expected is None or type(value) is not expected:
        raise _bad("a tag that JSON has no type for, or that its value is not of", event)
    return value


def _bad(reason: str, event: Any) -> BadConfig:
    return BadConfig(f"line {event.start_mark.line + 1}: {reason}")
