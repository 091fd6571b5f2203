"""Every environment's flags in memory, compiled; what has not changed is never compiled again."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.flags.errors import FlagsUnavailable
from app.flags.model import Item, Kind
from app.flags.port import FlagStore
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.evaluation import EMPTY, ERROR, Evaluation, FlagSet
from pilothouse_core.flags import Flag, Segment, read_flag, read_segment

_PAGE = 1000
KINDS = frozenset({"flag", "segment"})
PARSE_ERROR = "PARSE_ERROR"
_log = structlog.get_logger(__name__)

Key = tuple[Kind, str]
Evaluate = Callable[[str, Mapping[str, Any], float], Evaluation]


@dataclass(frozen=True, slots=True)
class Environment:
    """What stands in one environment, as of its newest change."""

    name: str
    flags: FlagSet = EMPTY
    items: Mapping[Key, Item] = field(default_factory=dict)  # deleted ones too
    broken: frozenset[str] = frozenset()  # flags whose definition this release cannot read
    revision: int = 0
    _names: list[str] = field(default_factory=list, compare=False, repr=False)

    def flag(self, name: str) -> Flag | None:
        found = self.flags.flags.get(name)
        return None if found is None else found.flag

    def live(self, kind: Kind, name: str) -> Item | None:
        found = self.items.get((kind, name))
        return None if found is None or found.deleted else found

    def evaluate(self, name: str, context: Mapping[str, Any], now: float) -> Evaluation:
        """Evaluate; a flag that cannot be read gives an error of its own and harms no other."""
        if name in self.broken:
            return Evaluation(name, 0, None, None, ERROR, error_code=PARSE_ERROR)
        return self.flags.evaluate(name, context, now)

    def evaluation(self) -> Evaluate:
        """Return `evaluate`, or for many evaluations what does the same and sooner."""
        return self.evaluate if self.broken else self.flags.evaluate

    def names(self) -> Sequence[str]:
        """Return the names of all flags, in order."""
        if not self._names:
            self._names.extend(sorted({*self.flags.flags, *self.broken}))
        return self._names


class FlagSets:
    def __init__(self, store: FlagStore) -> None:
        self._store = store
        self._environments: dict[str, Environment] = {}
        self._after = 0  # everything up to here was read from the store
        self._is_read = False
        self._missing: frozenset[str] | None = None  # of what was adopted; None: nothing was

    @property
    def environments(self) -> Mapping[str, Environment]:
        return self._environments

    def environment(self, name: str) -> Environment:
        """Return an environment, empty if nothing was ever written there.

        Raises FlagsUnavailable where that cannot be told because nothing was read yet.
        """
        found = self._environments.get(name)
        if found is None:
            if not self._is_read and (self._missing is None or name in self._missing):
                raise FlagsUnavailable("the flags have not been read since this replica started")
            return Environment(name)
        return found

    def adopt(self, items: Iterable[Item], missing: Iterable[str]) -> None:
        """Evaluate what was kept elsewhere until the store is read; `missing` is known to exist."""
        if not self._is_read:
            self.learn(items)
            self._missing = frozenset(missing)

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Read what has changed, if anything of these kinds concerns flags."""
        if kinds & KINDS or not self._is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read what has changed; raises FlagsUnavailable."""
        after = self._after if self._is_read else 0
        found: list[Item] = []
        while True:
            page = await self._store.newer(found[-1].revision if found else after, _PAGE)
            found += page
            if len(page) < _PAGE:
                break
        if not self._is_read:
            self._environments.clear()  # what was adopted may be of another store
            self._is_read = True
        # Only now: an item of a later page may be what one of an earlier page refers to.
        self.learn(found)
        self._after = max([self._after, *(item.revision for item in found)])

    def learn(self, items: Iterable[Item]) -> None:
        """Take over items, each of which is the newest of its name or older than what is known."""
        by_environment: defaultdict[str, list[Item]] = defaultdict(list)
        for item in items:
            by_environment[item.environment].append(item)
        for name, changed in by_environment.items():
            known = self._environments.get(name, Environment(name))
            self._environments[name] = _moved(known, changed)


def _moved(known: Environment, changed: Iterable[Item]) -> Environment:
    items = dict(known.items)
    flags: list[tuple[str, Flag | None, int]] = []
    segments: list[tuple[str, Segment | None]] = []
    broken = set(known.broken)
    revision = known.revision
    for item in changed:
        present = items.get((item.kind, item.name))
        if present is not None and present.version >= item.version:
            continue
        items[item.kind, item.name] = item
        revision = max(revision, item.revision)
        definition = _definition(item)
        if item.kind == "segment":
            assert definition is None or isinstance(definition, Segment)
            segments.append((item.name, definition))
        else:
            assert definition is None or isinstance(definition, Flag)
            flags.append((item.name, definition, item.version))
            broken.discard(item.name)
            if definition is None and not item.deleted:
                broken.add(item.name)
    moved = known.flags.changed(flags, segments)
    return Environment(known.name, moved, items, frozenset(broken), revision)


def _definition(item: Item) -> Flag | Segment | None:
    if item.deleted:
        return None
    try:
        read = json.loads(item.definition)
        return read_segment(read) if item.kind == "segment" else read_flag(read)
    except (DefinitionError, ValueError) as error:
        # Written by a newer release, perhaps: this replica must go on with all the others.
        _log.error(
            "flag_unreadable",
            environment=item.environment,
            kind=item.kind,
            name=item.name,
            version=item.version,
            reason=getattr(error, "pointer", "not JSON"),
        )
        return None
