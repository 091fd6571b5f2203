"""Rounds of proposals: drafted and checked, their secrets encrypted, stored and revised."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from app.access.model import Caller, Right
from app.changes.model import Idempotency
from app.proposals.errors import (
    BodyTaken,
    ItemsOverlap,
    NothingProposed,
    RebaseConflict,
    StaleRound,
    WrongState,
)
from app.proposals.items.port import Drafted, Numbered, Sent, Side, Stored
from app.proposals.model import (
    REVISABLE_STATES,
    OnFailure,
    Proposal,
    ProposalCommit,
    ProposalItem,
)
from app.proposals.reading import ProposalReader, author_of, demand_everywhere
from app.rules.policies.model import Requirements
from app.web.conditional import IfMatch

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # no letters that look like others
_ID_LENGTH: Final = 10
# Rounds after the current one whose bodies were written, but whose rows were not.
_MOST_UNUSED_ROUNDS: Final = 20


@dataclass(frozen=True, slots=True)
class RoundSent:
    """A round as a client sends it."""

    title: str
    description: str
    on_failure: OnFailure
    items: Sequence[Sent] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DraftedRound:
    """A round that was checked and is not stored, with what the policies ask of it."""

    drafted: Sequence[Drafted]
    requirements: Requirements | None


@dataclass(frozen=True, slots=True)
class RoundService:
    reader: ProposalReader

    async def draft(self, sent: RoundSent, caller: Caller) -> DraftedRound:
        """Check a round as if it were proposed; nothing is encrypted or stored.

        Raises Denied, ItemsOverlap, ItemRefused and NothingProposed.
        """
        by_handler: dict[str, list[tuple[int, Sent]]] = {}
        for number, each in enumerate(sent.items):
            name = self.reader.handlers[each["kind"]].name
            by_handler.setdefault(name, []).append((number, each))
        drafted: list[Drafted] = []
        for portion in by_handler.values():
            drafted += await self.reader.handlers[portion[0][1]["kind"]].draft(portion, caller)
        drafted.sort(key=lambda each: each.number)
        items = [each.item for each in drafted]
        _refuse_overlaps(items)
        return DraftedRound(drafted, self.reader.requirements(items))

    async def create(
        self, sent: RoundSent, caller: Caller, idempotency: Idempotency | None = None
    ) -> tuple[Proposal, bool]:
        """Store a new proposal: what it sets first, then its row; false if it was made before.

        Raises what `draft` raises, BodyTooLarge, TooManyProposals and IdempotencyKeyReused.
        """
        scoped = idempotency and idempotency.by(caller.principal.actor)
        digest = await _digest(scoped.request) if scoped else None
        if scoped and digest:
            # Asked first: what has been applied since could not be proposed again.
            earlier = await self.reader.store.proposal_under(scoped.key, digest)
            if earlier is not None:
                return earlier, False
        made = await self.draft(sent, caller)
        now = await self.reader.store.now()
        proposal = Proposal(
            id="p-" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH)),
            title=sent.title,
            description=sent.description,
            state="open" if made.requirements is not None else "approved",
            round=1,
            items=tuple(each.item for each in made.drafted),
            authors=(author_of(caller),),
            created_at=now,
            updated_at=now,
            on_failure=sent.on_failure,
        )
        proposal = await self._store_body(proposal, made.drafted)
        commit = commit_by(caller, proposal, sent.title, {"step": "proposed"})
        if scoped:
            commit = replace(commit, idempotency_key=scoped.key, digest=digest)
        return await self.reader.store.create(commit)

    async def revise(
        self, proposal: Proposal, sent: RoundSent, caller: Caller, expected: IfMatch
    ) -> Proposal:
        """Write another round, of the caller's; reviews of earlier rounds count no more.

        Raises StaleRound, WrongState, and what `create` raises.
        """
        _refuse_revision(proposal, caller, expected)
        made = await self.draft(sent, caller)
        revised = self._next_round(
            replace(
                proposal,
                title=sent.title,
                description=sent.description,
                on_failure=sent.on_failure,
            ),
            [each.item for each in made.drafted],
            caller,
        )
        revised = await self._store_body(revised, made.drafted)
        commit = commit_by(caller, revised, sent.title, {"step": "revised"})
        return await self.reader.store.replace(commit)

    async def rebase(
        self, proposal: Proposal, side: Side, caller: Caller, expected: IfMatch
    ) -> Proposal:
        """Write another round of the same items on what exists now.

        Raises RebaseConflict where both sides have changed a key and `side` is "refuse", and
        NothingProposed if nothing is left to be changed.
        """
        _refuse_revision(proposal, caller, expected)
        kept: list[Numbered] = []
        conflicts: list[tuple[int, Sequence[str]]] = []
        for each in await self.reader.numbered_items(proposal):
            match await self.reader.handler(each.item).rebase(each, side):
                case Numbered() as rebased:
                    kept.append(rebased)
                case None:
                    continue
                case keys:
                    conflicts.append((each.number, keys))
        if conflicts:
            raise RebaseConflict(conflicts)
        if not kept:
            raise NothingProposed(0)
        revised = self._next_round(proposal, [each.item for each in kept], caller)
        revised = await self._write_body(revised, [each.stored for each in kept])
        commit = commit_by(caller, revised, proposal.title, {"step": "rebased"})
        return await self.reader.store.replace(commit)

    def _next_round(
        self, proposal: Proposal, items: Sequence[ProposalItem], caller: Caller
    ) -> Proposal:
        author = author_of(caller)
        is_new = author not in proposal.authors
        return replace(
            proposal,
            items=tuple(replace(item, pin=None, outcome=None) for item in items),
            authors=(*proposal.authors, author) if is_new else proposal.authors,
            round=proposal.round + 1,
            state="approved" if self.reader.requirements(items) is None else "open",
            apply_at=None,
            reason="",
            release=None,
        )

    async def _store_body(self, proposal: Proposal, drafted: Sequence[Drafted]) -> Proposal:
        """Encrypt what is secret, and write what the items of a round set."""
        stored: list[Stored] = []
        for each in drafted:
            stored += await self.reader.handler(each.item).store([each])
        return await self._write_body(proposal, stored)

    async def _write_body(self, proposal: Proposal, stored: Sequence[Stored]) -> Proposal:
        """Write what the items of a round set, and return the round under the number it got.

        The number is higher than the next one where a writer had written that round, and died or
        was overtaken before its row was written.
        """
        text = await asyncio.to_thread(_body_text, stored)
        for _ in range(_MOST_UNUSED_ROUNDS):
            try:
                await self.reader.bodies.write(proposal.body_name, text)
            except BodyTaken:
                proposal = replace(proposal, round=proposal.round + 1)
            else:
                return proposal
        raise BodyTaken(proposal.body_name)


def commit_by(
    caller: Caller, proposal: Proposal, comment: str, facts: Mapping[str, Any]
) -> ProposalCommit:
    """Return the change of a row that a caller makes."""
    return ProposalCommit(
        proposal,
        caller.actor(),
        comment,
        caller.request_id,
        caller.source or None,
        {**facts, "state": proposal.state, "round": proposal.round},
    )


def _refuse_revision(proposal: Proposal, caller: Caller, expected: IfMatch) -> None:
    if not expected.allows(proposal.round):
        raise StaleRound(proposal.round)
    if proposal.state not in REVISABLE_STATES:
        raise WrongState("revised", proposal.state)
    demand_everywhere(caller, Right.PROPOSE_CHANGES, proposal.items)


def _refuse_overlaps(items: Sequence[ProposalItem]) -> None:
    """Raise ItemsOverlap if two items change the same thing: one item says all of it."""
    first: dict[object, int] = {}
    for number, item in enumerate(items):
        earlier = first.setdefault(item.target, number)
        if earlier != number:
            raise ItemsOverlap(earlier, number, str(item.target))


def _body_text(stored: Sequence[Stored]) -> str:
    return json.dumps(
        {"format": 1, "items": stored}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


async def _digest(request: str) -> str:
    text = request.encode("utf-8", "surrogatepass")
    return (await asyncio.to_thread(hashlib.sha256, text)).hexdigest()
