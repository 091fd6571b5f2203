"""Values from the events of PyYAML's parser.

Sizes are counted before anything is built: a short text can expand to any size by its aliases.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pilothouse_core.strict_yaml.errors import YamlTooLarge
from pilothouse_core.strict_yaml.scalars import TAGS, bad_at, scalar_tag, scalar_value
from pilothouse_core.trees import truncated_text

MAX_DEPTH: Final = 64

_MERGE: Final = str(b"<<", "ascii")  # an object of its own: a quoted "<<" is an ordinary key
_NOT_SCALAR: Final = "a key that is not a scalar"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one text may hold, all documents together, with every alias expanded."""

    nodes: int = 100_000  # keys, scalars and collections
    characters: int = 4 * 1024 * 1024  # of scalars: a few nodes can repeat one long text
    documents: int = 1000
    anchors: int = 10_000


@dataclass(frozen=True, slots=True)
class Document:
    """One document and where it begins; an empty one is None."""

    value: Any
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    text: str | None  # of a scalar
    nodes: int
    characters: int
    height: int  # levels of collections


@dataclass(slots=True)
class _Collection:
    """A mapping or a sequence whose end has not come yet."""

    members: Any
    is_mapping: bool
    anchor: str | None = None
    nodes: int = 0  # counted before it
    characters: int = 0
    height: int = 1
    key: str | None = None  # that waits for its value
    merged: dict[str, Any] | None = None  # what `<<` brings

    @property
    def awaits_key(self) -> bool:
        return self.is_mapping and self.key is None

    def value(self) -> Any:
        return self.members if self.merged is None else self.merged | self.members


class Composer:
    """Takes the events of one text and ends up with its `documents`."""

    def __init__(self, limits: Limits, *, exact: bool) -> None:
        self.documents: list[Document] = []
        self._limits, self._exact = limits, exact
        self._root: list[Any] = []
        self._open = [_Collection(self._root, is_mapping=False)]
        self._anchors: dict[str, _Anchored | None] = {}  # None: still open
        self._nodes = self._characters = self._anchored = 0
        self._document_start: Any = None

    def compose(self, next_event: Callable[[], Any]) -> None:
        """Take all events; raises BadYaml."""
        take = {
            ScalarEvent: self._take_scalar,
            AliasEvent: self._take_alias,
            MappingStartEvent: self._start_collection,
            SequenceStartEvent: self._start_collection,
            MappingEndEvent: self._end_collection,
            SequenceEndEvent: self._end_collection,
            DocumentStartEvent: self._start_document,
            DocumentEndEvent: self._end_document,
        }
        while (event := next_event()) is not None:
            if (take_event := take.get(type(event))) is not None:
                take_event(event)

    def _take_scalar(self, event: Any) -> None:
        text, anchor = event.value, event.anchor
        if "\0" in text:
            raise bad_at(event, "a NUL character in a scalar")
        self._count(1, len(text), event)
        around = self._open[-1]
        is_key = around.is_mapping and around.key is None
        if not is_key or anchor is not None:
            value = scalar_value(event, exact=self._exact)
            if anchor is not None:
                self._count_anchor(event)
                self._anchors[anchor] = _Anchored(value, text, 1, len(text), 0)
        if not is_key:
            self._add(value, 0, event)
            return
        if scalar_tag(event) != "str":
            raise bad_at(event, "a tag other than !!str on a key")
        is_merge = text == "<<" and event.tag is None and event.implicit[0]
        self._name(_MERGE if is_merge else text, event)

    def _start_collection(self, event: Any) -> None:
        is_mapping = type(event) is MappingStartEvent
        if event.tag not in {None, "!", TAGS + ("map" if is_mapping else "seq")}:
            raise bad_at(event, "a tag other than !!map and !!seq on a collection")
        if self._open[-1].awaits_key:
            raise bad_at(event, _NOT_SCALAR)
        if event.anchor is not None:
            self._count_anchor(event)
            self._anchors[event.anchor] = None
        self._check_depth(1, event)
        members: Any = {} if is_mapping else []
        self._open.append(
            _Collection(members, is_mapping, event.anchor, self._nodes, self._characters)
        )
        self._count(1, 0, event)

    def _end_collection(self, event: Any) -> None:
        ended = self._open.pop()
        value = ended.value()
        if ended.anchor is not None:
            self._anchors[ended.anchor] = _Anchored(
                value=value,
                text=None,
                nodes=self._nodes - ended.nodes,
                characters=self._characters - ended.characters,
                height=ended.height,
            )
        self._add(value, ended.height, event)

    def _take_alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise bad_at(event, "undefined alias")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise bad_at(event, "recursive alias")
        self._count(anchored.nodes, anchored.characters, event)
        self._check_depth(anchored.height, event)
        if not self._open[-1].awaits_key:
            self._add(_deep_copy(anchored.value), anchored.height, event)
        elif anchored.text is not None:
            self._name(anchored.text, event)
        else:
            raise bad_at(event, _NOT_SCALAR)

    def _name(self, key: str, event: Any) -> None:
        """Begin a member of the innermost mapping."""
        mapping = self._open[-1]
        is_repeated = mapping.merged is not None if key is _MERGE else key in mapping.members
        if is_repeated:
            name = truncated_text(key)
            raise bad_at(event, f"the key {name!r} is given twice in one mapping")
        mapping.key = key

    def _add(self, value: Any, height: int, event: Any) -> None:
        """Add a value with `height` levels of collections to the innermost collection."""
        around = self._open[-1]
        if around.height <= height:
            around.height = height + 1
        if not around.is_mapping:
            around.members.append(value)
            return
        if around.key is _MERGE:
            around.merged = _merged_members(value, event)
        else:
            around.members[around.key] = value
        around.key = None

    def _count(self, nodes: int, characters: int, event: Any) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._nodes > self._limits.nodes:
            raise _too_large(event, f"{self._limits.nodes} values and keys")
        if self._characters > self._limits.characters:
            raise _too_large(event, f"{self._limits.characters} characters of text")

    def _count_anchor(self, event: Any) -> None:
        self._anchored += 1
        if self._anchored > self._limits.anchors:
            raise _too_large(event, f"{self._limits.anchors} anchors")

    def _check_depth(self, height: int, event: Any) -> None:
        if len(self._open) - 1 + height > MAX_DEPTH:
            raise bad_at(event, f"nested more than {MAX_DEPTH} levels deep")

    def _start_document(self, event: Any) -> None:
        self._document_start = event.start_mark
        self._anchors.clear()
        if len(self.documents) == self._limits.documents:
            raise _too_large(event, f"{self._limits.documents} documents")

    def _end_document(self, _: Any) -> None:
        start = self._document_start
        self.documents.append(Document(self._root.pop(), start.line + 1, start.column + 1))


def _merged_members(value: Any, event: Any) -> dict[str, Any]:
    """The members that `<<` brings; of several mappings the first one has the last word."""
    merged: dict[str, Any] = {}
    for source in reversed(value if isinstance(value, list) else [value]):
        if not isinstance(source, dict):
            raise bad_at(event, "a merge key (<<) leads to something other than mappings")
        merged |= source
    return merged


def _deep_copy(value: Any) -> Any:
    """A value of its own for each alias: nothing in the result is shared."""
    if isinstance(value, dict):
        return {name: _deep_copy(member) for name, member in value.items()}
    return [_deep_copy(item) for item in value] if isinstance(value, list) else value


def _too_large(event: Any, most: str) -> YamlTooLarge:
    mark = event.start_mark
    return YamlTooLarge(f"more than {most}", mark.line + 1, mark.column + 1)
