"""Items that change configurations: drafted, sealed at once, and written by the one writer."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import Caller, Right
from app.changes.follower import Follower
from app.changes.model import Idempotency
from app.configs.checks.errors import SchemaViolated
from app.configs.documents.attempt import Outcome, Write
from app.configs.documents.composer import VersionComposer
from app.configs.documents.edit_json import edit_from_json, edit_to_json
from app.configs.documents.edits import (
    CreateDocument,
    DeleteDocument,
    Edit,
    PatchKeys,
    PatchSealed,
    ReplaceDocument,
    RestoreVersion,
)
from app.configs.documents.reader import DocumentReader
from app.configs.documents.writer import DocumentWriter
from app.configs.errors import (
    StaleWrite,
    VersionGone,
    VersionNotFound,
    WriteClosed,
    WriteConflict,
)
from app.configs.model import Body, DocumentId, Draft, document_id
from app.configs.services.previews import PreviewService, draft_diff
from app.errors import OutcomeUnknown, PilothouseError, Unavailable
from app.proposals.errors import ItemRefused, NothingProposed
from app.proposals.items.port import Drafted, Numbered, PinMoved, Sent, Side, Stored
from app.proposals.items.sealed_patches import (
    agrees,
    keys_changed_since,
    own_keys,
    sealed_patch,
    without_keys,
)
from app.proposals.items.write_order import order_by_schemas
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
from app.web.conditional import IfMatch
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.diff import Diff
from pilothouse_core.trees import Tree

_WHOLE = ("*",)


@dataclass(frozen=True, slots=True)
class _Content:
    """A drafted write, before its secrets are encrypted."""

    document: DocumentId
    edit: Edit
    base: Body | None
    draft: Draft


@dataclass(frozen=True, slots=True)
class ConfigItems:
    reader: DocumentReader
    follower: Follower
    writer: DocumentWriter
    previews: PreviewService
    composer: VersionComposer
    policies: Policies

    name = "configs"

    def may_read(self, caller: Caller, item: ProposalItem) -> bool:
        return caller.may(Right.READ_CONFIGS, item.target.environment, item.target.service)

    def requirements(self, item: ProposalItem) -> Requirements | None:
        return self.policies.requirements("config", item.target.environment, item.target.service)

    async def draft(self, sent: Sequence[tuple[int, Sent]], caller: Caller) -> Sequence[Drafted]:
        for _, each in sent:
            for right in (Right.READ_CONFIGS, Right.PROPOSE_CHANGES):
                caller.demand(right, each["environment"], each["service_name"])
        drafted = [await self._draft_one(number, each, caller) for number, each in sent]
        changes = {each.content.document: each.content.draft for each in drafted}
        try:
            warnings = await self.previews.check(changes, _may_read(caller))
        except SchemaViolated as error:
            raise ItemRefused(sent[0][0], error) from error
        return [
            replace(each, warnings=(*each.content.draft.findings, *warnings)) if not place else each
            for place, each in enumerate(drafted)
        ]

    async def _draft_one(self, number: int, sent: Sent, caller: Caller) -> Drafted:
        try:
            document = document_id(sent["environment"], sent["service_name"], sent.get("user"))
            edit, operation = await self._edit(document, sent)
            write = Write(
                document,
                edit,
                caller.actor(),
                caller.request_id,
                replaces=operation in {"replace", "restore"},
                may_read=_may_read(caller),
            )
            base, draft = await self.previews.draft(write)
        except PilothouseError as error:
            raise ItemRefused(number, error) from error
        if draft.data is None:
            raise NothingProposed(number)
        item = ProposalItem(
            Target("config", document.environment, document.service, document.user or ""),
            operation,
            base.version if base is not None else 0,
            ((document.environment, document.service),),
            own_keys(edit, base, draft) if operation == "patch" else (),
        )
        shown = await run_apart(_is_large(base), draft_diff, base, draft)
        return Drafted(number, item, shown, _Content(document, edit, base, draft))

    async def _edit(self, document: DocumentId, sent: Sent) -> tuple[Edit, Operation]:
        if sent.get("delete"):
            return DeleteDocument(), "delete"
        if (version := sent.get("restore_version")) is not None:
            old = await self.reader.version_or_raise(document, version, with_secrets=True)
            return RestoreVersion.of(old), "restore"
        if (members := sent.get("data")) is not None:
            present = await self.reader.current(document)
            exists = present is not None and not present.deleted
            return (ReplaceDocument if exists else CreateDocument)(members), "replace"
        return PatchKeys(
            sent.get("set") or {}, tuple(sent.get("unset") or ()), tuple(sent.get("encrypt") or ())
        ), "patch"

    async def store(self, drafted: Sequence[Drafted]) -> Sequence[Stored]:
        return [edit_to_json(await self._sealed_edit(each.content)) for each in drafted]

    async def _sealed_edit(self, content: _Content) -> Edit:
        """Return the edit with its secrets encrypted for the document that it changes."""
        is_large = _is_large(content.base)
        match content.edit:
            case DeleteDocument():
                return content.edit
            case RestoreVersion():
                data = await self.composer.seal(
                    content.document, content.draft.data or {}, is_large=is_large
                )
                return replace(content.edit, data=data)
        data = await self.composer.seal(
            content.document, content.draft.data or {}, is_large=is_large
        )
        before = content.base.data if content.base is not None else {}
        return await run_apart(is_large, sealed_patch, before, data)

    async def check(self, items: Sequence[Numbered]) -> Sequence[Mapping[str, object]]:
        flaws: list[Mapping[str, object]] = []
        changes: dict[DocumentId, Draft] = {}
        for each in items:
            try:
                _, draft = await self.previews.draft(self._write("", each))
            except Unavailable:
                raise
            except PilothouseError as error:
                flaws.append(_flaw(each.number, error))
                continue
            if draft.data is not None:
                changes[_document(each.item)] = draft
        try:
            await self.previews.check(changes, lambda _: True)
        except Unavailable:
            raise
        except PilothouseError as error:
            flaws.append(_flaw(items[0].number, error))
        return flaws

    async def writable_order(self, items: Sequence[Numbered]) -> Sequence[Numbered]:
        drafts: dict[int, tuple[DocumentId, Draft]] = {}
        for each in items:
            with suppress(PilothouseError):  # it will be refused when it is written
                _, draft = await self.previews.draft(self._write("", each))
                drafts[each.number] = _document(each.item), draft
        return await order_by_schemas(items, drafts, self.previews)

    async def show(self, each: Numbered) -> Diff:
        document, item = _document(each.item), each.item
        base = await self._version(document, item.base)
        if item.base and base is None:
            return Diff({}, {}, {})
        draft = edit_from_json(each.stored).apply(document, base)
        return await run_apart(_is_large(base), draft_diff, base, draft)

    async def _version(self, document: DocumentId, version: int) -> Body | None:
        if not version:
            return None
        with suppress(VersionGone, VersionNotFound):
            return await self.reader.version_or_raise(document, version, with_secrets=True)
        return None

    async def current_version(self, item: ProposalItem) -> int:
        pointer = self.reader.pointer(_document(item))
        return 0 if pointer is None else pointer.version

    async def stale_keys(self, item: ProposalItem) -> Sequence[str]:
        if await self.current_version(item) <= item.base:
            return ()
        if not item.keys:
            return _WHOLE
        body = await self.reader.current(_document(item))
        return () if body is None else keys_changed_since(body, item.base, item.keys)

    async def rebase(self, each: Numbered, side: Side) -> Numbered | Sequence[str] | None:
        document, item = _document(each.item), each.item
        current = await self.reader.current(document, with_secrets=True)
        version = current.version if current is not None else 0
        if version == item.base:
            return each
        data = current.data if current is not None else {}
        if not item.keys:
            return await self._rebase_whole(each, side, version, data)
        edit = edit_from_json(each.stored)
        assert isinstance(edit, PatchSealed)
        stale = {key for key in await self.stale_keys(item) if not agrees(edit, data, key)}
        if stale and side == "refuse":
            return sorted(stale)
        if side == "current":
            edit = without_keys(edit, stale)
        remaining = tuple(key for key in item.keys if key not in stale or side != "current")
        draft = edit.apply(document, current)
        if draft.data is None:
            return None
        rebased = replace(item, base=version, keys=remaining)
        return Numbered(each.number, rebased, edit_to_json(edit))

    async def _rebase_whole(
        self, each: Numbered, side: Side, version: int, data: Tree
    ) -> Numbered | Sequence[str] | None:
        if side == "refuse":
            return _WHOLE
        if side == "current":
            return None
        edit, stored = edit_from_json(each.stored), each.stored
        if isinstance(edit, PatchSealed):
            document = _document(each.item)
            base = await self._version(document, each.item.base)
            wanted = edit.apply(document, base).data
            stored = edit_to_json(sealed_patch(data, wanted if wanted is not None else data))
        return Numbered(each.number, replace(each.item, base=version), stored)

    async def apply(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        (each,) = items
        write = self._write_at_pin(proposal, each)
        try:
            outcome = await self.writer.write(write)
        except (StaleWrite, WriteConflict):
            pass
        except (Unavailable, OutcomeUnknown, WriteClosed):
            raise
        except PilothouseError:
            # It might pass a moment later, for another holder: not once it is said to have failed.
            await self.writer.close_key(write)
            raise
        else:
            return {each.number: _outcome(outcome)}
        await self.follower.catch_up()
        if (written := await self._find_written(proposal, each)) is not None:
            return {each.number: written}
        # Read before the keys are compared: a version after it sends the writer back once more.
        pin = await self.current_version(each.item)
        if stale := await self.stale_keys(each.item):
            detail = f"changed since version {each.item.base}: {', '.join(stale)[:500]}"
            return {each.number: ItemOutcome("stale", code="proposal_stale", detail=detail)}
        raise PinMoved({each.number: pin})

    def _write_at_pin(self, proposal: Proposal, each: Numbered) -> Write:
        item = each.item
        assert item.pin is not None
        key = f"proposal/{proposal.id}/{proposal.round}/{each.number}"
        # As `If-Match` has it: a document that is deleted has no version. A pin that is not the
        # newest version is refused by the writer.
        pointer = self.reader.pointer(_document(item))
        is_deleted = pointer is not None and pointer.version == item.pin and pointer.deleted
        return replace(
            self._write(proposal.id, each),
            comment=version_comment(proposal, each.number),
            expected=IfMatch(is_stated=True, versions=frozenset({0 if is_deleted else item.pin})),
            idempotency=Idempotency(key, json.dumps(each.stored, sort_keys=True)),
        )

    def _write(self, proposal_id: str, each: Numbered) -> Write:
        return Write(
            _document(each.item),
            edit_from_json(each.stored),
            f"proposal:{proposal_id}",
            f"proposal:{proposal_id}",
            replaces=each.item.operation in {"replace", "restore"},
            authority=Authority(proposal=proposal_id or "preview"),
            may_read=lambda _: True,
        )

    async def _find_written(self, proposal: Proposal, each: Numbered) -> ItemOutcome | None:
        """Find the version that this item has become, which the log's own keys name for a day."""
        assert each.item.pin is not None
        comment = version_comment(proposal, each.number)
        actor = f"proposal:{proposal.id}"
        version = await self.find_version(each.item, each.item.pin, actor, comment)
        return ItemOutcome("applied", version) if version else None

    async def find_version(self, item: ProposalItem, after: int, actor: str, comment: str) -> int:
        """Return the first later version that an actor has written with a comment, 0 if none."""
        document = _document(item)
        for version in range(after + 1, await self.current_version(item) + 1):
            body = await self._version(document, version)
            if body is not None and (body.change.actor, body.change.comment) == (actor, comment):
                return version
        return 0

    async def undo(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        (each,) = items
        outcome = each.item.outcome
        assert outcome is not None
        document = _document(each.item)
        before = await self._version(document, outcome.version - 1)
        edit: Edit = DeleteDocument()
        if before is not None and not before.deleted:
            edit = RestoreVersion.of(before)
        key = f"proposal/{proposal.id}/{proposal.round}/{each.number}/undo"
        write = Write(
            document,
            edit,
            f"proposal:{proposal.id}",
            f"proposal:{proposal.id}",
            comment=f"undo: {version_comment(proposal, each.number)}",
            expected=IfMatch(
                is_stated=True,
                versions=frozenset({0 if each.item.operation == "delete" else outcome.version}),
            ),
            replaces=True,
            idempotency=Idempotency(key, key),
            authority=Authority(proposal=proposal.id),
        )
        try:
            undone = await self.writer.write(write)
        except StaleWrite:
            return {each.number: replace(outcome, code="written_since")}
        version = undone.body.version if undone.body is not None else outcome.version
        return {each.number: ItemOutcome("undone", version, undone.revision)}


def _document(item: ProposalItem) -> DocumentId:
    target = item.target
    return DocumentId(target.environment, target.service, target.name or None)


def _may_read(caller: Caller) -> Callable[[Any], bool]:
    return lambda pair: caller.may(Right.READ_CONFIGS, pair.environment, pair.service)


def _is_large(base: Body | None) -> bool:
    return base is not None and base.size > LARGE_TEXT


def _flaw(number: int, error: PilothouseError) -> Mapping[str, object]:
    return {"pointer": f"#/items/{number}", "detail": str(error), "code": error.code}


def _outcome(outcome: Outcome) -> ItemOutcome:
    version = outcome.body.version if outcome.body is not None else 0
    state = "applied" if outcome.changed else "unchanged"
    return ItemOutcome(state, version, outcome.revision)  # type: ignore[arg-type]
