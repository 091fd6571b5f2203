"""Request and response schemas of proposals."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.actors import actor_name
from app.configs.api.schemas import WarningOut, Warnings
from app.proposals.approvals import Tally
from app.proposals.errors import BadItem
from app.proposals.items.port import Drafted, Sent, Side
from app.proposals.model import (
    MOST_ITEMS,
    ItemKind,
    ItemState,
    OnFailure,
    Operation,
    Proposal,
    ProposalItem,
    Review,
    State,
    Verdict,
)
from app.proposals.reading import ProposalDetails
from app.proposals.rounds import DraftedRound, RoundSent
from app.rules.policies.model import Approver
from app.web.openapi import KEY, KEYED, NAME, USER
from app.web.request_body import RequestBody
from pilothouse_core.diff import Diff

Name = Annotated[str, Field(json_schema_extra=NAME)]
Key = Annotated[str, Field(json_schema_extra=KEY)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=10_000)]
Comment = Annotated[
    str, Field(max_length=1000, description="Reason for the change; kept in the history.")
]
CheckState = Literal["passed", "failed"]
_CHECK_OF_CODE: Mapping[str, str] = {
    "credential_in_plain_value": "credentials",
    "secret_in_plain": "credentials",
    "schema_violated": "schema",
    "schema_not_met": "schema",
    "rule_undecided": "schema",
    "too_many_affected": "schema",
}
_CONFIG_FORMS = ("data", "delete", "restore_version")
_FORMS = ("definition", "delete", "archive")


class ItemIn(RequestBody):
    """What one item changes.

    A configuration: `set`, `unset` and `encrypt` as in a patch, or `data` for the whole document,
    `delete`, or `restore_version`. A flag, segment, schema, template or policy: `definition`, or
    `delete`; a flag also `archive`.
    """

    kind: ItemKind
    environment: Name = "default"
    service_name: Name = "_shared"
    user: Annotated[str, Field(json_schema_extra=USER)] | None = None
    name: Name | None = Field(None, description="Of a flag, segment, schema, template or policy.")
    set: dict[str, Any] = Field(default_factory=dict, json_schema_extra=KEYED)
    unset: list[Key] = Field(default_factory=list, max_length=10_000)
    encrypt: list[Key] = Field(default_factory=list, max_length=10_000)
    data: dict[str, Any] | None = Field(None, description="The whole document of a layer.")
    restore_version: int | None = Field(None, ge=1, lt=2**31)
    definition: dict[str, Any] | None = None
    delete: bool = False
    archive: bool = False

    def item_sent(self, number: int) -> Sent:
        """Return the members that this kind of item has; raises BadItem for others."""
        stated = self.model_dump(exclude_unset=True)
        if self.kind == "config":
            self._refuse(number, stated, ("name", "definition", "archive"))
            forms = [form for form in _CONFIG_FORMS if stated.get(form) not in (None, False)]
            is_patch = any(stated.get(form) for form in ("set", "unset", "encrypt"))
            if len(forms) + is_patch != 1:
                raise BadItem(
                    number,
                    "states one of: set, unset and encrypt; data; delete; restore_version",
                )
        else:
            foreign = ("service_name", "user", "set", "unset", "encrypt", "data", "restore_version")
            self._refuse(number, stated, foreign)
            if self.name is None:
                raise BadItem(number, "needs a name", "name")
            if self.kind in {"schema", "template", "policy"} and "environment" in stated:
                raise BadItem(number, f"a {self.kind} has no environment", "environment")
            if self.archive and self.kind != "flag":
                raise BadItem(number, "only flags are archived", "archive")
            forms = [form for form in _FORMS if stated.get(form) not in (None, False)]
            if len(forms) != 1:
                raise BadItem(number, "states one of: definition; delete; archive")
        return self.model_dump()

    def _refuse(self, number: int, stated: Mapping[str, Any], members: Sequence[str]) -> None:
        for member in members:
            if member in stated:
                raise BadItem(number, f"a {self.kind} has no {member}", member)


class ProposalIn(RequestBody):
    title: Title
    description: Description = ""
    on_failure: OnFailure = Field(
        "stop", description="`undo`: what was applied before the failure is undone."
    )
    items: list[ItemIn] = Field(min_length=1, max_length=MOST_ITEMS)

    def round_sent(self) -> RoundSent:
        items = [item.item_sent(number) for number, item in enumerate(self.items)]
        return RoundSent(self.title, self.description, self.on_failure, items)


class NextRoundIn(RequestBody):
    """Another round: `items` replaces all of them, or `rebase` puts them on what exists now."""

    title: Title | None = None
    description: Description | None = None
    on_failure: OnFailure | None = None
    items: list[ItemIn] | None = Field(None, min_length=1, max_length=MOST_ITEMS)
    rebase: Side | None = Field(
        None,
        description="Which side is kept where both have changed a key; `refuse`: 409 then.",
    )


class VerdictIn(RequestBody):
    round: int = Field(ge=1, lt=2**31)
    verdict: Verdict
    text: Annotated[str, Field(max_length=10_000)] = ""


class ApplyProposalIn(RequestBody):
    at: str | None = Field(
        None,
        max_length=40,
        description="RFC 3339; applied then, by the clock of the database. Default: now.",
        json_schema_extra={"format": "date-time"},
    )
    release: dict[str, Any] | None = Field(
        None,
        description="The plan of a release to a few instances first: `steps`, `bake`, `pick`, "
        "`no_data`, `signals`.",
    )
    comment: Comment = ""


class DecisionIn(RequestBody):
    comment: Comment = ""


class ProposalDiffOut(BaseModel):
    """What an item changes; secrets are masked."""

    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, dict[str, Any]] = Field(description="`{old, new}` by key.")

    @classmethod
    def of_diff(cls, diff: Diff) -> "ProposalDiffOut":
        changed = {key: {"old": old, "new": new} for key, (old, new) in diff.changed.items()}
        return cls(added=diff.added, removed=diff.removed, changed=changed)


class OutcomeOut(BaseModel):
    state: ItemState
    version: int = Field(description="The version that the item became; 0: none.")
    code: str = Field(description="Of the problem that kept it from being applied, or empty.")
    detail: str


class ProposalItemOut(BaseModel):
    kind: ItemKind
    environment: str
    service_name: str | None = None
    user: str | None = None
    name: str | None = None
    operation: Operation
    base: int = Field(description="The version that it was drafted from; 0: there was none.")
    keys: list[str] = Field(description="The keys that a patch sets or removes.")
    stale: list[str] = Field(
        description="Those that were changed since `base`; `*`: the whole of it was."
    )
    diff: ProposalDiffOut | None = Field(description="null in lists, and once it was destroyed.")
    outcome: OutcomeOut | None

    @classmethod
    def of_item(
        cls, item: ProposalItem, stale: Sequence[str] = (), diff: Diff | None = None
    ) -> "ProposalItemOut":
        target, outcome = item.target, item.outcome
        is_config = target.kind == "config"
        return cls(
            kind=target.kind,
            environment=target.environment,
            service_name=target.service if is_config else None,
            user=(target.name or None) if is_config else None,
            name=None if is_config else target.name,
            operation=item.operation,
            base=item.base,
            keys=list(item.keys),
            stale=list(stale),
            diff=None if diff is None else ProposalDiffOut.of_diff(diff),
            outcome=None
            if outcome is None
            else OutcomeOut(
                state=outcome.state,
                version=outcome.version,
                code=outcome.code,
                detail=outcome.detail,
            ),
        )


class ReviewOut(BaseModel):
    round: int
    verdict: Verdict
    text: str
    actor: str
    at: datetime

    @classmethod
    def of_review(cls, review: Review) -> "ReviewOut":
        return cls(
            round=review.round,
            verdict=review.verdict,
            text=review.text,
            actor=actor_name(review.actor),
            at=review.at,
        )


class ApprovalsOut(BaseModel):
    needed: int
    given: int = Field(description="Those of this round that count.")
    by: list[str] = Field(description="Whose approvals count.")
    policies: list[str] = Field(description="The policies that ask for them.")
    of: list[Approver] = Field(description="Roles whose approvals count; empty: no policy asks.")
    people_only: bool = Field(description="Only people's approvals count, no token's.")

    @classmethod
    def of_tally(cls, tally: Tally) -> "ApprovalsOut":
        asked = tally.asked
        return cls(
            needed=tally.needed_count,
            given=tally.given_count,
            by=[actor_name(review.actor) for review in tally.approvals],
            policies=[] if asked is None else list(asked.policies),
            of=[] if asked is None else sorted(asked.of),
            people_only=asked is not None and asked.people_only,
        )


class ProposalSummaryOut(BaseModel):
    id: str
    title: str
    description: str
    state: State
    round: int
    items: list[ProposalItemOut]
    authors: list[str] = Field(description="Of all rounds.")
    on_failure: OnFailure
    apply_at: datetime | None
    applied_by: str | None
    release_id: str | None = Field(description="Of the release that it was applied by.")
    reason: str = Field(description="The code of the problem that ended it, or empty.")
    created_at: datetime
    updated_at: datetime
    revision: int

    @classmethod
    def of_proposal(cls, proposal: Proposal) -> "ProposalSummaryOut":
        items = [ProposalItemOut.of_item(item) for item in proposal.items]
        return cls(**summary_members(proposal), items=items)


def summary_members(proposal: Proposal) -> dict[str, Any]:
    """Return what a summary says besides the items."""
    return {
        "id": proposal.id,
        "title": proposal.title,
        "description": proposal.description,
        "state": proposal.state,
        "round": proposal.round,
        "authors": [actor_name(author.actor) for author in proposal.authors],
        "on_failure": proposal.on_failure,
        "apply_at": proposal.apply_at,
        "applied_by": actor_name(proposal.applied_by) or None,
        "release_id": proposal.release_id or None,
        "reason": proposal.reason,
        "created_at": proposal.created_at,
        "updated_at": proposal.updated_at,
        "revision": proposal.revision,
    }


class FlawOut(BaseModel, extra="allow"):
    pointer: str
    detail: str
    code: str


class ChecksOut(BaseModel):
    """What the checks find now."""

    schemas: CheckState = Field(alias="schema", serialization_alias="schema")
    credentials: CheckState
    references: CheckState = Field(description="And everything else that would be refused.")
    errors: list[FlawOut]

    @classmethod
    def of_flaws(cls, flaws: Sequence[Mapping[str, object]]) -> "ChecksOut":
        failed = {_CHECK_OF_CODE.get(str(flaw["code"]), "references") for flaw in flaws}
        states = {
            check: "failed" if check in failed else "passed"
            for check in ("schema", "credentials", "references")
        }
        return cls.model_validate({**states, "errors": list(flaws)})


class ProposalOut(ProposalSummaryOut):
    approvals: ApprovalsOut
    checks: ChecksOut | None = Field(description="null once it has ended.")
    reviews: list[ReviewOut]

    @classmethod
    def of_details(cls, details: ProposalDetails) -> "ProposalOut":
        proposal = details.proposal
        items = [
            ProposalItemOut.of_item(
                item, details.stale.get(number, ()), details.changes.get(number)
            )
            for number, item in enumerate(proposal.items)
        ]
        return cls(
            **summary_members(proposal),
            items=items,
            approvals=ApprovalsOut.of_tally(details.tally),
            checks=None if details.flaws is None else ChecksOut.of_flaws(details.flaws),
            reviews=[ReviewOut.of_review(review) for review in proposal.reviews],
        )


class ProposalPreviewOut(BaseModel):
    """What would be proposed; nothing was stored or encrypted."""

    dry_run: bool = True
    items: list[ProposalItemOut]
    approvals: ApprovalsOut
    warnings: Warnings

    @classmethod
    def of_round(cls, made: DraftedRound) -> "ProposalPreviewOut":
        return cls(
            items=[_preview_item(each) for each in made.drafted],
            approvals=ApprovalsOut.of_tally(Tally((), made.requirements)),
            warnings=WarningOut.all(notice for each in made.drafted for notice in each.warnings),
        )


def _preview_item(each: Drafted) -> ProposalItemOut:
    return ProposalItemOut.of_item(each.item, (), each.changes)
