"""Values from the events of PyYAML's parser.

PyYAML's own composer crashes the process on deep nesting, and what follows it expands aliases
before anything could count them. Here sizes are counted before anything is built from them.
"""

from dataclasses import dataclass, field
from typing import Final

import yaml

from app.configs.formats.errors import BadFile, FileTooComplex, quoted_name
from app.configs.formats.yaml_scalars import TAGS, scalar_tag, scalar_value

MAX_DEPTH: Final = 64
MAX_NODES: Final = 100_000  # in the whole file, with every alias expanded
MAX_DOCUMENTS: Final = 1000
MAX_ANCHORS: Final = 10_000
MAX_LETTERS: Final = 4 * 1024 * 1024  # likewise: a few nodes can repeat one long text


@dataclass(slots=True)
class _Sequence:
    items: list[object] = field(default_factory=list)

    @property
    def awaits_key(self) -> bool:
        return False

    def add(self, value: object) -> bool:
        self.items.append(value)
        return True

    def value(self) -> object:
        return self.items


@dataclass(slots=True)
class _Mapping:
    members: dict[str, object] = field(default_factory=dict)
    merged: dict[str, object] | None = None
    key: str | None = None
    is_merge: bool = False

    @property
    def awaits_key(self) -> bool:
        return self.key is None

    def begin_member(self, key: str, *, is_merge: bool) -> bool:
        """Tell whether `key` is new here."""
        self.key, self.is_merge = key, is_merge
        return self.merged is None if is_merge else key not in self.members

    def add(self, value: object) -> bool:
        """Tell whether `value` may stand under the key that was named."""
        if self.is_merge:
            self.merged = _merge_sources(value)
        elif self.key is not None:
            self.members[self.key] = value
        self.key = None
        return not self.is_merge or self.merged is not None

    def value(self) -> object:
        return self.members if self.merged is None else self.merged | self.members


def _merge_sources(value: object) -> dict[str, object] | None:
    """The members that `<<` brings, of several mappings the first one has the last word."""
    merged: dict[str, object] = {}
    for source in reversed(value if isinstance(value, list) else [value]):
        if not isinstance(source, dict):
            return None
        merged |= source
    return merged


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: object
    text: str | None  # of a scalar
    nodes: int
    letters: int
    height: int  # levels of collections


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    node: _Mapping | _Sequence
    anchor: str | None = None
    nodes: int = 0  # counted before it
    letters: int = 0
    height: int = 1


class Composer:
    """Takes the events of one file and ends up with `documents`, the mappings in it."""

    def __init__(self) -> None:
        self.documents: list[dict[str, object]] = []
        self._root = _Sequence()
        self._open = [_Open(self._root)]
        self._anchors: dict[str, _Anchored | None] = {}  # None: still open
        self._nodes = self._letters = self._documents = self._anchored = 0
        self._line = self._document_line = 1

    def take(self, event: yaml.Event) -> None:
        if event.start_mark is not None:
            self._line = event.start_mark.line + 1
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.CollectionStartEvent():
                self._start(event)
            case yaml.CollectionEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._document_line = self._line
                self._anchors.clear()
                self._documents += 1
                if self._documents > MAX_DOCUMENTS:
                    raise FileTooComplex(f"line {self._line}: more than {MAX_DOCUMENTS} documents")
            case yaml.DocumentEndEvent():
                self._end_document()

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text = event.value
        if "\0" in text:
            raise BadFile("a NUL character in a scalar", self._line)
        self._count(1, len(text))
        if event.anchor:
            value = scalar_value(event, self._line)
            self._count_anchor()
            self._anchors[event.anchor] = _Anchored(value, text, 1, len(text), 0)
        if not self._open[-1].node.awaits_key:
            self._add(scalar_value(event, self._line), 0)
        else:
            scalar_tag(event, self._line)
            is_merge = text == "<<" and event.tag is None and event.implicit[0]
            self._name(text, is_merge=is_merge)

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", TAGS + ("map" if is_mapping else "seq")}:
            raise BadFile("a tag other than !!map and !!seq on a collection", self._line)
        if self._open[-1].node.awaits_key:
            raise BadFile("a key that is not a scalar", self._line)
        if event.anchor:
            self._count_anchor()
            self._anchors[event.anchor] = None
        self._check_depth(1)
        node = _Mapping() if is_mapping else _Sequence()
        self._open.append(_Open(node, event.anchor, self._nodes, self._letters))
        self._count(1, 0)

    def _end(self) -> None:
        ended = self._open.pop()
        value = ended.node.value()
        if ended.anchor:
            self._anchors[ended.anchor] = _Anchored(
                value=value,
                text=None,
                nodes=self._nodes - ended.nodes,
                letters=self._letters - ended.letters,
                height=ended.height,
            )
        self._add(value, ended.height)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise BadFile("undefined alias", self._line)
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise BadFile("recursive alias", self._line)
        self._count(anchored.nodes, anchored.letters)
        self._check_depth(anchored.height)
        if not self._open[-1].node.awaits_key:
            self._add(_deep_copy(anchored.value), anchored.height)
        elif anchored.text is not None:
            self._name(anchored.text, is_merge=False)
        else:
            raise BadFile("a key that is not a scalar", self._line)

    def _name(self, key: str, *, is_merge: bool) -> None:
        node = self._open[-1].node
        if isinstance(node, _Mapping) and not node.begin_member(key, is_merge=is_merge):
            raise BadFile(f"the key {quoted_name(key)} is given twice in one mapping", self._line)

    def _add(self, value: object, height: int) -> None:
        around = self._open[-1]
        around.height = max(around.height, height + 1)
        if not around.node.add(value):
            raise BadFile("a merge key (<<) leads to something other than mappings", self._line)

    def _count(self, nodes: int, letters: int) -> None:
        self._nodes += nodes
        self._letters += letters
        if self._nodes > MAX_NODES:
            raise FileTooComplex(f"line {self._line}: more than {MAX_NODES} values and keys")
        if self._letters > MAX_LETTERS:
            raise FileTooComplex(f"line {self._line}: more than {MAX_LETTERS} characters of text")

    def _count_anchor(self) -> None:
        self._anchored += 1
        if self._anchored > MAX_ANCHORS:
            raise FileTooComplex(f"line {self._line}: more than {MAX_ANCHORS} anchors")

    def _check_depth(self, height: int) -> None:
        around = len(self._open) - 1
        if around + height > MAX_DEPTH:
            raise BadFile(f"nested more than {MAX_DEPTH} levels deep", self._line)

    def _end_document(self) -> None:
        document = self._root.items.pop()
        if isinstance(document, dict):
            self.documents.append(document)
        elif document is not None:
            raise BadFile("a document that is not a mapping", self._document_line)


def _deep_copy(value: object) -> object:
    """A value of its own for each alias: nothing in the result is shared."""
    if isinstance(value, dict):
        return {name: _deep_copy(member) for name, member in value.items()}
    return [_deep_copy(item) for item in value] if isinstance(value, list) else value
