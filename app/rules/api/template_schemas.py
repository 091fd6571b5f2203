"""Templates in requests and responses."""

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.actors import split_actor
from app.rules.definitions.model import Definition
from app.rules.services.definitions import DefinitionWritten
from app.web.openapi import NAME
from app.web.request_body import RequestBody

_PATTERN: dict[str, Any] = {"maxLength": 63, "pattern": "^[A-Za-z0-9._*-]+$"}
_Patterns = Annotated[
    list[Annotated[str, Field(json_schema_extra=_PATTERN)]], Field(min_length=1, max_length=100)
]
Text = Annotated[str, Field(max_length=1000)]


def members_of(definition: Definition) -> dict[str, Any]:
    """Return the members of one version of a template or policy in a response."""
    return {
        **json.loads(definition.text),
        "name": definition.name,
        "version": definition.version,
        "created_at": definition.created_at,
        "updated_at": definition.at,
        "updated_by": split_actor(definition.actor)[0],
        "comment": definition.comment,
    }


class TemplateScopeIn(RequestBody):
    environments: _Patterns = Field(
        default_factory=lambda: ["*"], description="Names; `*` matches any characters."
    )
    services: _Patterns = Field(
        default_factory=lambda: ["*"], description="Names; `*` matches any characters."
    )


class TemplateIn(RequestBody):
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="A JSON Schema of an object: each of its `properties` is a parameter.",
    )
    at: Annotated[str, Field(max_length=512)] = Field(
        "", description="The key below which the data is written, such as `plugins.audio`."
    )
    data: dict[str, Any] = Field(
        description='Keys with values. `{"$param": "port"}` is replaced by the value of the '
        "parameter, `${port}` in a text by its text; `$${` is a literal `${`. No secrets."
    )
    applies_to: Annotated[list[TemplateScopeIn], Field(min_length=1, max_length=20)] | None = Field(
        None, description="Where the template may be used. Default: everywhere."
    )
    description: Text = ""
    comment: Text = Field("", description="Reason for the change; kept in the history.")

    def members(self) -> dict[str, Any]:
        """Return what is stored, as it was sent."""
        stated = self.model_dump(exclude={"comment", "data", "parameters"}, exclude_none=True)
        return {**stated, "data": self.data, "parameters": self.parameters}


class TemplateRollbackIn(RequestBody):
    version: Annotated[int, Field(ge=1, lt=2**31, description="The version to go back to.")]
    comment: Text = ""


class TemplateOut(BaseModel):
    name: Annotated[str, Field(json_schema_extra=NAME)]
    version: int
    description: str
    parameters: dict[str, Any] = Field(
        description="A JSON Schema of an object: each of its `properties` is a parameter."
    )
    at: str = Field(description="The key below which the data is written.")
    data: dict[str, Any] = Field(description="Keys with values, in which parameters have places.")
    applies_to: list[dict[str, list[str]]] = Field(
        description="Patterns of the `environments` and `services` where it may be used."
    )
    created_at: datetime
    updated_at: datetime
    updated_by: str
    comment: str

    @classmethod
    def of(cls, definition: Definition) -> "TemplateOut":
        return cls.model_validate(members_of(definition))


class TemplateWrittenOut(TemplateOut):
    changed: bool = Field(description="False: the template said the same already.")

    @classmethod
    def of_written(cls, written: DefinitionWritten) -> "TemplateWrittenOut":
        members = members_of(written.definition)
        return cls.model_validate({**members, "changed": written.changed})
