"""In-memory cache of each environment's compiled flags; unchanged flags are not compiled again."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.flags.errors import FlagsUnavailable
from app.flags.model import Item, Kind
from app.flags.store.port import FlagStore
from pilothouse_core.costs import Cost, total
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.evaluation import EMPTY, ERROR, Evaluation, Evaluator, FlagSet
from pilothouse_core.flags.model import Flag, Segment
from pilothouse_core.flags.reading import read_flag, read_segment

_PAGE = 1000
_APART_FROM = 32_768  # characters: what takes longer than a few milliseconds
# What is evaluated while all others wait takes so many seconds at most, by the costs of the flags.
SHORT_SECONDS = 0.01
KINDS = frozenset({"flag", "segment"})
PARSE_ERROR = "PARSE_ERROR"
_log = structlog.get_logger(__name__)

ItemKey = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class EnvironmentFlags:
    """The flags and segments of one environment, as of its newest change."""

    name: str
    flags: FlagSet = EMPTY
    items: Mapping[ItemKey, Item] = field(default_factory=dict)  # deleted ones too
    broken: frozenset[str] = frozenset()  # flags whose definition this release cannot read
    revision: int = 0
    _names: list[str] = field(default_factory=list, compare=False, repr=False)
    _deciding: list[Evaluator] = field(default_factory=list, compare=False, repr=False)
    _cost: list[Cost] = field(default_factory=list, compare=False, repr=False)
    _letters_in_time: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def flag(self, name: str) -> Flag | None:
        compiled = self.flags.flags.get(name)
        return None if compiled is None else compiled.flag

    def segment(self, name: str) -> Segment | None:
        return self.flags.segment_definitions.get(name)

    def live_item(self, kind: Kind, name: str) -> Item | None:
        item = self.items.get((kind, name))
        return None if item is None or item.is_deleted else item

    def archived_item(self, kind: Kind, name: str) -> Item | None:
        item = self.items.get((kind, name))
        return item if item is not None and item.is_archived else None

    def live_names(self, kind: Kind) -> Iterator[str]:
        """Yield the names of all flags, or of all segments, that are not deleted."""
        for (its_kind, name), item in self.items.items():
            if its_kind == kind and not item.is_deleted:
                yield name

    def evaluate(
        self, name: str, context: Mapping[str, Any], now: float, flags: FlagSet | None = None
    ) -> Evaluation:
        """Evaluate; a flag that cannot be read gives an error of its own and harms no other.

        With `flags`, by a pass over this environment's set.
        """
        if name in self.broken:
            return Evaluation(name, 0, None, None, ERROR, error_code=PARSE_ERROR)
        return (self.flags if flags is None else flags).evaluate(name, context, now)

    def cost(self, names: Iterable[str] | None = None) -> Cost:
        """Return the highest cost of evaluating these flags, or all flags."""
        if names is not None:
            return total(map(self.flags.costs.of_flag, names))
        if not self._cost:
            self._cost.append(total(map(self.flags.costs.of_flag, self.names())))
        return self._cost[0]

    def is_short(self, name: str, letters: int) -> bool:
        """Whether a flag is evaluated in a short time if no attribute is longer than this."""
        limit = self._letters_in_time.get(name)
        if limit is None:
            limit = self.flags.costs.of_flag(name).letters(SHORT_SECONDS)
            if name in self.flags.flags:  # others are not kept: a caller may request any name
                self._letters_in_time[name] = limit
        return letters <= limit

    def names(self) -> Sequence[str]:
        """Return the names of all flags, in order."""
        if not self._names:
            self._names.extend(sorted({*self.flags.flags, *self.broken}))
        return self._names

    def evaluators_of(self, names: Iterable[str] | None = None) -> Sequence[Evaluator]:
        """Return the evaluators of these flags, or of all flags in the order of their names."""
        if names is not None:
            return [self._evaluator_of(name) for name in names]
        if not self._deciding:
            self._deciding.extend(self._evaluator_of(name) for name in self.names())
        return self._deciding

    def _evaluator_of(self, name: str) -> Evaluator:
        flag = self.flags.flags.get(name)
        if flag is None or name in self.broken:
            return lambda context, now, _: self.evaluate(name, context, now)
        return flag.evaluate


class FlagCache:
    def __init__(self, store: FlagStore) -> None:
        self._store = store
        self._environments: dict[str, EnvironmentFlags] = {}
        self._after = 0  # everything up to here was read from the store
        self._is_read = False
        self._missing: frozenset[str] | None = None  # of what was adopted; None: nothing was
        self._learning = asyncio.Lock()

    @property
    def environments(self) -> Mapping[str, EnvironmentFlags]:
        return self._environments

    def environment(self, name: str) -> EnvironmentFlags:
        """Return an environment, empty if nothing was ever written there.

        Raises FlagsUnavailable if the flags have not been read yet.
        """
        flag_set = self._environments.get(name)
        if flag_set is None:
            if not self._is_read and (self._missing is None or name in self._missing):
                raise FlagsUnavailable("the flags have not been read since this replica started")
            return EnvironmentFlags(name)
        return flag_set

    def known_environments(self) -> Sequence[str]:
        """Return the environments in which anything was ever written, in order.

        Raises FlagsUnavailable if not all environments have been read yet.
        """
        if not self._is_read and (self._missing is None or self._missing):
            raise FlagsUnavailable("the flags have not been read since this replica started")
        return sorted(self._environments)

    def adopt(self, items: Iterable[Item], missing: Iterable[str]) -> None:
        """Use items of a snapshot until the store is read; `missing` environments exist as well."""
        if not self._is_read:
            self.apply_items_at_once(items)
            self._missing = frozenset(missing)

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Read changes from the store if one of these kinds concerns flags."""
        if kinds & KINDS or not self._is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read changes from the store; raises FlagsUnavailable."""
        after = self._after if self._is_read else 0
        items: list[Item] = []
        while True:
            page = await self._store.items_after(items[-1].revision if items else after, _PAGE)
            items += page
            if len(page) < _PAGE:
                break
        # Only now: an item of a later page may be what one of an earlier page refers to.
        await self.apply_items(items, all_there_is=after == 0)
        self._after = max([self._after, *(item.revision for item in items)])

    async def apply_items(self, items: Sequence[Item], *, all_there_is: bool = False) -> None:
        """Apply items; many of them are compiled in a thread, so that other requests are served."""
        async with self._learning:
            first = all_there_is and not self._is_read
            # What was adopted may be of another store.
            known = {} if first else dict(self._environments)
            if sum(len(item.definition) for item in items) < _APART_FROM:
                moved = _changed_environments(known, items)
            else:
                moved = await asyncio.to_thread(_changed_environments, known, items)
            if first:
                self._environments.clear()
                self._is_read = True
            self._environments.update(moved)

    def apply_items_at_once(self, items: Iterable[Item]) -> None:
        """Apply items; one that is older than the cached one is ignored."""
        self._environments.update(_changed_environments(self._environments, items))


def _changed_environments(
    known: Mapping[str, EnvironmentFlags], items: Iterable[Item]
) -> dict[str, EnvironmentFlags]:
    """Return the environments that are others then."""
    by_environment: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_environment[item.environment].append(item)
    return {
        name: _with_items(known.get(name, EnvironmentFlags(name)), changed)
        for name, changed in by_environment.items()
    }


def _with_items(known: EnvironmentFlags, changed: Iterable[Item]) -> EnvironmentFlags:
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
        definition = _read_definition(item)
        if item.kind == "segment":
            assert definition is None or isinstance(definition, Segment)
            segments.append((item.name, definition))
        else:
            assert definition is None or isinstance(definition, Flag)
            flags.append((item.name, definition, item.version))
            broken.discard(item.name)
            if definition is None and not item.is_deleted:
                broken.add(item.name)
    moved = known.flags.with_changes(flags, segments)
    return EnvironmentFlags(known.name, moved, items, frozenset(broken), revision)


def _read_definition(item: Item) -> Flag | Segment | None:
    if item.is_deleted:
        return None
    try:
        read = json.loads(item.definition)
        return read_segment(read) if item.kind == "segment" else read_flag(read)
    except (DefinitionError, ValueError) as error:
        # Perhaps a newer release has written it: this replica must still serve all other flags.
        _log.error(
            "flag_unreadable",
            environment=item.environment,
            kind=item.kind,
            name=item.name,
            version=item.version,
            reason=getattr(error, "pointer", "not JSON"),
        )
        return None
