"""Reading proposals: who sees which, what they change, and what they need."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.access.identity import Lineage
from app.access.model import Caller, Right
from app.errors import PilothouseError, Unavailable
from app.proposals.approvals import Tally, refusal_of, tally_of
from app.proposals.bodies.port import ProposalBodies
from app.proposals.errors import ProposalNotFound
from app.proposals.items.port import ItemHandler, Numbered
from app.proposals.model import (
    REVISABLE_STATES,
    Author,
    ItemKind,
    Proposal,
    ProposalFilter,
    ProposalItem,
    Review,
    Verdict,
)
from app.proposals.store.port import ProposalStore
from app.rules.policies.model import Requirements, joined_requirements
from pilothouse_core.diff import Diff

_DECIDING = (Right.APPROVE_CHANGES, Right.WRITE_POLICIES)


@dataclass(frozen=True, slots=True)
class ProposalDetails:
    """A proposal as it is now; `changes` and `stale` by the numbers of the items.

    `flaws` are what the checks of an open proposal find. Nothing is shown of items whose body was
    destroyed in the store.
    """

    proposal: Proposal
    tally: Tally
    changes: Mapping[int, Diff] = field(default_factory=dict, repr=False)
    stale: Mapping[int, Sequence[str]] = field(default_factory=dict)
    flaws: Sequence[Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class ProposalReader:
    """`handlers` know the items of each kind; several kinds may have one handler."""

    store: ProposalStore
    bodies: ProposalBodies
    handlers: Mapping[ItemKind, ItemHandler]
    lineage: Lineage

    async def proposal(self, proposal_id: str, caller: Caller) -> Proposal:
        """Return a proposal all of whose items the caller may read.

        Raises ProposalNotFound, also where they may not.
        """
        proposal = await self.store.proposal(proposal_id)
        if not self.may_read(proposal, caller):
            raise ProposalNotFound(proposal_id)
        return proposal

    def may_read(self, proposal: Proposal, caller: Caller) -> bool:
        return all(self.handler(item).may_read(caller, item) for item in proposal.items)

    async def proposals(
        self,
        caller: Caller,
        filters: ProposalFilter,
        limit: int,
        before: int | None = None,
        *,
        is_waiting_for_caller: bool = False,
    ) -> Sequence[Proposal]:
        """Return proposals that the caller may read, newest first, below a number."""
        page: list[Proposal] = []
        while len(page) < limit:
            batch = await self.store.proposals(filters, limit, before)
            page += [
                proposal
                for proposal in batch
                if self.may_read(proposal, caller)
                and (not is_waiting_for_caller or self.is_waiting_for(proposal, caller))
            ]
            if len(batch) < limit:
                break
            before = batch[-1].number
        return page[:limit]

    def is_waiting_for(self, proposal: Proposal, caller: Caller) -> bool:
        """Tell whether an approval of the caller would count, and has not been given."""
        if proposal.state != "open" or not caller.is_known:
            return False
        review = self.review_by(proposal, "approve", "", caller, proposal.updated_at)
        if any(each.identity == review.identity for each in proposal.newest_verdicts()):
            return False
        asked = self.requirements(proposal.items)
        return (
            Right.APPROVE_CHANGES.value in review.rights
            and refusal_of(proposal, asked, self.lineage, review, review.at) is None
        )

    async def details(self, proposal: Proposal) -> ProposalDetails:
        """Return what a proposal changes, and what of it is stale."""
        tally = self.tally(proposal, await self.store.now())
        stale = await self.stale_items(proposal)
        try:
            numbered = await self.numbered_items(proposal)
        except Unavailable:
            raise
        except PilothouseError:
            return ProposalDetails(proposal, tally, {}, stale)
        changes = {each.number: await self.handler(each.item).show(each) for each in numbered}
        flaws = await self.check(proposal) if proposal.state in REVISABLE_STATES else None
        return ProposalDetails(proposal, tally, changes, stale, flaws)

    async def numbered_items(self, proposal: Proposal) -> Sequence[Numbered]:
        """Return the items with what they set; raises BodyMissing."""
        stored = json.loads(await self.bodies.read(proposal.body_name))["items"]
        return [
            Numbered(number, item, sets)
            for number, (item, sets) in enumerate(zip(proposal.items, stored, strict=True))
        ]

    async def stale_items(self, proposal: Proposal) -> Mapping[int, Sequence[str]]:
        """Return the keys of items that were changed since, by the items' numbers."""
        if proposal.state not in REVISABLE_STATES:
            return {}
        by_number = {
            number: await self.handler(item).stale_keys(item)
            for number, item in enumerate(proposal.items)
        }
        return {number: keys for number, keys in by_number.items() if keys}

    async def check(self, proposal: Proposal) -> Sequence[Mapping[str, object]]:
        """Return what would keep the items from being written now, as flaws of a problem."""
        by_handler: dict[str, list[Numbered]] = {}
        for each in await self.numbered_items(proposal):
            by_handler.setdefault(self.handler(each.item).name, []).append(each)
        flaws: list[Mapping[str, object]] = []
        for portion in by_handler.values():
            flaws += await self.handler(portion[0].item).check(portion)
        return flaws

    def requirements(self, items: Sequence[ProposalItem]) -> Requirements | None:
        """Return what the policies ask of all items together now."""
        return joined_requirements(self.handler(item).requirements(item) for item in items)

    def tally(self, proposal: Proposal, now: datetime) -> Tally:
        return tally_of(proposal, self.requirements(proposal.items), self.lineage, now)

    def review_by(
        self, proposal: Proposal, verdict: Verdict, text: str, caller: Caller, now: datetime
    ) -> Review:
        """Return a review of the current round by a caller, with their rights to decide on it."""
        rights = tuple(
            right.value
            for right in _DECIDING
            if all(
                caller.may(right, environment, service)
                for item in proposal.items
                for environment, service in item.places
            )
        )
        identity = caller.principal.identity
        return Review(proposal.round, verdict, text, caller.actor(), identity, now, rights)

    def handler(self, item: ProposalItem) -> ItemHandler:
        return self.handlers[item.target.kind]


def author_of(caller: Caller) -> Author:
    return Author(caller.actor(), caller.principal.identity)


def demand_everywhere(caller: Caller, right: Right, items: Sequence[ProposalItem]) -> None:
    """Raise Denied unless the caller has a right wherever an item reaches."""
    for item in items:
        for environment, service in item.places:
            caller.demand(right, environment, service)
