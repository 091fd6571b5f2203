"""Three-way comparison of two environments: what was promoted last, the source, the target. Pure.

A row is one key of a layer, a list as a whole, or one flag or segment by its definition.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.configs.secrets import holds_secret, mask_secrets
from app.proposals.promotion.model import ABSENT, UNKNOWN, Row, RowKey, RowKind, State
from pilothouse_core.diff import is_same
from pilothouse_core.keys import key_of, names_of


@dataclass(frozen=True, slots=True)
class Sides:
    """The values of one row, each may be ABSENT, and `base` UNKNOWN.

    `is_overlaid`: `source` is what an overlay says, whatever the source has.
    """

    base: Any = field(repr=False)
    source: Any = field(repr=False)
    target: Any = field(repr=False)
    is_pinned: bool = False
    is_overlaid: bool = False

    @property
    def state(self) -> State | None:
        """The state of the row, None if neither side has a value.

        Values of secrets are never compared.
        """
        if self.source is ABSENT and self.target is ABSENT:
            return None
        if self.is_pinned:
            return "pinned"
        if self.source is not ABSENT and (holds_secret(self.source) or holds_secret(self.target)):
            return "secret"
        return "same" if _is_equal(self.source, self.target) else self._difference()

    def _difference(self) -> State:
        if self.base is UNKNOWN and not self.is_overlaid:
            return "kept" if self.source is ABSENT else self._conflict_unless_new()
        if not self.is_overlaid and _is_equal(self.source, self.base):
            return "kept"
        # A secret cannot be compared with what it was: the source has removed it.
        is_lost_secret = self.source is ABSENT and holds_secret(self.target)
        if self.is_overlaid or is_lost_secret or _is_equal(self.target, self.base):
            return self._change()
        return "both"

    def _conflict_unless_new(self) -> State:
        return "new" if self.target is ABSENT else "both"

    def _change(self) -> State:
        if self.source is ABSENT:
            return "removed"
        return "new" if self.target is ABSENT else "changed"


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a service, or all definitions of one kind, in two environments by key.

    `base_of` returns the value that was promoted last. `overlay` wins over the source.
    """

    kind: RowKind
    service: str
    source: Mapping[str, Any] = field(repr=False)
    target: Mapping[str, Any] = field(repr=False)
    base_of: Callable[[str], Any]
    is_pinned: Callable[[str], bool]
    overlay: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all keys, sorted; secrets are masked."""
        crossing = self._crossing_keys()
        for key in sorted(self.source.keys() | self.target.keys() | self.overlay.keys()):
            sides = self._sides(key)
            if (state := sides.state) is not None:
                yield Row(
                    RowKey(self.kind, self.service, key),
                    self._final_state(state, sides, is_crossing=key in crossing),
                    _mask(sides.base),
                    _mask(sides.source),
                    _mask(sides.target),
                    asks_value=state == "secret",
                    is_overlaid=sides.is_overlaid,
                )

    def _final_state(self, state: State, sides: Sides, *, is_crossing: bool) -> State:
        if state == "new" and is_crossing:
            return "both"
        # A promotion removes no segment: other flags of the target may need it.
        is_kept = self.kind == "segment" and sides.source is ABSENT and state != "pinned"
        return "kept" if is_kept else state

    def _crossing_keys(self) -> frozenset[str]:
        """Return the keys of the source above or below a leaf that only the target has."""
        if self.kind != "config":
            return frozenset()
        own = self.target.keys() - self.source.keys() - self.overlay.keys()
        sections = {section for key in own for section in sections_of(key)}
        return frozenset(
            key
            for key in self.source.keys() | self.overlay.keys()
            if key in sections or not own.isdisjoint(sections_of(key))
        )

    def _sides(self, key: str) -> Sides:
        is_overlaid = key in self.overlay
        return Sides(
            self.base_of(key),
            self.overlay[key] if is_overlaid else self.source.get(key, ABSENT),
            self.target.get(key, ABSENT),
            self.is_pinned(key),
            is_overlaid,
        )


def sections_of(key: str) -> Iterator[str]:
    """Yield the keys of the sections in which a key lies."""
    names = names_of(key)
    yield from (key_of(names[:length]) for length in range(1, len(names)))


def _is_equal(one: Any, other: Any) -> bool:
    if one is ABSENT or other is ABSENT:
        return one is other
    return not holds_secret(one) and not holds_secret(other) and is_same(one, other)


def _mask(value: Any) -> Any:
    if value is ABSENT or value is UNKNOWN:
        return value
    return mask_secrets(value, fingerprints=False)
