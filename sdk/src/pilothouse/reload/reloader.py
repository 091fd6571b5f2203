"""Loads of sources and rollbacks, each of which puts one new configuration in force."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import count
from time import perf_counter

from pilothouse.reload.errors import InvalidConfig, StartFailed
from pilothouse.reload.loader import Loaded, errors_at_start, load
from pilothouse.reload.members import MERGED, Member, Members
from pilothouse.reload.metrics import Tally
from pilothouse.reload.model import ReloadResult, ReloadStatus
from pilothouse.reload.state import Commit, ManagedState, NoSuchVersion, Parts, with_part

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Load:
    """A load of some sources; `cause` is for the history of versions."""

    number: int
    cause: str
    source: str | None = None  # None for all of them
    is_start: bool = False
    began: float = field(default_factory=perf_counter)

    @property
    def seconds(self) -> float:
        return perf_counter() - self.began


class Reloader:
    """Belongs to the loop on which the manager runs; `notify` calls its subscribers."""

    def __init__(
        self,
        members: Members,
        state: ManagedState,
        keys: Sequence[bytes],
        tally: Tally,
        notify: Callable[[], None],
    ) -> None:
        self.members = members
        self.state = state
        self.tally = tally
        self.refusal: str | None = None
        """Why the last merged configuration was refused, None if it was not."""
        self._keys = keys
        self._notify = notify
        self._numbers = count(1)

    def unchanged_result(self) -> ReloadResult:
        """Return the result of a reload that did nothing."""
        return ReloadResult(ReloadStatus.SUCCESS, None, self.state.version)

    async def load_first(self) -> ReloadResult:
        """Load all sources for the start. Raises StartFailed, and then nothing is in force."""
        this = _Load(next(self._numbers), "start", is_start=True)
        outcomes = await self._load(self.members)
        errors = errors_at_start(outcomes)
        if errors:
            raise StartFailed(errors)
        result = await self._apply(outcomes, this)
        if self.refusal is not None:
            raise StartFailed({MERGED: self.refusal})
        return result

    async def reload(self, name: str | None) -> ReloadResult:
        """Load one source or all of them; the result has whatever fails."""
        cause = f"reload of {name or 'all sources'}"
        this = _Load(next(self._numbers), cause, name)
        members = self.members if name is None else [self.members.get(name)]
        result = await self._apply(await self._load(members), this)
        self.tally.record_reload(result.status, result.duration)
        return result

    async def roll_back(self, steps: int) -> ReloadResult:
        began = perf_counter()
        try:
            commit = await asyncio.to_thread(self.state.roll_back, steps)
        except NoSuchVersion as error:
            return ReloadResult(
                ReloadStatus.FAILED,
                None,
                self.state.version,
                errors=(f"{MERGED}: {error}",),
                duration=perf_counter() - began,
            )
        self._notify()
        seconds = perf_counter() - began
        self.tally.measures.record_reload(ReloadStatus.ROLLED_BACK, seconds)
        return ReloadResult(
            ReloadStatus.ROLLED_BACK, None, commit.version, commit.changes, duration=seconds
        )

    async def _load(self, members: Iterable[Member]) -> list[Loaded]:
        return await asyncio.gather(*(load(member, self._keys) for member in members))

    async def _apply(self, outcomes: Sequence[Loaded], this: _Load) -> ReloadResult:
        errors = [_record_error(one) for one in outcomes if one.error is not None]
        commit = Commit(self.state.version, ())
        try:
            commit = await asyncio.to_thread(
                self.state.commit,
                this.cause,
                lambda parts: self._with_outcomes(parts, outcomes, this.number),
                is_start=this.is_start,
            )
        except InvalidConfig as error:
            self.refusal = str(error)
            errors.append(f"{MERGED}: {error}")
            _log.warning("the merged configuration is refused, the last one is kept: %s", error)
        else:
            self.refusal = None
        for one in outcomes:
            if one.error is None:
                one.member.error, one.member.last_loaded = None, datetime.now(timezone.utc)
        self._notify()
        self.tally.measures.sources_healthy(sum(member.is_healthy for member in self.members))
        return ReloadResult(
            status=ReloadStatus.FAILED if errors else ReloadStatus.SUCCESS,
            source=this.source,
            version=commit.version,
            changes=commit.changes,
            errors=tuple(errors),
            warnings=tuple(warning for one in outcomes for warning in one.warnings),
            duration=this.seconds,
        )

    def _with_outcomes(self, parts: Parts, outcomes: Sequence[Loaded], number: int) -> Parts:
        """Return `parts` with what was loaded, unless a later load of the source was faster."""
        for one in outcomes:
            member = one.member  # that may have been removed in the meantime
            if member in self.members and one.data is not None and number > member.began:
                member.began = number
                parts = with_part(parts, member.name, member.part(one.data))
        return parts


def _record_error(outcome: Loaded) -> str:
    member = outcome.member
    if member.error != outcome.error:  # the same error is logged once
        _log.warning("could not reload %s, its content is kept: %s", member.name, outcome.error)
    member.error = outcome.error
    return f"{member.name}: {outcome.error}"
