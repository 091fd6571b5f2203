"""Previews of writes: what they would change in their layer and in effective configurations."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from app.configs.checks.errors import SchemaViolated, SecretInPlain
from app.configs.documents.attempt import Notice, Write
from app.configs.documents.composer import VersionComposer
from app.configs.documents.document_judge import Changes, DocumentJudge
from app.configs.documents.drafter import Drafter
from app.configs.documents.edits import PatchKeys
from app.configs.errors import CredentialInPlainValue
from app.configs.model import Body, DocumentId, Draft, layers_of
from app.configs.secrets import MASK, ToSeal, map_items, mask_secrets
from app.errors import PilothouseError
from app.rules.definitions.model import Scope
from app.rules.judging.model import Judgement, Pair, Problem
from app.rules.policies.enforcement import Policies
from app.workers import LARGE_TEXT, Slices, is_large_request, run_apart
from pilothouse_core.diff import Diff, diff
from pilothouse_core.trees import SECRET

MOST_PAIR_DIFFS = 100
MOST_CHARACTERS = 4 * 1024 * 1024  # of their diffs, after which no other follows
NO_DIFF = Diff({}, {}, {})


@dataclass(frozen=True, slots=True)
class Preview:
    """What a write would do; nothing was written. Secrets in diffs are masked.

    `effective`: the first MOST_PAIR_DIFFS configurations that change and that the writer may read;
    `affected`: how many change in all. `version` is that of the layer before the write.
    """

    document: DocumentId
    version: int
    is_changed: bool
    changes: Diff
    effective: Sequence[tuple[Pair, Diff]] = ()
    affected: int = 0
    notices: Sequence[Notice] = ()
    proposal_needed: str | None = None  # the policy that asks for it


@dataclass(frozen=True, slots=True)
class Validation:
    """What would be found in all that several changes reach, were they written together.

    `refused`: what keeps a change from being written at all, whatever the schemas say.
    """

    judgement: Judgement
    refused: Sequence[tuple[int, PilothouseError]] = ()

    @property
    def is_valid(self) -> bool:
        return not self.judgement.errors and not self.refused


@dataclass(frozen=True, slots=True)
class PreviewService:
    drafter: Drafter
    judge: DocumentJudge
    composer: VersionComposer
    policies: Policies | None = None

    async def preview(self, write: Write) -> Preview:
        """Say what a write would change; raises what writing it would raise."""
        base, draft = await self.draft(write)
        version = base.version if base is not None and not base.deleted else 0
        if draft.data is None:
            return Preview(write.document, version, is_changed=False, changes=NO_DIFF)
        changes = {write.document: draft}
        problems = await self.check(changes, write.may_read)
        shown = await run_apart(_is_large(base), draft_diff, base, draft)
        effective, affected = await self._effective_diffs(changes, write.may_read)
        warnings = (each for each in problems if write.may_read(each.pair))
        return Preview(
            write.document,
            version,
            is_changed=True,
            changes=shown,
            effective=effective,
            affected=affected,
            notices=(*draft.findings, *warnings),
            proposal_needed=await self._asking_policy(write, draft),
        )

    async def _asking_policy(self, write: Write, draft: Draft) -> str | None:
        """Return the policy by which the write would be refused, None if none would."""
        if self.policies is None:
            return None
        scopes = [Scope((write.document.environment,), (write.document.service,))]
        is_rollback = draft.action == "rolled_back"
        return await self.policies.asking_policy("config", scopes, is_rollback=is_rollback)

    async def draft(self, write: Write) -> tuple[Body | None, Draft]:
        """Return a draft and what it is based on; raises what drafting and composing raise."""
        base, draft = await self.drafter.draft(write)
        if draft.data is not None:
            await self.composer.check_size(write, draft, base)
        return base, draft

    async def check(self, changes: Changes, may_read: Callable[[Pair], bool]) -> Sequence[Problem]:
        """Judge drafts that are written together; returns warnings, raises as `preview`."""
        try:
            judgement = await self.judge.check(changes)
        except SchemaViolated as error:
            raise error.shown_to(may_read) from None
        return [each for each in judgement.warnings if may_read(each.pair)]

    async def validate(self, writes: Sequence[Write]) -> Validation:
        """Judge changes that are written together, one for each document."""
        drafts: dict[DocumentId, Draft] = {}
        refused: list[tuple[int, PilothouseError]] = []
        for number, write in enumerate(writes):
            try:
                _, draft = await self.draft(write)
            except (CredentialInPlainValue, SecretInPlain) as error:
                refused.append((number, error))
                continue
            if draft.data is not None:
                drafts[write.document] = draft
        return Validation(await self.judge.judgement(drafts), refused)

    async def _effective_diffs(
        self, changes: Changes, may_read: Callable[[Pair], bool]
    ) -> tuple[Sequence[tuple[Pair, Diff]], int]:
        """Return what changes in configurations that may be read, and how many change.

        Of large changes fewer configurations are returned than MOST_PAIR_DIFFS.
        """
        slices = Slices()
        pairs = self.judge.reached_pairs(changes)
        diffs: list[tuple[Pair, Diff]] = []
        shown = 0
        for pair in islice((each for each in pairs if may_read(each)), MOST_PAIR_DIFFS):
            await slices.rest()
            before, after, size = await self.judge.trees(pair, changes)
            changed = await run_apart(size > LARGE_TEXT, _masked_diff, before, after)
            if changed.count:
                diffs.append((pair, changed))
                shown += await run_apart(size > LARGE_TEXT, _characters, changed)
            if shown > MOST_CHARACTERS:
                break
        return diffs, len(pairs)


def _characters(shown: Diff) -> int:
    return len(json.dumps([shown.added, shown.removed, shown.changed], ensure_ascii=False))


def patch_of(set_keys: Mapping[str, Any], unset: Sequence[str]) -> PatchKeys:
    return PatchKeys(set_keys, tuple(unset))


def _is_large(base: Body | None) -> bool:
    return is_large_request() or (base is not None and base.size > LARGE_TEXT)


def draft_diff(base: Body | None, draft: Draft) -> Diff:
    """Return what a draft changes in its layer, secrets masked."""
    before = base.data if base is not None else {}
    return _masked_diff(before, {} if draft.deleted else draft.data or {})


def contributes_to(document: DocumentId, pair: Pair) -> bool:
    return document in layers_of(DocumentId(pair.environment, pair.service, pair.user))


def _masked_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> Diff:
    plain = diff(before, after)
    return Diff(
        added={key: _mask_value(value) for key, value in plain.added.items()},
        removed={key: _mask_value(value) for key, value in plain.removed.items()},
        changed={
            key: (_mask_value(old), _mask_value(new)) for key, (old, new) in plain.changed.items()
        },
    )


def _mask_value(value: Any) -> Any:
    if isinstance(value, ToSeal):
        return {SECRET: MASK}
    if isinstance(value, list) and value:
        return map_items(value, "", lambda _, item: _mask_value(item))
    return mask_secrets(value, fingerprints=False)
