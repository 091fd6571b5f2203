"""The use cases of schemas: created, changed and removed, each judged by what exists."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from app.audit.fingerprints import Fingerprints
from app.changes.errors import GuardMoved, RelatedIntentOpen
from app.errors import Unavailable
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.model import (
    Definition,
    DefinitionCommit,
    DefinitionEdit,
    Scope,
)
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import (
    BadSchemaName,
    DefaultsContradict,
    DefinitionContended,
    DefinitionMoved,
    RuleInvalid,
    SchemaNotFound,
    SchemaVersionNotFound,
    StaleSchema,
)
from app.rules.judging.configurations import Configurations
from app.rules.judging.errors import SchemaNotMet
from app.rules.judging.judge import Judge
from app.rules.judging.model import Case, Pair, Problem
from app.rules.policies.enforcement import Policies, count_bypass
from app.rules.policies.model import NO_AUTHORITY, Authority
from app.rules.schemas.reading import Schema, can_meet, read_schema, schema_text
from app.rules.services.definitions import (
    RESERVED_NAMES,
    commit_of,
    scopes_of_body,
    unwritten_version,
)
from app.web.conditional import ANY_VERSION, IfMatch
from app.workers import LARGE_TEXT, Slices, run_apart
from pilothouse_core.names import is_name
from pilothouse_core.schema_defaults import BadDefault, combined_defaults
from pilothouse_core.trees import is_secret, node_at

_Result = TypeVar("_Result")
JUDGE_SECONDS = 2.0
_PAUSE_SECONDS = 0.02
_AT_ONCE = 200  # configurations, whose rules share the time of one question


@dataclass(frozen=True, slots=True)
class SchemaRequest:
    """Who changes a schema and why, and the versions that the change may follow (If-Match).

    `allow` raises Denied if the caller may not replace what the schema says now.
    """

    actor: str
    comment: str
    request_id: str
    expected: IfMatch = ANY_VERSION
    source: str | None = None
    allow: Callable[[Definition | None], None] = lambda _: None
    authority: Authority = NO_AUTHORITY  # where a policy asks for a proposal


@dataclass(frozen=True, slots=True)
class Judged:
    """What a schema finds in what exists: pairs judged, and problems, which only warn.

    `plain_secrets`: keys of layers at which a plain value lies where a secret should be.
    """

    pairs: int = 0
    problems: tuple[Problem, ...] = ()
    plain_secrets: tuple[tuple[Pair, str], ...] = ()

    @property
    def violating(self) -> int:
        return len({each.pair for each in self.problems})


@dataclass(frozen=True, slots=True)
class SchemaWritten:
    definition: Definition
    judged: Judged = field(default_factory=Judged)
    changed: bool = True
    proposal_needed: str | None = None  # of a dry run, the policy that would refuse it


@dataclass(slots=True)
class _Verdicts:
    """What a schema finds in each pair, and up to which revision each was judged."""

    problems: dict[Pair, tuple[Problem, ...]] = field(default_factory=dict)
    judged_at: dict[Pair, int] = field(default_factory=dict)

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        return tuple(each for _, problems in sorted(self.problems.items()) for each in problems)


class SchemaService:
    def __init__(
        self,
        store: DefinitionStore,
        catalog: DefinitionCatalog,
        judge: Judge,
        configurations: Configurations,
        policies: Policies,
        fingerprints: Fingerprints,
    ) -> None:
        self.catalog = catalog
        self._store = store
        self._judge = judge
        self._configurations = configurations
        self._policies = policies
        self._fingerprints = fingerprints

    def current(self, name: str) -> Definition:
        """Return a schema that is not deleted; raises SchemaNotFound."""
        schema = self.catalog.definition("schema", name)
        if schema is None or schema.is_deleted:
            raise SchemaNotFound(name)
        return schema

    async def history(
        self, name: str, limit: int, before: int | None = None
    ) -> Sequence[Definition]:
        """Return versions below `before`, newest first; raises SchemaNotFound."""
        versions = await self._store.history("schema", name, limit, before)
        if not versions and before is None:
            raise SchemaNotFound(name)
        return versions

    async def version(self, name: str, version: int) -> Definition:
        """Return one version; raises SchemaVersionNotFound."""
        versions = await self._store.history("schema", name, 1, version + 1)
        if not versions or versions[0].version != version:
            raise SchemaVersionNotFound(name, version)
        return versions[0]

    async def catch_up(self) -> None:
        """Follow to the newest schemas and configurations, before a schema is changed.

        Nothing is refused or taken for done for what this replica has not followed yet. Raises
        DefinitionsUnavailable and LogUnavailable.
        """
        await self.catalog.refresh()
        await self._configurations.catch_up()

    async def put(
        self, name: str, body: Mapping[str, Any], request: SchemaRequest, *, dry_run: bool = False
    ) -> SchemaWritten:
        """Create or replace a schema; nothing is written if it says the same already.

        Raises BadSchemaName, SchemaInvalid, RuleInvalid, DefaultsContradict, StaleSchema,
        SchemaNotMet where what exists does not meet an enforced schema, DefinitionContended if it
        changes faster than it is judged, DefinitionMoved if the schema does, DefinitionsUnavailable
        and RulesUnavailable.
        """
        if not is_name(name) or name in RESERVED_NAMES:
            raise BadSchemaName(name)
        text = schema_text(name, body)
        return await self._put_text(name, text, "updated", request, dry_run=dry_run)

    async def undeleted_version(self, name: str, version: int) -> Definition:
        """Return one version with content; raises SchemaVersionNotFound."""
        definition = await self.version(name, version)
        if definition.is_deleted:
            raise SchemaVersionNotFound(name, version)
        return definition

    async def roll_back(self, name: str, old: Definition, request: SchemaRequest) -> SchemaWritten:
        """Write an earlier version again; raises as `put`."""
        return await self._put_text(name, old.text, "rolled_back", request)

    async def delete(self, name: str, request: SchemaRequest) -> Definition:
        """Remove a schema; raises SchemaNotFound, StaleSchema and DefinitionMoved."""

        async def attempt() -> Definition:
            current = self.current(name)
            self._refuse_unexpected(name, current, request)
            edit = DefinitionEdit("schema", name, current.version, "", "deleted")
            return await self._commit(await self._allowed_commit(edit, request, current))

        return await self._repeat(attempt)

    async def check(self, name: str, text: str, version: int) -> Schema:
        """Return the schema of a text, ready to judge; raises as `put`."""
        schema = await run_apart(len(text) > LARGE_TEXT, _compile, name, version, text)
        flaws = await self._judge.rules.compile([rule.expression for rule in schema.rules])
        for rule, flaw in zip(schema.rules, flaws, strict=True):
            if flaw is not None:
                raise RuleInvalid(f"/schema{rule.pointer}/rule", flaw.reason, flaw.column)
        return schema

    async def _put_text(
        self, name: str, text: str, action: str, request: SchemaRequest, *, dry_run: bool = False
    ) -> SchemaWritten:
        return await self._repeat(
            lambda: self._put_on_newest(name, text, action, request, dry_run=dry_run)
        )

    async def _repeat(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Attempt a change again on top of each version that another request has written."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + JUDGE_SECONDS
        while True:
            try:
                return await attempt()
            except DefinitionMoved:
                if loop.time() > deadline:
                    raise
                await self.catalog.refresh()

    async def _put_on_newest(
        self, name: str, text: str, action: str, request: SchemaRequest, *, dry_run: bool
    ) -> SchemaWritten:
        former = self.catalog.definition("schema", name)
        self._refuse_unexpected(name, former, request)
        version = former.version if former is not None else 0
        schema = await self.check(name, text, version + 1)
        is_new = former is None or former.is_deleted
        if former is not None and not is_new and former.text == text:
            return SchemaWritten(former, await self._judge_all(schema), changed=False)
        await self._refuse_conflicting_defaults(schema)
        edit = DefinitionEdit(
            "schema",
            name,
            version,
            text,
            "created" if is_new else action,  # type: ignore[arg-type]
            tuple(each.scope for each in schema.applies_to),
        )
        if dry_run:
            judged = await self._judge_all(schema)
            _refuse_unmet(schema, judged.problems)
            asking = await self._policies.asking_policy("schema", _scopes_of_change(edit, former))
            unwritten = unwritten_version(edit, request, former)
            return SchemaWritten(unwritten, judged, proposal_needed=asking)
        commit = await self._allowed_commit(edit, request, former)
        return await self._commit_judged(commit, schema)

    async def _commit_judged(self, commit: DefinitionCommit, schema: Schema) -> SchemaWritten:
        """Judge every pair, and commit unless one has changed; then judge those again."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + JUDGE_SECONDS
        verdicts = _Verdicts()
        plain = await self._plain_secrets(schema)  # first: once it is written nothing may fail
        while True:
            judged_at = self._configurations.revision
            await self._judge_changed(schema, verdicts)
            _refuse_unmet(schema, verdicts.all_problems)
            if schema.is_enforced:
                scopes = commit.edits[0].scopes
                commit = replace(commit, judged_at=judged_at, judged=scopes)
            try:
                written = await self._commit(commit)
            except GuardMoved as moved:
                await self._configurations.follow(moved.revision)
            except RelatedIntentOpen:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                judged = Judged(len(verdicts.judged_at), verdicts.all_problems, plain)
                return SchemaWritten(written, judged)
            if loop.time() > deadline:
                raise DefinitionContended(schema.name)

    async def _judge_all(self, schema: Schema) -> Judged:
        verdicts = _Verdicts()
        await self._judge_changed(schema, verdicts)
        plain = await self._plain_secrets(schema)
        return Judged(len(verdicts.judged_at), verdicts.all_problems, plain)

    async def _judge_changed(self, schema: Schema, verdicts: _Verdicts) -> None:
        """Judge the pairs of a schema that have changed since their own verdict."""
        configurations = self._configurations
        revision = configurations.revision

        def covers(environment: str, service: str) -> bool:
            return any(True for _ in schema.mounts(environment, service))

        pairs = configurations.pairs(covers)
        verdicts.problems = {pair: verdicts.problems.get(pair, ()) for pair in pairs}
        changed = [
            pair
            for pair in pairs
            if configurations.newest_change(pair) > verdicts.judged_at.get(pair, -1)
        ]
        for begin in range(0, len(changed), _AT_ONCE):
            portion = changed[begin : begin + _AT_ONCE]
            slices = Slices()
            cases: list[Case] = []
            for pair in portion:
                await slices.rest()
                cases.append(await configurations.case(pair))
            by_case = await self._judge.problems(
                [(case, [(schema, at) for at in schema.mounts(*case.pair[:2])]) for case in cases]
            )
            for pair, problems in zip(portion, by_case, strict=True):
                verdicts.problems[pair] = tuple(problems)
                verdicts.judged_at[pair] = revision

    async def _plain_secrets(self, schema: Schema) -> tuple[tuple[Pair, str], ...]:
        """Return the keys of layers at which a plain value lies where a secret should be."""
        if not schema.compiled.walk.has_secrets:
            return ()

        def is_reached(environment: str, service: str) -> bool:
            return any(True for _ in schema.mounts_of_document(environment, service))

        places: list[tuple[Pair, str]] = []
        for document in self._configurations.layers(is_reached):
            data = await self._configurations.layer(document)
            for at in schema.mounts_of_document(*document[:2]):
                places += [
                    (document, key)
                    for key in schema.compiled.walk.secret_keys(data, at)
                    if not is_secret(node_at(data, key))
                ]
        return tuple(places)

    async def _refuse_conflicting_defaults(self, schema: Schema) -> None:
        """Raise DefaultsContradict if another schema has a different default for a key."""
        if not schema.has_defaults:
            return
        slices = Slices()
        for other in list(self.catalog.schemas.values()):
            await slices.rest()
            if other.name == schema.name or not other.has_defaults or not can_meet(schema, other):
                continue
            for at, defaults in schema.defaults.items():
                for other_defaults in other.defaults.values():
                    try:
                        combined_defaults([(schema.name, defaults), (other.name, other_defaults)])
                    except BadDefault as error:
                        raise DefaultsContradict(error.key, other.name, at) from error

    def _refuse_unexpected(
        self, name: str, current: Definition | None, request: SchemaRequest
    ) -> None:
        request.allow(current)
        version = 0 if current is None or current.is_deleted else current.version
        if not request.expected.allows(version):
            raise StaleSchema(name, version)

    async def _allowed_commit(
        self, edit: DefinitionEdit, request: SchemaRequest, former: Definition | None
    ) -> DefinitionCommit:
        """Return the commit of an edit; raises ProposalNeeded if a policy asks for one."""
        policies_at = self._policies.revision()
        authority_facts = await self._policies.check_direct(
            "schema",
            _scopes_of_change(edit, former),
            request.authority,
            is_rollback=edit.action == "rolled_back",
        )
        commit = commit_of(edit, former, request, authority_facts, self._fingerprints)
        return replace(commit, policies_at=policies_at)

    async def _commit(self, commit: DefinitionCommit) -> Definition:
        (written,) = await self._store.commit(commit)
        count_bypass(commit.edits[0].facts)
        with suppress(Unavailable):  # it is committed, whenever this replica follows
            await self._configurations.follow(written.revision)
        return written


def _compile(name: str, version: int, text: str) -> Schema:
    return read_schema(name, version, json.loads(text))


def _refuse_unmet(schema: Schema, problems: Sequence[Problem]) -> None:
    if schema.is_enforced and problems:
        raise SchemaNotMet(schema.name, problems)


def _scopes_of_change(edit: DefinitionEdit, former: Definition | None) -> Sequence[Scope]:
    """Return where a schema applies after a change, and where it did before."""
    texts = (edit.text, "" if former is None else former.text)
    return [scope for text in texts if text for scope in scopes_of_body(json.loads(text))]
