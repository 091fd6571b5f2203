"""Judging of writes: every effective configuration that they change, by the schemas there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.changes.model import Guard
from app.configs.checks.errors import RuleUndecided, SchemaViolated, TooManyAffected
from app.configs.checks.secret_places import seal_secret_places
from app.configs.documents.effective import EffectiveReader
from app.configs.documents.pairs import Services, pairs_of
from app.configs.model import BASE, SHARED, Body, DocumentId, Draft, layers_of
from app.configs.secrets import MASK, ToSeal
from app.rules.errors import RulesUnavailable, SchemaTooCostly
from app.rules.judging.judge import Judge
from app.rules.judging.model import Case, Judgement, Pair
from app.workers import LARGE_TEXT, Slices, run_apart
from pilothouse_core.layers import merged_data
from pilothouse_core.trees import SECRET, Tree, is_section

MOST_PAIRS = 500
_MASKED = {SECRET: MASK}
Changes = Mapping[DocumentId, Draft]
NOTHING_FOUND = Judgement()


@dataclass(frozen=True, slots=True)
class DocumentJudge:
    judge: Judge
    layers: EffectiveReader

    @property
    def revision(self) -> int:
        """How far the log was followed: what a judgement that begins now is based on."""
        return self.layers.reader.follower.revision

    def guard(self, document: DocumentId, revision: int) -> Guard:
        """Return the guard of a write that was judged from `revision` on."""
        reaching = self.judge.catalog.schemas_reaching(document.environment, document.service)
        return Guard(revision, covers_related=reaching.has_enforced)

    def seal_secrets(
        self, document: DocumentId, base: Body | None, draft: Draft, *, refuse: bool = True
    ) -> Draft:
        """Return a draft in which plain values at secret places are to be sealed.

        Raises SecretInPlain where a schema has them refused instead, if they are to be refused.
        """
        reaching = self.judge.catalog.schemas_reaching(document.environment, document.service)
        return seal_secret_places(reaching.with_secrets, document, base, draft, refuse=refuse)

    def secret_keys(self, document: DocumentId, data: Tree) -> Sequence[str]:
        """Return the keys of data for a document that are secret by a schema."""
        reaching = self.judge.catalog.schemas_reaching(document.environment, document.service)
        return [
            key
            for schema, at in reaching.with_secrets
            for key in schema.compiled.walk.secret_keys(data, at)
        ]

    async def check(self, changes: Changes) -> Judgement:
        """Judge what drafts make of every configuration; raises SchemaViolated for new errors.

        A rollback is only warned of, and not even that if it cannot be judged: the verifier finds
        what it breaks. Raises also TooManyAffected, and what `Judge.judge` raises.
        """
        is_rollback = all(draft.action == "rolled_back" for draft in changes.values())
        try:
            judgement = await self.judgement(changes)
        except (RulesUnavailable, SchemaTooCostly, TooManyAffected):
            if not is_rollback:
                raise
            return NOTHING_FOUND
        if not judgement.errors:
            return judgement
        if is_rollback:
            return Judgement((), judgement.errors + judgement.warnings, judgement.affected)
        if all(each.is_undecided for each in judgement.errors):
            raise RuleUndecided(judgement)
        raise SchemaViolated(judgement)

    async def judgement(self, changes: Changes) -> Judgement:
        """Judge what drafts make of every configuration that they change."""
        if not self.judge.catalog.has_schemas or not changes:
            return NOTHING_FOUND
        pairs = self._limited_pairs(self.judged_pairs(changes))
        return await self.judge.judge(await self.cases(pairs, changes))

    def _limited_pairs(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Return as many pairs as are judged at once, all those with an enforced schema.

        What a schema only warns of refuses nothing: the verifier finds what is left out here.
        Raises TooManyAffected.
        """
        if len(pairs) <= MOST_PAIRS:
            return pairs
        enforced = [pair for pair in pairs if self._has_enforced_schema(pair)]
        if len(enforced) > MOST_PAIRS:
            raise TooManyAffected(len(enforced), MOST_PAIRS)
        return enforced or pairs[:MOST_PAIRS]

    def _has_enforced_schema(self, pair: Pair) -> bool:
        schemas = self.judge.catalog.schemas_of(pair.environment, pair.service)
        return any(schema.is_enforced for schema, _ in schemas)

    def judged_pairs(self, changes: Changes) -> list[Pair]:
        """Return the judged pairs to which the changed documents contribute."""
        catalog = self.judge.catalog
        reaching = (catalog.schemas_reaching(each.environment, each.service) for each in changes)
        if not any(each.mounted for each in reaching):
            return []
        return pairs_of(
            self._services_after(changes),
            changes,
            lambda environment, service: bool(catalog.schemas_of(environment, service)),
        )

    def reached_pairs(self, changes: Changes) -> list[Pair]:
        """Return every pair of a real environment and service to which they contribute.

        Also those of the changed documents themselves.
        """
        return pairs_of(
            self._services_after(changes),
            changes,
            lambda environment, service: (
                (environment != BASE and service != SHARED)
                or DocumentId(environment, service) in changes
            ),
        )

    async def trees(self, pair: Pair, changes: Changes) -> tuple[Tree, Tree, int]:
        """Return a configuration before and after changes, and the characters of its layers.

        New secrets in it are still to be sealed, and stored ones are ciphertext.
        """
        addressed = DocumentId(pair.environment, pair.service, pair.user)
        before = await self.layers.effective(addressed, with_secrets=True)
        drafts = {
            document: _DraftTrees(
                None if draft.deleted else draft.data, None, has_new_secrets=False
            )
            for document, draft in changes.items()
        }
        is_large = before.size > LARGE_TEXT
        after = await run_apart(
            is_large, _merge_layers, addressed, before.bodies, drafts, masked=False
        )
        return before.merged.data, after, before.size

    def _services_after(self, changes: Changes) -> Services:
        exists = {document: not draft.deleted for document, draft in changes.items()}
        return self.layers.present.services_after(exists)

    async def cases(self, pairs: Sequence[Pair], changes: Changes) -> list[Case]:
        """Read and merge the configurations of pairs as the changes make them."""
        slices = Slices()
        drafts = {document: _draft_trees(draft) for document, draft in changes.items()}
        addressed = [DocumentId(pair.environment, pair.service, pair.user) for pair in pairs]
        bodies = await self.layers.bodies(addressed)
        cases: list[Case] = []
        for pair, document in zip(pairs, addressed, strict=True):
            await slices.rest()
            layers = {layer: bodies[layer] for layer in layers_of(document) if layer in bodies}
            cases.append(await self._case(pair, document, layers, drafts))
        return cases

    async def _case(
        self,
        pair: Pair,
        addressed: DocumentId,
        bodies: Mapping[DocumentId, Body],
        drafts: "Mapping[DocumentId, _DraftTrees]",
    ) -> Case:
        is_large = sum(body.size for body in bodies.values()) > LARGE_TEXT
        tree = await run_apart(is_large, _merge_layers, addressed, bodies, drafts, masked=False)
        masked = tree
        if any(each.has_new_secrets for each in drafts.values()):
            masked = await run_apart(
                is_large, _merge_layers, addressed, bodies, drafts, masked=True
            )
        # What a configuration lacks that does not exist yet has not stood before.
        existed = any(layer.service == pair.service for layer in bodies)
        before = partial(self._merged_before, addressed, bodies) if existed else None
        return Case(pair, tree, masked, before)

    async def _merged_before(
        self, addressed: DocumentId, bodies: Mapping[DocumentId, Body]
    ) -> Tree:
        is_large = sum(body.size for body in bodies.values()) > LARGE_TEXT
        return await run_apart(is_large, _merge_layers, addressed, bodies, {}, masked=True)


