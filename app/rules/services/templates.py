"""The use cases of templates, except those that read or write documents."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from app.audit.fingerprints import Fingerprints
from app.changes.model import Action
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.model import (
    Definition,
    DefinitionCommit,
    DefinitionEdit,
    Scope,
    entity,
)
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import (
    BadTemplateName,
    DefinitionMoved,
    DefinitionsUnavailable,
    StaleTemplate,
    TemplateNotFound,
    TemplateVersionNotFound,
)
from app.rules.templates.reading import Template, read_template, template_text
from app.web.conditional import ANY_VERSION, IfMatch
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.names import is_name

RESERVED_NAMES: Final = frozenset({"export", "for", "import"})
_ATTEMPTS: Final = 5  # of a change that other changes overtake
_MOST_KEPT: Final = 100  # versions that are read ready to be rendered


@dataclass(frozen=True, slots=True)
class TemplateRequest:
    """The actor and reason of a change, and the versions that it may follow (If-Match).

    `allow` raises where the actor may not change what applies in these scopes.
    """

    actor: str
    comment: str
    request_id: str
    allow: Callable[[Sequence[Scope]], None] = field(repr=False, compare=False)
    expected: IfMatch = ANY_VERSION
    source: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateWritten:
    """The current version; `changed` is false if the template said the same already."""

    definition: Definition
    changed: bool = True


class TemplateService:
    def __init__(
        self, store: DefinitionStore, catalog: DefinitionCatalog, fingerprints: Fingerprints
    ) -> None:
        self.catalog = catalog
        self._store = store
        self._fingerprints = fingerprints
        self._ready: OrderedDict[tuple[str, int], Template] = OrderedDict()

    def newest(self, name: str) -> Definition | None:
        """Return the newest version, which may be a deletion; None if there never was one."""
        return self.catalog.definition("template", name)

    def list_current(self) -> Sequence[Definition]:
        """Return the templates that are not deleted, by name."""
        return self.catalog.live("template")

    def current(self, name: str) -> Definition:
        """Return a template that is not deleted; raises TemplateNotFound."""
        template = self.newest(name)
        if template is None or template.is_deleted:
            raise TemplateNotFound(name, (each.name for each in self.list_current()))
        return template

    async def newest_current(self, name: str) -> Definition:
        """The same, but nothing is missing because this replica has not followed yet."""
        try:
            return self.current(name)
        except TemplateNotFound:
            await self.catalog.refresh()
            return self.current(name)

    async def history(
        self, name: str, limit: int, before: int | None = None
    ) -> Sequence[Definition]:
        """Return versions below `before`, newest first; raises TemplateNotFound."""
        versions = await self._store.history("template", name, limit, before)
        if not versions and before is None:
            raise TemplateNotFound(name, (each.name for each in self.list_current()))
        return versions

    async def version(self, name: str, version: int) -> Definition:
        """Return one version, which may be a deletion; raises TemplateVersionNotFound."""
        newest = self.newest(name)
        if newest is not None and newest.version == version:
            return newest
        versions = await self._store.history("template", name, 1, version + 1)
        if not versions or versions[0].version != version:
            raise TemplateVersionNotFound(name, version)
        return versions[0]

    async def undeleted_version(self, name: str, version: int) -> Definition:
        """Return one version with content; raises TemplateVersionNotFound."""
        definition = await self.version(name, version)
        if definition.is_deleted:
            raise TemplateVersionNotFound(name, version)
        return definition

    async def ready_version(self, name: str, version: int) -> Template:
        """Return one version ready to be rendered.

        Raises TemplateVersionNotFound, and TemplateInvalid for a version that only a newer release
        can read.
        """
        template = self._ready.get((name, version))
        if template is None:
            text = (await self.undeleted_version(name, version)).text
            template = await run_apart(len(text) > LARGE_TEXT, read_template, text)
            self._ready[name, version] = template
            if len(self._ready) > _MOST_KEPT:
                self._ready.popitem(last=False)
        else:
            self._ready.move_to_end((name, version))
        return template

    async def put(
        self, name: str, body: Mapping[str, Any], request: TemplateRequest
    ) -> TemplateWritten:
        """Create or replace a template; nothing is written if it says the same already.

        Raises BadTemplateName, TemplateInvalid, SecretInTemplate, StaleTemplate,
        DefinitionsUnavailable, and what `allow` raises.
        """
        request.allow(scopes_of_body(body))
        if not is_name(name) or name in RESERVED_NAMES:
            raise BadTemplateName(name)
        text = template_text(body)
        await run_apart(len(text) > LARGE_TEXT, read_template, text)
        return await self._write(name, text, "updated", request)

    async def roll_back(
        self, name: str, old: Definition, request: TemplateRequest
    ) -> TemplateWritten:
        """Write an earlier version again, after a deletion too; raises as `put`."""
        request.allow(scopes_of(old))
        await run_apart(len(old.text) > LARGE_TEXT, read_template, old.text)
        return await self._write(name, old.text, "rolled_back", request)

    async def delete(self, name: str, request: TemplateRequest) -> Definition:
        """Delete a template; raises TemplateNotFound and StaleTemplate.

        Documents that have used it keep their keys.
        """
        return (await self._write(name, "", "deleted", request)).definition

    async def _write(
        self, name: str, text: str, action: Action, request: TemplateRequest
    ) -> TemplateWritten:
        """Write the next version on top of the newest; others may write in between."""
        await self.catalog.refresh()  # this replica may lag: nothing is refused for what it lacks
        version = 0
        for _ in range(_ATTEMPTS):
            newest = self.newest(name)
            present = None if newest is None or newest.is_deleted else newest
            request.allow(scopes_of(present))
            version = 0 if present is None else present.version
            if not request.expected.allows(version):
                raise StaleTemplate(name, version)
            if present is not None and present.text == text:
                return TemplateWritten(present, changed=False)
            if present is None and action == "deleted":
                raise TemplateNotFound(name, (each.name for each in self.list_current()))
            made: Action = "created" if present is None and action == "updated" else action
            edit = DefinitionEdit(
                "template",
                name,
                newest.version if newest is not None else 0,
                text,
                made,
                facts=self._facts(name, present, text),
            )
            try:
                (written,) = await self._store.commit(_commit(edit, request))
            except DefinitionMoved:
                await self.catalog.refresh()
                continue
            with suppress(DefinitionsUnavailable):  # it was written: the log brings it too
                await self.catalog.refresh()
            return TemplateWritten(written)
        raise DefinitionMoved("template", name, version)

    def _facts(self, name: str, present: Definition | None, text: str) -> Mapping[str, str | None]:
        """Return the fingerprints of the change, for the audit."""
        path = entity("template", name).key
        before = None if present is None else f"{path}\0{present.text}"
        return self._fingerprints.facts(before, f"{path}\0{text}" if text else None)


def _commit(edit: DefinitionEdit, request: TemplateRequest) -> DefinitionCommit:
    return DefinitionCommit(
        [edit], request.actor, request.comment, request.request_id, request.source
    )


def scopes_of(definition: Definition | None) -> Sequence[Scope]:
    """Return where a version may be used, nowhere for a deletion."""
    if definition is None or definition.is_deleted:
        return ()
    return scopes_of_body(json.loads(definition.text))


def scopes_of_body(body: Mapping[str, Any]) -> Sequence[Scope]:
    """Return where a template may be used by its body; everywhere if it does not say."""
    return tuple(
        Scope(tuple(each.get("environments", ["*"])), tuple(each.get("services", ["*"])))
        for each in body.get("applies_to") or [{}]
    )
