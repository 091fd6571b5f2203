"""Items that change schemas, templates and policies."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from app.access.model import Caller, Right
from app.errors import PilothouseError, Unavailable
from app.proposals.errors import ItemRefused, NothingProposed
from app.proposals.items.port import Drafted, Numbered, Sent, Side, Stored
from app.proposals.model import (
    BASE_ENVIRONMENT,
    ItemOutcome,
    Proposal,
    ProposalItem,
    Target,
    version_comment,
)
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.model import Definition, Kind, Scope
from app.rules.definitions.port import DefinitionStore
from app.rules.policies.enforcement import Policies
from app.rules.policies.model import NO_AUTHORITY, Authority, Requirements
from app.web.conditional import IfMatch
from pilothouse_core.diff import Diff, diff

_WHOLE = ("*",)
Allow = Callable[[Sequence[Scope]], None]


@dataclass(frozen=True, slots=True)
class DefinitionChange:
    """Who changes a definition in the name of a proposal, and the version it may follow."""

    actor: str
    comment: str
    request_id: str
    expected: IfMatch
    authority: Authority
    allow: Allow


class DefinitionWriter(Protocol):
    """Writes definitions of one kind; `app.proposals.items.definition_writers` has them."""

    def scopes_of(self, text: str) -> Sequence[Scope]:
        """Return where a stored version applies, nowhere for a deletion ("")."""
        ...

    async def put(
        self, name: str, body: Mapping[str, Any], change: DefinitionChange, *, dry_run: bool
    ) -> tuple[Definition, bool]:
        """Write a definition; returns the version, and whether it says anything new."""
        ...

    async def delete(self, name: str, change: DefinitionChange) -> Definition: ...


@dataclass(frozen=True, slots=True)
class DefinitionItems:
    catalog: DefinitionCatalog
    versions: DefinitionStore
    writers: Mapping[Kind, DefinitionWriter]
    policies: Policies
    name = "definitions"

    def may_read(self, caller: Caller, _: ProposalItem) -> bool:
        return caller.has_right_anywhere(Right.READ_CONFIGS)

    def requirements(self, item: ProposalItem) -> Requirements | None:
        scopes = [Scope((environment,), (service,)) for environment, service in item.places]
        return self.policies.requirements_of_scopes(item.target.kind, scopes)

    async def draft(self, sent: Sequence[tuple[int, Sent]], caller: Caller) -> Sequence[Drafted]:
        await self.catalog.refresh()
        return [await self._draft_one(number, each, caller) for number, each in sent]

    async def _draft_one(self, number: int, sent: Sent, caller: Caller) -> Drafted:
        kind, name = cast("Kind", sent["kind"]), sent["name"]
        body = None if sent.get("delete") else sent["definition"]
        present = self.catalog.definition(kind, name)
        scopes: list[Scope] = []

        def allow(these: Sequence[Scope]) -> None:
            scopes.extend(these)
            for environment, service in _places(these):
                caller.demand(Right.PROPOSE_CHANGES, environment, service)

        if not caller.has_right_anywhere(Right.PROPOSE_CHANGES):
            caller.demand(Right.PROPOSE_CHANGES)
        try:
            after = await self._checked_text(kind, name, body, _change_by(caller, allow))
        except Unavailable:
            raise
        except PilothouseError as error:
            raise ItemRefused(number, error) from error
        before = "" if present is None else present.text
        if after == before:
            raise NothingProposed(number)
        item = ProposalItem(
            Target(sent["kind"], BASE_ENVIRONMENT, "", name),
            "delete" if body is None else "replace",
            0 if present is None else present.version,
            tuple(dict.fromkeys(_places(scopes))),
        )
        return Drafted(number, item, _difference(before, after), {"definition": body})

    async def _checked_text(
        self, kind: Kind, name: str, body: Mapping[str, Any] | None, change: DefinitionChange
    ) -> str:
        """Return what would be stored, "" for a deletion; raises as a write does."""
        writer, present = self.writers[kind], self.catalog.definition(kind, name)
        change.allow(writer.scopes_of("" if present is None else present.text))
        if body is None:
            return ""
        made, _ = await writer.put(name, body, change, dry_run=True)
        change.allow(writer.scopes_of(made.text))
        return made.text

    async def store(self, drafted: Sequence[Drafted]) -> Sequence[Stored]:
        return [each.content for each in drafted]

    async def check(self, items: Sequence[Numbered]) -> Sequence[Mapping[str, object]]:
        flaws: list[Mapping[str, object]] = []
        for each in items:
            target, body = each.item.target, each.stored["definition"]
            if body is None:
                continue
            try:
                await self.writers[_kind(target)].put(
                    target.name, body, _change_of("preview", "", IfMatch()), dry_run=True
                )
            except Unavailable:
                raise
            except PilothouseError as error:
                place = f"#/items/{each.number}"
                flaws.append({"pointer": place, "detail": str(error), "code": error.code})
        return flaws

    async def writable_order(self, items: Sequence[Numbered]) -> Sequence[Numbered]:
        return items

    async def show(self, each: Numbered) -> Diff:
        former = await self._version(each.item.target, each.item.base)
        body = each.stored["definition"]
        after = "" if body is None else json.dumps(body)
        return _difference("" if former is None else former.text, after)

    async def current_version(self, item: ProposalItem) -> int:
        present = self.catalog.definition(_kind(item.target), item.target.name)
        return 0 if present is None else present.version

    async def stale_keys(self, item: ProposalItem) -> Sequence[str]:
        return _WHOLE if await self.current_version(item) > item.base else ()

    async def rebase(self, each: Numbered, side: Side) -> Numbered | Sequence[str] | None:
        version = await self.current_version(each.item)
        if version == each.item.base:
            return each
        if side == "refuse":
            return _WHOLE
        if side == "current":
            return None
        return Numbered(each.number, replace(each.item, base=version), each.stored)

    async def apply(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        (each,) = items
        item, body = each.item, each.stored["definition"]
        comment = version_comment(proposal, each.number)
        await self.catalog.refresh()
        written = await self._version(item.target, item.base + 1)
        if written is not None:
            if (written.actor, written.comment) == (f"proposal:{proposal.id}", comment):
                outcome = ItemOutcome("applied", written.version, written.revision)
            else:
                outcome = ItemOutcome("stale", code="proposal_stale")
            return {each.number: outcome}
        made, is_new = await self._write(item, body, proposal.id, comment, item.base)
        state = "applied" if is_new else "unchanged"
        return {each.number: ItemOutcome(state, made.version, made.revision)}  # type: ignore[arg-type]

    async def undo(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        (each,) = items
        outcome, target = each.item.outcome, each.item.target
        assert outcome is not None
        await self.catalog.refresh()
        comment = f"undo: {version_comment(proposal, each.number)}"
        later = await self._version(target, outcome.version + 1)
        if later is not None:
            if later.comment == comment:
                return {each.number: ItemOutcome("undone", later.version, later.revision)}
            return {each.number: replace(outcome, code="written_since")}
        former = await self._version(target, each.item.base)
        body = json.loads(former.text) if former is not None and former.text else None
        made, _ = await self._write(each.item, body, proposal.id, comment, outcome.version)
        return {each.number: ItemOutcome("undone", made.version, made.revision)}

    async def _write(
        self,
        item: ProposalItem,
        body: Mapping[str, Any] | None,
        proposal_id: str,
        comment: str,
        base: int,
    ) -> tuple[Definition, bool]:
        present = self.catalog.definition(_kind(item.target), item.target.name)
        is_deleted = present is None or present.is_deleted
        expected = IfMatch(is_stated=True, versions=frozenset({0 if is_deleted else base}))
        change = _change_of(proposal_id, comment, expected)
        writer = self.writers[_kind(item.target)]
        if body is None:
            return await writer.delete(item.target.name, change), True
        return await writer.put(item.target.name, body, change, dry_run=False)

    async def _version(self, target: Target, version: int) -> Definition | None:
        """Return one version, a deletion too, None if there is no such version."""
        if not version:
            return None
        kind = _kind(target)
        newest = self.catalog.definition(kind, target.name)
        if newest is not None and newest.version == version:
            return newest
        versions = await self.versions.history(kind, target.name, 1, version + 1)
        return versions[0] if versions and versions[0].version == version else None


def _change_by(caller: Caller, allow: Allow) -> DefinitionChange:
    return DefinitionChange(caller.actor(), "", caller.request_id, IfMatch(), NO_AUTHORITY, allow)


def _change_of(proposal_id: str, comment: str, expected: IfMatch) -> DefinitionChange:
    actor = f"proposal:{proposal_id}"
    authority = Authority(proposal=proposal_id)
    return DefinitionChange(actor, comment, actor, expected, authority, lambda _: None)


def _places(scopes: Sequence[Scope]) -> list[tuple[str, str]]:
    return [
        (environment, service)
        for scope in scopes
        for environment in scope.environments
        for service in scope.services
    ]


def _kind(target: Target) -> Kind:
    return cast("Kind", target.kind)


def _difference(before: str, after: str) -> Diff:
    members = [json.loads(text) if text else {} for text in (before, after)]
    return diff(*members)
