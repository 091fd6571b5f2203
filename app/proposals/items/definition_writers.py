"""How proposals write schemas, templates and policies: through their own services."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.proposals.items.definitions import DefinitionChange
from app.rules.definitions.model import Definition, Scope
from app.rules.services.definitions import DefinitionRequest, scopes_of_body
from app.rules.services.policies import PolicyService
from app.rules.services.schemas import SchemaRequest, SchemaService
from app.rules.services.templates import TemplateService


@dataclass(frozen=True, slots=True)
class SchemaWriter:
    schemas: SchemaService

    def scopes_of(self, text: str) -> Sequence[Scope]:
        return scopes_of_body(json.loads(text)) if text else ()

    async def put(
        self, name: str, body: Mapping[str, Any], change: DefinitionChange, *, dry_run: bool
    ) -> tuple[Definition, bool]:
        await self.schemas.catch_up()
        written = await self.schemas.put(name, body, _schema_request(change), dry_run=dry_run)
        return written.definition, written.changed

    async def delete(self, name: str, change: DefinitionChange) -> Definition:
        return await self.schemas.delete(name, _schema_request(change))


@dataclass(frozen=True, slots=True)
class ServiceWriter:
    """Of templates and of policies, whose services are alike."""

    service: TemplateService | PolicyService

    def scopes_of(self, text: str) -> Sequence[Scope]:
        return self.service.scopes_of(text)

    async def put(
        self, name: str, body: Mapping[str, Any], change: DefinitionChange, *, dry_run: bool
    ) -> tuple[Definition, bool]:
        written = await self.service.put(name, body, _request(change), dry_run=dry_run)
        return written.definition, written.changed

    async def delete(self, name: str, change: DefinitionChange) -> Definition:
        return await self.service.delete(name, _request(change))


def _schema_request(change: DefinitionChange) -> SchemaRequest:
    return SchemaRequest(
        change.actor,
        change.comment,
        change.request_id,
        change.expected,
        authority=change.authority,
    )


def _request(change: DefinitionChange) -> DefinitionRequest:
    return DefinitionRequest(
        change.actor,
        change.comment,
        change.request_id,
        change.allow,
        change.expected,
        authority=change.authority,
    )
