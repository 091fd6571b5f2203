"""Verification of every configuration after each change: what could not be refused is reported.

Edits in Vault itself, writes in doubt that land late, and rollbacks may break a schema.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog

from app.changes.follower import Follower
from app.changes.model import Action, Change, Entity
from app.errors import PilothouseError
from app.rules.catalog import DefinitionCatalog
from app.rules.judging.configurations import Configurations
from app.rules.judging.judge import Judge
from app.rules.judging.model import Case, Pair, Problem
from app.telemetry import SCHEMA_VIOLATIONS
from app.workers import Slices

KIND = "violation"
_AT_ONCE = 100  # configurations, whose rules share the time of one question
_PAUSE_SECONDS = 1.0  # after a failure
_GATHER_SECONDS = 0.2  # changes of this time are verified together, at the cost of fewer writes
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Changed:
    """What has changed since the last verification; documents by environment and name."""

    documents: set[tuple[str, str]] = field(default_factory=set)
    schemas: set[str] = field(default_factory=set)
    deletions: bool = False
    everything: bool = False

    @property
    def may_end_pairs(self) -> bool:
        """Tell whether a configuration may exist no more, or be judged no more."""
        return self.deletions or bool(self.schemas)

    def add(self, other: "_Changed") -> None:
        self.documents |= other.documents
        self.schemas |= other.schemas
        self.deletions |= other.deletions
        self.everything |= other.everything


class Verifier:
    """Judges what a change reaches, once this replica has followed it."""

    def __init__(
        self,
        catalog: DefinitionCatalog,
        judge: Judge,
        configurations: Configurations,
        follower: Follower,
    ) -> None:
        self._revision = 0  # everything up to here was judged
        self._noted, self._judged = 1, 0  # changes, and up to which of them all are judged
        self._progress = asyncio.Event()
        self._catalog = catalog
        self._judge = judge
        self._configurations = configurations
        self._follower = follower
        self._found: dict[Pair, tuple[Problem, ...]] = {}
        self._changed = _Changed(everything=True)
        self._woken = asyncio.Event()
        self._woken.set()
        self._listeners: list[Callable[[Change], None]] = []
        follower.listeners.on_change(self._note)
        follower.listeners.on_log_replaced(self._note_all)

    @property
    def violations(self) -> Mapping[Pair, Sequence[Problem]]:
        """What is found in each configuration that does not meet all its schemas."""
        return self._found

    @property
    def revision(self) -> int:
        """The revision up to which everything was judged."""
        is_current = self._judged == self._noted
        return self._configurations.revision if is_current else self._revision

    async def wait_until_judged(self, within: float) -> None:
        """Wait until what has been followed by now is judged, at most `within` seconds."""
        noted = self._noted
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._judged < noted:
                    await self._progress.wait()

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` whenever a configuration begins or ceases to meet its schemas."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Verify as long as the service runs; what fails is tried again."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._woken.clear()
            try:
                await self.verify()
            except PilothouseError as error:
                _log.warning("verification_failed", reason=error.code)
                await asyncio.sleep(_PAUSE_SECONDS)
                self._woken.set()

    async def verify(self) -> None:
        """Judge what has changed since the last time; raises what judging raises."""
        revision, noted = self._configurations.revision, self._noted
        changed, self._changed = self._changed, _Changed()
        try:
            pairs = self._pairs(changed)
            gone: Iterable[Pair] = ()
            if changed.everything or not self._catalog.has_schemas:
                gone = self._found.keys() - pairs
            elif changed.may_end_pairs:
                gone = self._vanished_pairs()
            self._record(dict.fromkeys(gone, ()), revision)
            for begin in range(0, len(pairs), _AT_ONCE):
                await self._verify_pairs(pairs[begin : begin + _AT_ONCE], revision)
        except BaseException:
            self._changed.add(changed)
            raise
        self._revision, self._judged = max(self._revision, revision), noted
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()

    def _note(self, change: Change) -> None:
        match change.entity.kind:
            case "schema":
                self._changed.schemas.add(change.entity.name)
            case "config":
                self._changed.documents.add((change.entity.environment, change.entity.name))
                self._changed.deletions |= change.deleted
            case _:
                return
        self._wake()

    def _note_all(self) -> None:
        self._changed.everything = True
        self._wake()

    def _wake(self) -> None:
        self._noted += 1
        self._woken.set()

    def _pairs(self, changed: "_Changed") -> list[Pair]:
        if not self._catalog.has_schemas:
            return []
        if changed.everything:
            return list(self._configurations.pairs(self._is_judged))
        pairs = set(self._configurations.affected_pairs(changed.documents, self._is_judged))
        if changed.schemas:
            pairs.update(self._configurations.pairs(partial(self._is_judged_by, changed.schemas)))
            pairs.update(
                pair
                for pair, problems in self._found.items()
                if any(each.schema in changed.schemas for each in problems)
            )
        return list(pairs)

    def _is_judged_by(self, names: Container[str], environment: str, service: str) -> bool:
        mounted = self._catalog.schemas_of(environment, service)
        return any(schema.name in names for schema, _ in mounted)

    def _is_judged(self, environment: str, service: str) -> bool:
        return bool(self._catalog.schemas_of(environment, service))

    def _vanished_pairs(self) -> set[Pair]:
        if not self._found:
            return set()
        present = set(self._configurations.pairs(self._is_judged))
        return {pair for pair in self._found if pair.user is None and pair not in present}

    async def _verify_pairs(self, pairs: Sequence[Pair], revision: int) -> None:
        slices = Slices()
        cases: list[Case] = []
        for pair in pairs:
            await slices.rest()
            cases.append(await self._configurations.case(pair))
        by_case = await self._judge.problems(
            [(case, self._catalog.schemas_of(*case.pair[:2])) for case in cases]
        )
        by_pair = {pair: tuple(problems) for pair, problems in zip(pairs, by_case, strict=True)}
        self._record(by_pair, revision)

    def _record(self, problems_of_pairs: Mapping[Pair, tuple[Problem, ...]], revision: int) -> None:
        for pair, problems in problems_of_pairs.items():
            before = self._found.get(pair, ())
            if problems:
                self._found[pair] = problems
            else:
                self._found.pop(pair, None)
            if {each.identity for each in before} != {each.identity for each in problems}:
                self._report(pair, before, problems, revision)
        if problems_of_pairs:
            modes = Counter(
                mode for each in self._found.values() for mode in {one.mode for one in each}
            )
            for mode in ("warn", "enforce"):
                SCHEMA_VIOLATIONS.labels(mode).set(modes[mode])

    def _report(
        self,
        pair: Pair,
        before: Sequence[Problem],
        problems: Sequence[Problem],
        revision: int,
    ) -> None:
        action: Action = "deleted" if not problems else "updated" if before else "created"
        name = pair.service if pair.user is None else f"{pair.service}/{pair.user}"
        change = Change(
            revision,
            "",
            Entity(KIND, pair.environment, name, f"{KIND}s/{pair.environment}/{name}"),
            len(problems),
            action,
            "service",
            "",
            datetime.now(UTC),
        )
        for listener in self._listeners:
            listener(change)
