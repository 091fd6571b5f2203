"""Items that change flags and segments: those of one environment are written together."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import Caller, Right
from app.changes.errors import IdempotencyKeyReused
from app.changes.model import Idempotency
from app.errors import PilothouseError, Unavailable
from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.definitions.plans import SetItems, StatedItem
from app.flags.definitions.preconditions import not_found
from app.flags.definitions.previews import ItemPreview
from app.flags.definitions.representations import (
    definition_of,
    definition_text,
    difference,
    read_flag_body,
    read_segment_body,
)
from app.flags.errors import BadDefinition, BadEnvironment, ItemsMoved
from app.flags.model import Item, Kind
from app.flags.store.port import FlagStore
from app.flags.writer import FlagWriter, WriteRequest
from app.proposals.errors import ItemRefused, NothingProposed
from app.proposals.items.port import Drafted, Numbered, Sent, Side, Stored, written_together
from app.proposals.model import (
    ItemOutcome,
    Operation,
    Proposal,
    ProposalItem,
    Target,
    version_comment,
)
from app.rules.policies.enforcement import Policies
from app.rules.policies.model import Authority, Requirements
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.diff import Diff
from pilothouse_core.flags.model import Flag, Segment
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.merging import merge_three_ways
from pilothouse_core.names import is_name

_WHOLE = ("*",)


@dataclass(frozen=True, slots=True)
class FlagItems:
    cache: FlagCache
    versions: FlagStore
    writer: FlagWriter
    policies: Policies

    name = "flags"

    def may_read(self, caller: Caller, item: ProposalItem) -> bool:
        return caller.may(Right.READ_FLAGS, item.target.environment)

    def requirements(self, item: ProposalItem) -> Requirements | None:
        return self.policies.requirements(item.target.kind, item.target.environment, "*")

    async def draft(self, sent: Sequence[tuple[int, Sent]], caller: Caller) -> Sequence[Drafted]:
        for _, each in sent:
            for right in (Right.READ_FLAGS, Right.PROPOSE_CHANGES):
                caller.demand(right, each["environment"])
        await self.cache.refresh()
        by_environment: dict[str, list[tuple[int, Sent]]] = {}
        for number, each in sent:
            by_environment.setdefault(each["environment"], []).append((number, each))
        drafted: list[Drafted] = []
        for environment, items in by_environment.items():
            drafted += await self._draft_together(environment, items)
        return drafted

    async def _draft_together(
        self, environment: str, sent: Sequence[tuple[int, Sent]]
    ) -> Sequence[Drafted]:
        known = self._environment(environment, sent[0][0])
        stated = [
            await asyncio.to_thread(_stated_item, number, each, known) for number, each in sent
        ]
        try:
            preview = await self.writer.preview(environment, SetItems(tuple(stated)))
        except PilothouseError as error:
            raise ItemRefused(_number_of(error, sent), error) from error
        drafted: list[Drafted] = []
        for (number, each), item in zip(sent, stated, strict=True):
            shown = preview.item(item.kind, item.name)
            if not shown.is_changed:
                raise NothingProposed(number)
            drafted.append(
                Drafted(
                    number, _proposal_item(each, shown, known), shown.diff(), _stored_item(item)
                )
            )
        return drafted

    def _environment(self, name: str, number: int) -> EnvironmentFlags:
        if not is_name(name):
            raise ItemRefused(number, BadEnvironment(name))
        return self.cache.environment(name)

    async def store(self, drafted: Sequence[Drafted]) -> Sequence[Stored]:
        return [each.content for each in drafted]

    async def check(self, items: Sequence[Numbered]) -> Sequence[Mapping[str, object]]:
        flaws: list[Mapping[str, object]] = []
        for group in written_together(items):
            flaws += await self._check_together(group)
        return flaws

    async def _check_together(self, items: Sequence[Numbered]) -> Sequence[Mapping[str, object]]:
        environment = items[0].item.target.environment
        stated = [_read_item(each, base=None) for each in items]
        try:
            await self.writer.preview(environment, SetItems(tuple(stated)))
        except Unavailable:
            raise
        except PilothouseError as error:
            number = _number_of(error, [(each.number, _sent_name(each.item)) for each in items])
            return [{"pointer": f"#/items/{number}", "detail": str(error), "code": error.code}]
        return ()

    async def writable_order(self, items: Sequence[Numbered]) -> Sequence[Numbered]:
        return items

    async def show(self, each: Numbered) -> Diff:
        former = await self._version(each.item.target, each.item.base)
        definition = each.stored["definition"]
        after = "" if definition is None else json.dumps(definition)
        return difference("" if former is None else former.definition, after)

    async def _version(self, target: Target, version: int) -> Item | None:
        if not version:
            return None
        present = self._present(target)
        if present is not None and present.version == version:
            return present
        versions = await self.versions.history(
            _kind(target), target.environment, target.name, 1, version + 1
        )
        return versions[0] if versions and versions[0].version == version else None

    def _present(self, target: Target) -> Item | None:
        items = self.cache.environment(target.environment).items
        return items.get((_kind(target), target.name))

    async def current_version(self, item: ProposalItem) -> int:
        present = self._present(item.target)
        return 0 if present is None else present.version

    async def stale_keys(self, item: ProposalItem) -> Sequence[str]:
        return _WHOLE if await self.current_version(item) > item.base else ()

    async def rebase(self, each: Numbered, side: Side) -> Numbered | Sequence[str] | None:
        item, definition = each.item, each.stored["definition"]
        current = self._present(item.target)
        version = 0 if current is None else current.version
        if version == item.base:
            return each
        if side == "current":
            return None
        rebased = replace(item, base=version)
        if side == "proposed":
            return Numbered(each.number, rebased, each.stored)
        former = await self._version(item.target, item.base)
        if definition is None or not former or not current or not current.definition:
            return _WHOLE
        merged = _merged_members(item.target, former.definition, current.definition, definition)
        if isinstance(merged, tuple):
            return merged
        return Numbered(each.number, rebased, {**each.stored, "definition": merged})

    async def apply(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        environment = items[0].item.target.environment
        plan = SetItems(tuple(_read_item(each, base=each.item.pin) for each in items))
        key = f"proposal/{proposal.id}/{proposal.round}/flags/{environment}"
        request = _request(proposal, version_comment(proposal, items[0].number), key)
        try:
            written = await self.writer.write(environment, plan, request)
        except ItemsMoved as moved:
            return await self._outcomes_of_moved(proposal, items, moved)
        except (Unavailable, IdempotencyKeyReused):  # the latter: closed by another holder
            raise
        except PilothouseError:
            # It might pass a moment later, for another holder: not once it is said to have failed.
            await self.writer.close_key(environment, request)
            raise
        return {each.number: _outcome(each, written) for each in items}

    async def _outcomes_of_moved(
        self, proposal: Proposal, items: Sequence[Numbered], moved: ItemsMoved
    ) -> Mapping[int, ItemOutcome]:
        """Return what became of items that cannot be written, or were written a day ago."""
        comment = version_comment(proposal, items[0].number)
        outcomes: dict[int, ItemOutcome] = {}
        for each in items:
            target = each.item.target
            written = await self._version(target, each.item.base + 1)
            if written is not None and written.comment == comment:
                outcomes[each.number] = ItemOutcome("applied", written.version, written.revision)
            elif (_kind(target), target.name) in moved.versions:
                outcomes[each.number] = ItemOutcome("stale", code=moved.code, detail=str(moved))
            else:
                outcomes[each.number] = ItemOutcome("skipped")
        return outcomes

    async def undo(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        environment = items[0].item.target.environment
        stated = [await self._former_item(each) for each in items]
        key = f"proposal/{proposal.id}/{proposal.round}/flags/{environment}/undo"
        request = _request(proposal, f"undo: {version_comment(proposal, items[0].number)}", key)
        try:
            written = await self.writer.write(environment, SetItems(tuple(stated)), request)
        except ItemsMoved:
            return {
                each.number: replace(each.item.outcome, code="written_since")
                for each in items
                if each.item.outcome is not None
            }
        undone = {(item.kind, item.name): item for item in written}
        outcomes: dict[int, ItemOutcome] = {}
        for each in items:
            item = undone.get((_kind(each.item.target), each.item.target.name))
            version, revision = (0, 0) if item is None else (item.version, item.revision)
            outcomes[each.number] = ItemOutcome("undone", version, revision)
        return outcomes

    async def _former_item(self, each: Numbered) -> StatedItem:
        target, outcome = each.item.target, each.item.outcome
        assert outcome is not None
        former = await self._version(target, each.item.base)
        if former is None or not former.definition:
            return StatedItem(_kind(target), target.name, None, base=outcome.version)
        return StatedItem(
            _kind(target),
            target.name,
            definition_of(former),
            former.is_archived,
            outcome.version,
        )


def _stated_item(number: int, sent: Sent, known: EnvironmentFlags) -> StatedItem:
    """Read what a client wants of a flag or segment; raises ItemRefused."""
    kind, name = sent["kind"], sent["name"]
    present = known.live_item(kind, name) or known.archived_item(kind, name)
    try:
        if sent.get("delete"):
            return StatedItem(kind, name, None)
        if sent.get("archive"):
            if present is None:
                raise not_found(kind, name, known)
            return StatedItem(kind, name, definition_of(present), is_archived=True)
        members = {**(sent.get("definition") or {}), "name": name}
        if kind == "flag":
            return StatedItem(kind, name, read_flag_body(members, known.flag(name)))
        return StatedItem(kind, name, read_segment_body(members))
    except DefinitionError as error:
        raise ItemRefused(number, BadDefinition.of(error), "definition") from error
    except PilothouseError as error:
        raise ItemRefused(number, error) from error


def _proposal_item(sent: Sent, shown: ItemPreview, known: EnvironmentFlags) -> ProposalItem:
    operation: Operation = "replace"
    if sent.get("delete"):
        operation = "delete"
    elif sent.get("archive"):
        operation = "archive"
    target = Target(shown.kind, shown.environment, "", shown.name)
    present = known.items.get((shown.kind, shown.name))
    base = 0 if present is None else present.version
    return ProposalItem(target, operation, base, ((shown.environment, ""),))


def _stored_item(item: StatedItem) -> Stored:
    definition = item.definition
    return {
        "definition": None if definition is None else json.loads(definition_text(definition)),
        "is_archived": item.is_archived,
    }


def _merged_members(
    target: Target, former: str, current: str, proposed: Mapping[str, Any]
) -> Mapping[str, Any] | tuple[str, ...]:
    """Merge a proposed definition into the current one; returns the members both have changed."""
    merged = merge_three_ways(json.loads(former or "{}"), json.loads(current), proposed)
    if merged.kept:
        return merged.kept
    try:
        made = _read_definition(_kind(target), merged.data)
    except DefinitionError:
        return _WHOLE
    members: Mapping[str, Any] = json.loads(definition_text(made))
    return members


def _read_item(each: Numbered, base: int | None) -> StatedItem:
    kind, definition = _kind(each.item.target), each.stored["definition"]
    made = None if definition is None else _read_definition(kind, definition)
    return StatedItem(kind, each.item.target.name, made, each.stored["is_archived"], base)


def _read_definition(kind: Kind, members: Mapping[str, Any]) -> Flag | Segment:
    return read_flag(members) if kind == "flag" else read_segment(members)


def _kind(target: Target) -> Kind:
    return "flag" if target.kind == "flag" else "segment"


def _sent_name(item: ProposalItem) -> Sent:
    return {"kind": item.target.kind, "name": item.target.name}


def _number_of(error: PilothouseError, sent: Sequence[tuple[int, Sent]]) -> int:
    """Return the number of the item that an error is about, the first where it does not say."""
    name = error.facts.get("name")
    return next((number for number, each in sent if each["name"] == name), sent[0][0])


def _request(proposal: Proposal, comment: str, key: str) -> WriteRequest:
    actor = f"proposal:{proposal.id}"
    return WriteRequest(
        actor,
        comment,
        actor,
        idempotency=Idempotency(key, key),
        authority=Authority(proposal=proposal.id),
    )


def _outcome(each: Numbered, written: Sequence[Item]) -> ItemOutcome:
    target = each.item.target
    item = next(
        (one for one in written if (one.kind, one.name) == (target.kind, target.name)), None
    )
    if item is None:
        return ItemOutcome("unchanged", each.item.base)
    return ItemOutcome("applied", item.version, item.revision)