@dataclass(frozen=True, slots=True)
class _DraftTrees:
    """What a draft makes of one layer: None if it is deleted. New secrets plain, and masked."""

    plain: Tree | None
    masked: Tree | None
    has_new_secrets: bool


def _draft_trees(draft: Draft) -> _DraftTrees:
    if draft.deleted or draft.data is None:
        return _DraftTrees(None, None, has_new_secrets=False)
    if not _holds_new_secret(draft.data):
        return _DraftTrees(draft.data, draft.data, has_new_secrets=False)
    plain = _replace_new_secrets(draft.data, lambda secret: secret.value)
    masked = _replace_new_secrets(draft.data, lambda _: _MASKED)
    return _DraftTrees(plain, masked, has_new_secrets=True)


def _merge_layers(
    addressed: DocumentId,
    bodies: Mapping[DocumentId, Body],
    drafts: Mapping[DocumentId, _DraftTrees],
    *,
    masked: bool,
) -> Tree:
    layers: list[Tree] = []
    for layer in layers_of(addressed):
        if layer in drafts:
            data = drafts[layer].masked if masked else drafts[layer].plain
        else:
            body = bodies.get(layer)
            data = None if body is None or body.deleted else body.data
        if data is not None:
            layers.append(data)
    return merged_data(layers)


def _holds_new_secret(value: Any) -> bool:
    if isinstance(value, ToSeal):
        return True
    if isinstance(value, dict):
        return any(map(_holds_new_secret, value.values()))
    return isinstance(value, list) and any(map(_holds_new_secret, value))


def _replace_new_secrets(value: Any, replacement: Callable[[ToSeal], Any]) -> Any:
    if isinstance(value, ToSeal):
        return replacement(value)
    if is_section(value):
        return {name: _replace_new_secrets(inner, replacement) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replace_new_secrets(inner, replacement) for inner in value]
    return value
