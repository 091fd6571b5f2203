"""The use cases of templates, except those that read or write documents."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from app.audit.fingerprints import Fingerprints
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.model import Definition
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import (
    BadTemplateName,
    StaleTemplate,
    TemplateNotFound,
    TemplateVersionNotFound,
)
from app.rules.policies.enforcement import Policies
from app.rules.services.definitions import (
    RESERVED_NAMES,
    DefinitionErrors,
    DefinitionRequest,
    DefinitionService,
    DefinitionWritten,
    scopes_of_body,
)
from app.rules.templates.reading import Template, read_template, template_text
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.names import is_name

_MOST_KEPT: Final = 100  # versions that are read ready to be rendered
_ERRORS: Final = DefinitionErrors(
    BadTemplateName, TemplateNotFound, TemplateVersionNotFound, StaleTemplate
)


class TemplateService(DefinitionService):
    def __init__(
        self,
        store: DefinitionStore,
        catalog: DefinitionCatalog,
        policies: Policies,
        fingerprints: Fingerprints,
    ) -> None:
        super().__init__("template", _ERRORS, store, catalog, policies, fingerprints)
        self._ready: OrderedDict[tuple[str, int], Template] = OrderedDict()

    async def newest_current(self, name: str) -> Definition:
        """Do as `current`, but nothing is missing because this replica has not followed yet."""
        try:
            return self.current(name)
        except TemplateNotFound:
            await self.catalog.refresh()
            return self.current(name)

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
        self,
        name: str,
        body: Mapping[str, Any],
        request: DefinitionRequest,
        *,
        dry_run: bool = False,
    ) -> DefinitionWritten:
        """Create or replace a template; nothing is written if it says the same already.

        Raises BadTemplateName, TemplateInvalid, SecretInTemplate, StaleTemplate, ProposalNeeded,
        DefinitionsUnavailable, and what `allow` raises.
        """
        request.allow(scopes_of_body(body))
        if not is_name(name) or name in RESERVED_NAMES:
            raise BadTemplateName(name)
        text = template_text(body)
        await run_apart(len(text) > LARGE_TEXT, read_template, text)
        return await self.write(name, text, "updated", request, dry_run=dry_run)

    async def roll_back(
        self, name: str, old: Definition, request: DefinitionRequest
    ) -> DefinitionWritten:
        """Write an earlier version again, after a deletion too; raises as `put`."""
        request.allow(self.scopes_of(old.text))
        await run_apart(len(old.text) > LARGE_TEXT, read_template, old.text)
        return await self.write(name, old.text, "rolled_back", request)
