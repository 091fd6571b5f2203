"""Proposals that are released to a few instances first, until the release has ended."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import Caller
from app.configs.documents.edit_json import edit_from_json
from app.configs.model import DocumentId
from app.errors import OutcomeUnknown, PilothouseError, Unavailable
from app.proposals.applier import write_step
from app.proposals.decisions import DecisionService, demand_apply, refuse_undecidable
from app.proposals.errors import ProposalMoved
from app.proposals.items.configs import ConfigItems
from app.proposals.model import ItemOutcome, Proposal, ProposalFilter, State
from app.proposals.reading import ProposalReader
from app.proposals.releases.errors import BadRelease, NotReleasable, ReleaseNotFound
from app.proposals.releases.finish import actor_of
from app.proposals.releases.model import Item, Origin, Release
from app.proposals.releases.service import ReleaseService, new_release_id
from app.proposals.rounds import commit_by
from pilothouse_core.releases.plan import BadPlan, Plan, plan_json, read_plan

LOOK_SECONDS = 1.0
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class ReleasingService:
    reader: ProposalReader
    decisions: DecisionService
    releases: ReleaseService
    items: ConfigItems

    async def release(
        self, proposal: Proposal, stated: Mapping[str, Any], caller: Caller, comment: str
    ) -> Proposal:
        """Begin to release the one configuration that a proposal changes, by a stated plan.

        Raises BadRelease, NotReleasable, ReleaseRunning, TooManyReleases, and what applying raises.
        """
        plan = _plan(stated)
        refuse_undecidable(proposal, "released")
        demand_apply(caller, proposal)
        if len(proposal.items) != 1 or proposal.items[0].target.kind != "config":
            raise NotReleasable("a release has one item, of a configuration")
        now = await self.reader.store.now()
        await self.decisions.refuse_unready(proposal, now, now)
        begun = replace(
            proposal,
            state="releasing",
            release=plan_json(plan),
            release_id=new_release_id(),
            applied_by=caller.actor(),
            apply_at=None,
        )
        facts = {"step": "released", "release": begun.release_id}
        begun = await self.reader.store.replace(commit_by(caller, begun, comment, facts))
        try:
            await self._start(begun, plan, Origin(caller.actor(), caller.request_id, caller.source))
        except (Unavailable, OutcomeUnknown):
            pass  # it is started by `follow`, here or elsewhere
        except PilothouseError:
            await write_step(
                self.reader.store,
                replace(begun, state=proposal.state, release_id=""),
                "not_released",
            )
            raise
        return begun

    async def _start(self, proposal: Proposal, plan: Plan, origin: Origin) -> Release:
        """Start the release of a proposal, or return it if it was started before."""
        (each,) = await self.reader.numbered_items(proposal)
        target = each.item.target
        return await self.releases.start(
            DocumentId(target.environment, target.service, target.name or None),
            edit_from_json(each.stored),
            plan,
            origin,
            item=Item(proposal.id, proposal.round, 0),
            release_id=proposal.release_id,
        )

    async def follow(self) -> None:
        """Record the ends of releases, and start what was to be released and is not."""
        filters = ProposalFilter(frozenset({"releasing"}))
        for proposal in await self.reader.store.proposals(filters, _AT_ONCE):
            try:
                await self._follow_one(proposal)
            except ProposalMoved:
                continue  # another replica was first

    async def _follow_one(self, proposal: Proposal) -> None:
        actor = f"proposal:{proposal.id}"
        try:
            release = await self.releases.store.get(proposal.release_id)
        except ReleaseNotFound:
            try:
                release = await self._start(
                    proposal, _plan(proposal.release or {}), Origin(actor, actor)
                )
            except (Unavailable, OutcomeUnknown):
                raise
            except PilothouseError as error:
                await self._end(proposal, "not_applied", error.code, None)
                return
        if release.state == "done":
            await self._end(proposal, "applied", "", await self._outcome(proposal, release))
        elif release.state == "aborted":
            await self._end(proposal, "aborted", release.signal, None)

    async def _outcome(self, proposal: Proposal, release: Release) -> ItemOutcome:
        version = await self.items.find_version(
            proposal.items[0], release.base, actor_of(release), f"release {release.id}"
        )
        return ItemOutcome("applied", version, release.revision)

    async def _end(
        self, proposal: Proposal, state: State, reason: str, outcome: ItemOutcome | None
    ) -> None:
        items = (replace(proposal.items[0], outcome=outcome),)
        ended = replace(proposal, items=items, state=state, reason=reason)
        await write_step(self.reader.store, ended, "ended")


def _plan(stated: Mapping[str, Any]) -> Plan:
    try:
        return read_plan(stated)
    except BadPlan as error:
        raise BadRelease(error.pointer, error.reason, "/release") from error
