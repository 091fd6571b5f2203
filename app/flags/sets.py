"""Every environment's flags in memory, compiled; what has not changed is never compiled again."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.flags.errors import FlagsUnavailable
from app.flags.model import Item, Kind
from app.flags.port import FlagStore
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.evaluation import EMPTY, ERROR, Decide, Evaluation, FlagSet
from pilothouse_core.flags import Flag, Segment, read_flag, read_segment

_PAGE = 1000
_APART_FROM = 32_768  # characters: what takes longer than a few milliseconds
KINDS = frozenset({"flag", "segment"})
PARSE_ERROR = "PARSE_ERROR"
_log = structlog.get_logger(__name__)

Key = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Environment:
    """What stands in one environment, as of its newest change."""

    name: str
    flags: FlagSet = EMPTY
    items: Mapping[Key, Item] = field(default_factory=dict)  # deleted ones too
    broken: frozenset[str] = frozenset()  # flags whose definition this release cannot read
    revision: int = 0
    _names: list[str] = field(default_factory=list, compare=False, repr=False)
    _deciding: list[Decide] = field(default_factory=list, compare=False, repr=False)

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

    def names(self) -> Sequence[str]:
        """Return the names of all flags, in order."""
        if not self._names:
            self._names.extend(sorted({*self.flags.flags, *self.broken}))
        return self._names

    def deciding(self, names: Iterable[str] | None = None) -> Sequence[Decide]:
        """Return what evaluates each of these flags, or of all in the order of their names."""
        if names is not None:
            return [self._decide(name) for name in names]
        if not self._deciding:
            self._deciding.extend(self._decide(name) for name in self.names())
        return self._deciding

    def _decide(self, name: str) -> Decide:
        found = self.flags.flags.get(name)
        if found is None or name in self.broken:
            return lambda context, now, _: self.evaluate(name, context, now)
        return found.decide


class FlagSets:
    def __init__(self, store: FlagStore) -> None:
        self._store = store
        self._environments: dict[str, Environment] = {}
        self._after = 0  # everything up to here was read from the store
        self._is_read = False
        self._missing: frozenset[str] | None = None  # of what was adopted; None: nothing was
        self._learning = asyncio.Lock()

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
        # Only now: an item of a later page may be what one of an earlier page refers to.
        await self.take(found, all_there_is=after == 0)
        self._after = max([self._after, *(item.revision for item in found)])

    async def take(self, items: Sequence[Item], *, all_there_is: bool = False) -> None:
        """`learn`; what is much is compiled in a thread, and others are served meanwhile."""
        async with self._learning:
            first = all_there_is and not self._is_read
            # What was adopted may be of another store.
            known = {} if first else dict(self._environments)
            if sum(len(item.definition) for item in items) < _APART_FROM:
                moved = _all_moved(known, items)
            else:
                moved = await asyncio.to_thread(_all_moved, known, items)
            if first:
                self._environments.clear()
                self._is_read = True
            self._environments.update(moved)

    def learn(self, items: Iterable[Item]) -> None:
        """Take over items, each of which is the newest of its name or older than what is known."""
        self._environments.update(_all_moved(self._environments, items))


def _all_moved(known: Mapping[str, Environment], items: Iterable[Item]) -> dict[str, Environment]:
    """Return the environments that are others then."""
    by_environment: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_environment[item.environment].append(item)
    return {
        name: _moved(known.get(name, Environment(name)), changed)
        for name, changed in by_environment.items()
    }


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
