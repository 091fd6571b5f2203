"""Promotes chosen rows: directly, where no policy asks for a proposal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.access.model import Caller, Right
from app.configs.api.requests import carry_out, write_of
from app.configs.documents.attempt import Notice
from app.configs.documents.edits import PatchKeys
from app.configs.documents.writer import DocumentWriter
from app.configs.model import document_id
from app.errors import PilothouseError
from app.flags.api.requests import write_request
from app.flags.definitions.plans import SetItems
from app.flags.errors import ItemsMoved
from app.flags.writer import FlagWriter
from app.proposals.model import ItemKind
from app.proposals.promotion.comparer import Comparison, PromotionComparer, Route
from app.proposals.promotion.errors import ComparisonMoved
from app.proposals.promotion.model import Promotion, RowKey
from app.proposals.promotion.plan import (
    ChosenRow,
    DocumentPlan,
    PromotionPlan,
    plan_promotion,
)
from app.proposals.promotion.store.port import PromotionStore
from app.rules.errors import ProposalNeeded
from app.rules.policies.enforcement import Policies
from app.web.conditional import IfMatch
from app.workers import run_apart

Status = Literal["written", "unchanged", "failed"]
_MANY_ROWS = 500  # to plan them takes about as long as a thread does


@dataclass(frozen=True, slots=True)
class PromotedPart:
    """What became of the layer of one service; "" means all flags and segments."""

    service: str
    status: Status
    version: int = 0
    revision: int = 0
    error: PilothouseError | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Promoter:
    comparer: PromotionComparer
    documents: DocumentWriter
    flags: FlagWriter
    store: PromotionStore
    policies: Policies

    async def promote(
        self,
        route: Route,
        chosen: Sequence[ChosenRow],
        caller: Caller,
        *,
        compared: str | None,
        comment: str,
        dry_run: bool,
    ) -> Sequence[PromotedPart]:
        """Write the chosen rows to the target: flags first, then one document after the other.

        `compared`: the tag of the comparison from which they were chosen. Each part is written if
        its target has not moved since the comparison that this call makes. Raises what `compare`
        raises, Denied, ComparisonMoved, RowsRefused, ProposalNeeded, and what the first write
        raises; later failures are reported by part.
        """
        for kind, service, _ in dict.fromkeys(each.subject for each in chosen):
            right = Right.WRITE_CONFIGS if kind == "config" else Right.WRITE_FLAGS
            caller.demand(right, route.target, service)
        comparison = await self.comparer.compare(route, caller)
        if compared is not None and compared != comparison.tag:
            raise ComparisonMoved
        is_long = len(comparison.rows) > _MANY_ROWS
        plan = await run_apart(is_long, plan_promotion, comparison, chosen)
        self._refuse_under_policy(plan, route.target)
        if dry_run:
            return _planned_parts(plan)
        comment = comment or f"promoted from {route.source}"
        parts: list[PromotedPart] = []
        try:
            if plan.items:
                parts.append(await self._write_flags(plan, route.target, caller, comment))
            for each in plan.documents:
                parts.append(await self._write_document(each, route.target, caller, comment))  # noqa: PERF401 - what was written is known when one fails
        except PilothouseError as error:
            if not parts:
                raise
            done = {part.service for part in parts}
            rest = [each for each in plan.documents if each.service not in done]
            parts += [PromotedPart(each.service, "failed", error=error) for each in rest]
        await self._record(route, plan, comparison, parts, caller)
        return parts

    def _refuse_under_policy(self, plan: PromotionPlan, target: str) -> None:
        """Raise ProposalNeeded if a policy asks for one for any part."""
        kinds: list[tuple[ItemKind, str]] = [("config", each.service) for each in plan.documents]
        kinds += dict.fromkeys((item.kind, "") for item in plan.items)
        for kind, service in kinds:
            if (asked := self.policies.requirements(kind, target, service)) is not None:
                raise ProposalNeeded(asked.policies[0])

    async def _write_flags(
        self, plan: PromotionPlan, target: str, caller: Caller, comment: str
    ) -> PromotedPart:
        try:
            written = await self.flags.write(
                target, SetItems(plan.items), write_request(caller, comment)
            )
        except ItemsMoved as moved:
            raise ComparisonMoved from moved
        status: Status = "written" if written else "unchanged"
        return PromotedPart("", status, revision=max((one.revision for one in written), default=0))

    async def _write_document(
        self, plan: DocumentPlan, target: str, caller: Caller, comment: str
    ) -> PromotedPart:
        write = write_of(
            document_id(target, plan.service),
            PatchKeys(plan.set, plan.unset, keep_both=True),
            caller,
            comment,
            expected=IfMatch(is_stated=True, versions=frozenset({plan.expected})),
        )
        outcome = await carry_out(self.documents, write)
        body = outcome.body
        return PromotedPart(
            plan.service,
            "written" if outcome.changed else "unchanged",
            0 if body is None else body.version,
            outcome.revision if outcome.changed else 0,
            notices=outcome.notices,
        )

    async def _record(
        self,
        route: Route,
        plan: PromotionPlan,
        comparison: Comparison,
        parts: Sequence[PromotedPart],
        caller: Caller,
    ) -> None:
        """Remember the source versions of what both sides agree in now."""
        failed = {part.service for part in parts if part.status == "failed"}
        versions = {
            subject: version
            for subject, version in (*plan.agreeing, *plan.chosen)
            if subject.service not in failed and _is_new(comparison, subject, version)
        }
        if versions:
            await self.store.record(
                Promotion(route.source, route.target, list(versions.items()), caller.actor())
            )


def _is_new(comparison: Comparison, subject: RowKey, version: int) -> bool:
    base = comparison.bases.get(subject)
    return base is None or base.version != version


def _planned_parts(plan: PromotionPlan) -> Sequence[PromotedPart]:
    """Return the parts that would be written."""
    services = [*([""] if plan.items else []), *(each.service for each in plan.documents)]
    return [PromotedPart(service, "written") for service in services]
