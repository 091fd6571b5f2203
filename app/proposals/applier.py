"""Applying proposals: item by item, each once, by any replica (docs/protocols.md G).

What an item writes is found again by its idempotency key. So a holder that dies leaves nothing to
be remembered but the row, and the next one repeats the items and joins what was written.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from app.changes.log.port import Maintenance
from app.errors import OutcomeUnknown, PilothouseError, Unavailable
from app.proposals.decisions import DecisionService
from app.proposals.errors import ProposalMoved, ProposalsUnavailable
from app.proposals.items.port import Numbered, PinMoved, written_together
from app.proposals.model import ItemOutcome, Proposal, ProposalCommit, State
from app.proposals.reading import ProposalReader
from app.proposals.store.port import ProposalStore
from app.telemetry import PROPOSALS_ENDED

TURN_SECONDS = 1.0
# After which another replica continues a proposal that is being applied.
IDLE_SECONDS = 5.0
_PAUSES = (0.05, 0.2, 0.5, 1.0)
_AT_ONCE = 20
_DONE = frozenset({"applied", "unchanged"})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Applier:
    """`grace_seconds`: how late a scheduled proposal may begin before it is missed.

    `started` has the proposals that this replica continues at once.
    """

    reader: ProposalReader
    decisions: DecisionService
    maintenance: Maintenance
    grace_seconds: float
    started: asyncio.Queue[Proposal]

    async def run(self) -> None:
        """Apply what this replica has started, and what is due, as long as the service runs."""
        loop = asyncio.get_running_loop()
        next_turn = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(next_turn):
                    proposal = await self.started.get()
            except TimeoutError:
                next_turn = loop.time() + TURN_SECONDS
            else:
                await self._try(proposal)
                continue
            if await self.maintenance.acquire_turn("proposals", TURN_SECONDS * 0.9):
                await self.apply_due()

    async def apply_due(self) -> None:
        """Continue every proposal whose time has come, and those left by other replicas."""
        due = await self.reader.store.due_proposals(_AT_ONCE, IDLE_SECONDS)
        await asyncio.gather(*map(self._try, due))

    async def _try(self, proposal: Proposal) -> None:
        try:
            await self.continue_proposal(proposal)
        except ProposalMoved:
            pass  # another replica continues it, or it was withdrawn
        except PilothouseError as error:  # one that always fails does not keep others waiting
            _log.warning("proposal_waits", proposal=proposal.id, reason=str(error))

    async def continue_proposal(self, proposal: Proposal) -> None:
        """Start a scheduled proposal, and apply one that has been started to its end."""
        if proposal.state == "scheduled":
            proposal = await self._start(proposal)
        if proposal.state == "applying":
            await self._apply(proposal)

    async def _start(self, proposal: Proposal) -> Proposal:
        """Begin what was scheduled if everything still allows it, at the stated time."""
        now = await self.reader.store.now()
        assert proposal.apply_at is not None
        if now > proposal.apply_at + timedelta(seconds=self.grace_seconds):
            return await self._end(proposal, "missed", "too_late")
        pinned = await self.decisions.with_pins(proposal)
        try:
            await self.decisions.refuse_unready(proposal, now, now)
        except Unavailable:
            raise
        except PilothouseError as error:
            state: State = "missed" if error.code == "window_closed" else "outdated"
            return await self._end(proposal, state, error.code)
        return await self._write(pinned, "started")

    async def _apply(self, proposal: Proposal) -> None:
        numbered = await self.reader.numbered_items(proposal)
        # Another holder has recorded a failure, and died while it was undoing the rest.
        outcomes = {
            each.number: each.item.outcome for each in numbered if each.item.outcome is not None
        }
        for group in [] if outcomes else await self._groups(numbered):
            if outcomes and not _DONE.issuperset(each.state for each in outcomes.values()):
                outcomes |= {each.number: ItemOutcome("skipped") for each in group}
                continue
            proposal, done = await self._apply_group(proposal, group)
            outcomes |= done
        applied = [each for number, each in sorted(outcomes.items()) if each.state in _DONE]
        if len(applied) < len(outcomes) and proposal.on_failure == "undo" and applied:
            if not proposal.outcomes:
                proposal = await self._record(proposal, outcomes)
            outcomes |= await self._undo(proposal)
        state, reason = _end_of(outcomes)
        items = tuple(
            replace(item, outcome=outcomes[number]) for number, item in enumerate(proposal.items)
        )
        await self._end(replace(proposal, items=items), state, reason)

    async def _groups(self, numbered: Sequence[Numbered]) -> Sequence[Sequence[Numbered]]:
        """Return the items in an order in which they can be written, those together as groups."""
        by_handler: dict[str, list[Numbered]] = {}
        for each in numbered:
            by_handler.setdefault(self.reader.handler(each.item).name, []).append(each)
        ordered = {
            name: iter(await self.reader.handler(portion[0].item).writable_order(portion))
            for name, portion in by_handler.items()
        }
        return written_together(
            [next(ordered[self.reader.handler(each.item).name]) for each in numbered]
        )

    async def _apply_group(
        self, proposal: Proposal, group: Sequence[Numbered]
    ) -> tuple[Proposal, Mapping[int, ItemOutcome]]:
        """Write items that are written together; the pins in the row may be moved by that."""
        for pause in (*_PAUSES, None):
            # What it sets stays, as the body of a round does; the pin is that of the row.
            group = [replace(each, item=proposal.items[each.number]) for each in group]
            handler = self.reader.handler(group[0].item)
            try:
                return proposal, await handler.apply(proposal, group)
            except PinMoved as moved:
                proposal = await self._pin_again(proposal, moved.pins)
            except (Unavailable, OutcomeUnknown) as error:
                # It may have been written: nothing is said of it before that is known.
                _log.info("proposal_item_waits", proposal=proposal.id, reason=str(error))
                await self._pause(proposal, pause, error)
            except PilothouseError as error:
                return proposal, _outcomes_of_failure(group, error)
        raise ProposalsUnavailable("others write what the proposal changes all the time")

    async def _pause(
        self, proposal: Proposal, seconds: float | None, error: PilothouseError
    ) -> None:
        """Wait before something is tried again; raises `error` after the last time.

        Raises ProposalMoved if the row has been changed since.
        """
        if seconds is None:
            raise error
        await asyncio.sleep(seconds)
        current = await self.reader.store.proposal(proposal.id)
        if current.version != proposal.version:
            raise ProposalMoved(proposal.id)

    async def _pin_again(self, proposal: Proposal, pins: Mapping[int, int]) -> Proposal:
        items = tuple(
            replace(item, pin=pins.get(number, item.pin))
            for number, item in enumerate(proposal.items)
        )
        return await self._write(replace(proposal, items=items), "pinned")

    async def _record(self, proposal: Proposal, outcomes: Mapping[int, ItemOutcome]) -> Proposal:
        """Record what became of the items before any of them is undone.

        A holder that has not seen it applies nothing more: its row has moved.
        """
        items = tuple(
            replace(item, outcome=outcomes[number]) for number, item in enumerate(proposal.items)
        )
        return await self._write(replace(proposal, items=items), "failed")

    async def _undo(self, proposal: Proposal) -> Mapping[int, ItemOutcome]:
        """Undo the applied items, the last one first."""
        numbered = await self.reader.numbered_items(proposal)
        applied = [
            each
            for each in numbered
            if each.item.outcome is not None and each.item.outcome.state == "applied"
        ]
        outcomes: dict[int, ItemOutcome] = {}
        for group in reversed(written_together(applied)):
            outcomes |= await self._undo_group(proposal, group)
        return outcomes

    async def _undo_group(
        self, proposal: Proposal, group: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        handler = self.reader.handler(group[0].item)
        for pause in (*_PAUSES, None):
            try:
                return await handler.undo(proposal, group)
            except (Unavailable, OutcomeUnknown) as error:
                await self._pause(proposal, pause, error)
            except PilothouseError as error:
                return {
                    each.number: replace(each.item.outcome, code=error.code, detail=str(error))
                    for each in group
                    if each.item.outcome is not None
                }
        raise ProposalsUnavailable("the items of the proposal could not be undone")

    async def _end(self, proposal: Proposal, state: State, reason: str) -> Proposal:
        ended = await self._write(replace(proposal, state=state, reason=reason), "ended")
        PROPOSALS_ENDED.labels(state).inc()
        _log.info("proposal_ended", proposal=proposal.id, state=state, reason=reason)
        return ended

    async def _write(self, proposal: Proposal, step: str) -> Proposal:
        return await write_step(self.reader.store, proposal, step)


async def write_step(store: ProposalStore, proposal: Proposal, step: str) -> Proposal:
    """Write the next version of a row, which no caller has asked for; raises ProposalMoved."""
    actor = f"proposal:{proposal.id}"
    facts = {"step": step, "state": proposal.state, "round": proposal.round}
    if proposal.reason:
        facts["reason"] = proposal.reason
    return await store.replace(ProposalCommit(proposal, actor, proposal.title, actor, facts=facts))


def _outcomes_of_failure(
    group: Sequence[Numbered], error: PilothouseError
) -> Mapping[int, ItemOutcome]:
    failure = ItemOutcome("failed", code=error.code, detail=str(error)[:1000])
    return {each.number: failure for each in group}


def _end_of(outcomes: Mapping[int, ItemOutcome]) -> tuple[State, str]:
    """Return the state that a proposal ends in, and the code of the first failure."""
    states = [outcome.state for outcome in outcomes.values()]
    codes = (each.code for each in outcomes.values() if each.state not in _DONE)
    reason = next(filter(None, codes), "")
    if _DONE.issuperset(states):
        return "applied", ""
    if "applied" in states:
        return "partly_applied", reason
    return ("undone" if "undone" in states else "not_applied"), reason
