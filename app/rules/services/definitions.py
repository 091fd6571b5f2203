"""What templates and policies have in common: versions that are read, written and deleted."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from app.audit.fingerprints import Fingerprints
from app.changes.model import Action
from app.errors import PilothouseError
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.model import (
    Definition,
    DefinitionCommit,
    DefinitionEdit,
    Kind,
    Scope,
    entity,
)
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import DefinitionMoved, DefinitionsUnavailable
from app.rules.policies.enforcement import Policies, count_bypass
from app.rules.policies.model import NO_AUTHORITY, Authority
from app.web.conditional import ANY_VERSION, IfMatch

RESERVED_NAMES: Final = frozenset({"export", "for", "import"})
_ATTEMPTS: Final = 5  # of a change that other changes overtake


@dataclass(frozen=True, slots=True)
class DefinitionRequest:
    """The actor and reason of a change, and the versions that it may follow (If-Match).

    `allow` raises where the actor may not change what applies in these scopes.
    """

    actor: str
    comment: str
    request_id: str
    allow: Callable[[Sequence[Scope]], None] = field(repr=False, compare=False)
    expected: IfMatch = ANY_VERSION
    source: str | None = None
    authority: Authority = NO_AUTHORITY  # where a policy asks for a proposal


@dataclass(frozen=True, slots=True)
class DefinitionWritten:
    """The current version; `changed` is false if the definition said the same already.

    `proposal_needed`: of a dry run, the policy by which the change would be refused.
    """

    definition: Definition
    changed: bool = True
    proposal_needed: str | None = None


class ChangeRequest(Protocol):
    """What requests of every kind of definition state."""

    @property
    def actor(self) -> str: ...
    @property
    def comment(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def source(self) -> str | None: ...


class DefinitionErrors(NamedTuple):
    """The errors of one kind of definition, each made of its name and what else it needs."""

    bad_name: Callable[[str], PilothouseError]
    not_found: Callable[[str, Sequence[str]], PilothouseError]
    version_not_found: Callable[[str, int], PilothouseError]
    stale: Callable[[str, int], PilothouseError]


class DefinitionService:
    """The use cases of one kind, whose scopes are `scopes_of` a stored version."""

    def __init__(
        self,
        kind: Kind,
        errors: DefinitionErrors,
        store: DefinitionStore,
        catalog: DefinitionCatalog,
        policies: Policies,
        fingerprints: Fingerprints,
    ) -> None:
        self.kind: Kind = kind
        self.catalog = catalog
        self.policies = policies
        self._errors = errors
        self._store = store
        self._fingerprints = fingerprints

    def scopes_of(self, text: str) -> Sequence[Scope]:
        """Return where a stored version applies, nowhere for a deletion ("")."""
        return scopes_of_body(json.loads(text)) if text else ()

    def newest(self, name: str) -> Definition | None:
        """Return the newest version, which may be a deletion; None if there never was one."""
        return self.catalog.definition(self.kind, name)

    def list_current(self) -> Sequence[Definition]:
        """Return those that are not deleted, by name."""
        return self.catalog.live(self.kind)

    def current(self, name: str) -> Definition:
        """Return one that is not deleted; raises the NotFound of the kind."""
        definition = self.newest(name)
        if definition is None or definition.is_deleted:
            raise self._not_found(name)
        return definition

    async def history(
        self, name: str, limit: int, before: int | None = None
    ) -> Sequence[Definition]:
        """Return versions below `before`, newest first; raises the NotFound of the kind."""
        versions = await self._store.history(self.kind, name, limit, before)
        if not versions and before is None:
            raise self._not_found(name)
        return versions

    async def version(self, name: str, version: int) -> Definition:
        """Return one version, which may be a deletion; raises a VersionNotFound."""
        newest = self.newest(name)
        if newest is not None and newest.version == version:
            return newest
        versions = await self._store.history(self.kind, name, 1, version + 1)
        if not versions or versions[0].version != version:
            raise self._errors.version_not_found(name, version)
        return versions[0]

    async def undeleted_version(self, name: str, version: int) -> Definition:
        """Return one version with content; raises a VersionNotFound."""
        definition = await self.version(name, version)
        if definition.is_deleted:
            raise self._errors.version_not_found(name, version)
        return definition

    async def delete(self, name: str, request: DefinitionRequest) -> Definition:
        """Delete one; raises the NotFound and the Stale of the kind, and ProposalNeeded."""
        return (await self.write(name, "", "deleted", request)).definition

    async def write(
        self,
        name: str,
        text: str,
        action: Action,
        request: DefinitionRequest,
        *,
        dry_run: bool = False,
    ) -> DefinitionWritten:
        """Write the next version on top of the newest; others may write in between.

        Nothing is written if it says the same already, or in a dry run.
        """
        await self.catalog.refresh()  # this replica may lag: nothing is refused for what it lacks
        version = 0
        for _ in range(_ATTEMPTS):
            newest = self.newest(name)
            present = None if newest is None or newest.is_deleted else newest
            present_text = "" if present is None else present.text
            request.allow(self.scopes_of(present_text))
            version = 0 if present is None else present.version
            if not request.expected.allows(version):
                raise self._errors.stale(name, version)
            if present is not None and present.text == text:
                return DefinitionWritten(present, changed=False)
            if present is None and action == "deleted":
                raise self._not_found(name)
            made: Action = "created" if present is None and action == "updated" else action
            base = 0 if newest is None else newest.version
            asked_in = self.scopes_of(text) if self.kind == "policy" else ()
            edit = DefinitionEdit(self.kind, name, base, text, made, asked_in)
            scopes = (*self.scopes_of(present_text), *self.scopes_of(text))
            is_rollback = action == "rolled_back"
            if dry_run:
                asking = await self.policies.asking_policy(
                    self.kind, scopes, is_rollback=is_rollback
                )
                unwritten = unwritten_version(edit, request, newest)
                return DefinitionWritten(unwritten, proposal_needed=asking)
            try:
                written = await self._commit(edit, present, scopes, request)
            except DefinitionMoved:
                await self.catalog.refresh()
                continue
            with suppress(DefinitionsUnavailable):  # it was written: the log brings it too
                await self.catalog.refresh()
            return DefinitionWritten(written)
        raise DefinitionMoved(self.kind, name, version)

    async def _commit(
        self,
        edit: DefinitionEdit,
        present: Definition | None,
        scopes: Sequence[Scope],
        request: DefinitionRequest,
    ) -> Definition:
        policies_at = self.policies.revision()
        authority_facts = await self.policies.check_direct(
            edit.kind, scopes, request.authority, is_rollback=edit.action == "rolled_back"
        )
        commit = commit_of(edit, present, request, authority_facts, self._fingerprints)
        (written,) = await self._store.commit(replace(commit, policies_at=policies_at))
        count_bypass(authority_facts)
        return written

    def _not_found(self, name: str) -> PilothouseError:
        return self._errors.not_found(name, [each.name for each in self.list_current()])


def commit_of(
    edit: DefinitionEdit,
    former: Definition | None,
    request: ChangeRequest,
    authority_facts: Mapping[str, str],
    fingerprints: Fingerprints,
) -> DefinitionCommit:
    """Return the commit of one edit, with the fingerprints of both versions for the audit."""
    path = entity(edit.kind, edit.name).key
    before = None if former is None or former.is_deleted else f"{path}\0{former.text}"
    facts = fingerprints.facts(before, f"{path}\0{edit.text}" if edit.text else None)
    return DefinitionCommit(
        [replace(edit, facts={**facts, **authority_facts})],
        request.actor,
        request.comment,
        request.request_id,
        request.source,
    )


def unwritten_version(
    edit: DefinitionEdit, request: ChangeRequest, former: Definition | None
) -> Definition:
    """Return the version as it would be written now."""
    now = datetime.now(UTC)
    return Definition(
        edit.kind,
        edit.name,
        edit.base + 1,
        edit.text,
        edit.action,
        request.actor,
        request.comment,
        now,
        former.created_at if former is not None else now,
        0,
    )


def scopes_of_body(body: Mapping[str, Any]) -> Sequence[Scope]:
    """Return where a definition applies by its `applies_to`; everywhere if it does not say."""
    return tuple(
        Scope(tuple(each.get("environments", ["*"])), tuple(each.get("services", ["*"])))
        for each in body.get("applies_to") or [{}]
    )
