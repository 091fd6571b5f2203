"""Schemas in requests and responses."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.access.model import Caller, Right
from app.actors import split_actor
from app.errors import Invalid, PilothouseError
from app.rules.definitions.model import Definition
from app.rules.judging.errors import MOST_SHOWN, problem_members
from app.rules.judging.model import Pair, Problem
from app.rules.schemas.reading import EVERY_ENVIRONMENT, Mode, PlainSecret
from app.rules.services.schemas import Judged, SchemaWritten
from app.web.openapi import NAME, PROPOSAL_NEEDED
from app.web.request_body import RequestBody
from pilothouse_core.schema_index import join_pointer

_PATTERN: dict[str, Any] = {"maxLength": 63, "pattern": "^[A-Za-z0-9._*-]+$"}
Patterns = Annotated[
    list[Annotated[str, Field(json_schema_extra=_PATTERN)]], Field(min_length=1, max_length=100)
]
Comment = Annotated[str, Field(max_length=1000)]
EXPORT_FORMAT: Literal["pilothouse-schemas-1"] = "pilothouse-schemas-1"
_MODE = Field(description="`enforce` refuses writes that break the schema, `warn` warns.")
_PLAIN_SECRET = Field(description="What is done with plain values at secret places.")
_STORED_SCHEMA = Field(
    alias="schema", serialization_alias="schema", description="The JSON Schema, as it was sent."
)
_SCHEMA = Field(
    description="A JSON Schema of draft 2020-12 or draft-07. `secret: true` or `writeOnly: true` "
    "marks secret places, `x-rules` at the root has rules between fields, in CEL."
)


class ApplicationIn(RequestBody):
    environments: Patterns = Field(
        default_factory=lambda: list(EVERY_ENVIRONMENT),
        description="Names; `*` matches any characters. `default` is judged where it is named, or "
        "where none are.",
    )
    services: Patterns = Field(
        default_factory=lambda: ["*"],
        description="Names; `*` matches any characters. `_shared` is judged where it is named.",
    )
    at: Annotated[str, Field(max_length=512)] = Field(
        "", description="The key below which the schema is mounted, such as `plugins.audio`."
    )


class SchemaIn(RequestBody):
    mode: Mode = Field("enforce", description=_MODE.description)
    applies_to: Annotated[list[ApplicationIn], Field(min_length=1, max_length=20)] | None = Field(
        None,
        description="Default: the service of the schema's name, in every environment and "
        "in `default`.",
    )
    plain_secret: PlainSecret = Field("seal", description=_PLAIN_SECRET.description)
    description: Comment = ""
    comment: Comment = Field("", description="Reason for the change; kept in the history.")
    json_schema: dict[str, Any] | bool = Field(alias="schema", description=_SCHEMA.description)

    def members(self) -> dict[str, Any]:
        """Return what is stored, as it was sent."""
        stated = self.model_dump(exclude={"comment", "json_schema"}, exclude_none=True)
        return {**stated, "schema": self.json_schema}


class SchemasIn(RequestBody):
    format: Literal["pilothouse-schemas-1"] = EXPORT_FORMAT
    schemas: Annotated[
        dict[str, SchemaIn], Field(max_length=1000, description="The bodies by name.")
    ]
    comment: Comment = ""


class SchemaRollbackIn(RequestBody):
    version: Annotated[int, Field(ge=1, lt=2**31)]
    comment: Comment = ""


class ProblemOut(BaseModel):
    """What a schema finds in one effective configuration; never a value of it."""

    environment: str
    service_name: str
    user: str | None = None
    key: str
    schema_name: str = Field(
        alias="schema", serialization_alias="schema", description="Name of the schema."
    )
    schema_version: int = Field(description="The version of the schema.")
    schema_pointer: str = Field(description="The place in the schema, as a JSON pointer.")
    keyword: str | None = Field(None, description="The keyword of JSON Schema that is broken.")
    rule: str | None = Field(None, description="The id of the rule between fields.")
    expected: Any = Field(None, description="What the schema says there, or the rule's message.")
    detail: str

    @classmethod
    def of(cls, problem: Problem) -> "ProblemOut":
        return cls.model_validate({**problem_members(problem), "detail": problem.text})


class PlainSecretOut(BaseModel):
    """A plain value where a secret should be; the next write of its layer seals it."""

    environment: str
    service_name: str
    key: str


class JudgedOut(BaseModel):
    """What the schema finds in configurations that exist."""

    pairs: int = Field(description="Configurations, of one environment and service each.")
    violating: int = Field(description="Those that do not meet the schema.")
    problems: list[ProblemOut] = Field(description="The first 100 that the caller may read.")
    plain_secrets: list[PlainSecretOut] = Field(description="The first 100 of them.")

    @classmethod
    def of(cls, judged: Judged, caller: Caller) -> "JudgedOut":
        shown = (each for each in judged.problems if may_read(caller, each.pair))
        plain = (each for each in judged.plain_secrets if may_read(caller, each[0]))
        return cls(
            pairs=judged.pairs,
            violating=judged.violating,
            problems=[ProblemOut.of(each) for each in islice(shown, MOST_SHOWN)],
            plain_secrets=[
                PlainSecretOut(environment=pair.environment, service_name=pair.service, key=key)
                for pair, key in islice(plain, MOST_SHOWN)
            ],
        )


class SchemaOut(BaseModel):
    name: Annotated[str, Field(json_schema_extra=NAME)]
    version: int
    mode: Mode = _MODE
    applies_to: list[dict[str, Any]] = Field(description="Where the schema judges.")
    plain_secret: PlainSecret = _PLAIN_SECRET
    description: str
    json_schema: dict[str, Any] | bool = _STORED_SCHEMA
    created_at: datetime
    updated_at: datetime
    updated_by: str
    comment: str

    @classmethod
    def members_of(cls, definition: Definition) -> dict[str, Any]:
        return {
            **json.loads(definition.text),
            "name": definition.name,
            "version": definition.version,
            "created_at": definition.created_at,
            "updated_at": definition.at,
            "updated_by": split_actor(definition.actor)[0],
            "comment": definition.comment,
        }

    @classmethod
    def of(cls, definition: Definition) -> "SchemaOut":
        return cls.model_validate(cls.members_of(definition))


class SchemaWrittenOut(SchemaOut):
    changed: bool = Field(description="False: the schema said the same already.")
    dry_run: bool = False
    proposal_needed: str | None = PROPOSAL_NEEDED
    judged: JudgedOut = Field(description="What the schema finds in what exists.")

    @classmethod
    def of_written(
        cls, written: SchemaWritten, caller: Caller, *, dry_run: bool = False
    ) -> "SchemaWrittenOut":
        return cls.model_validate(
            {
                **cls.members_of(written.definition),
                "changed": written.changed,
                "dry_run": dry_run,
                "proposal_needed": written.proposal_needed,
                "judged": JudgedOut.of(written.judged, caller),
            }
        )


class AppliedSchemaOut(BaseModel):
    """A schema as it judges one effective configuration."""

    name: str
    version: int
    mode: Mode = _MODE
    at: str = Field(description="The key below which it is mounted.")
    plain_secret: PlainSecret = _PLAIN_SECRET
    json_schema: dict[str, Any] | bool = _STORED_SCHEMA


class AppliedSchemasOut(BaseModel):
    environment: str
    service_name: str
    items: list[AppliedSchemaOut]
    revision: int = Field(description="Of the newest change of any schema.")


class SchemasOut(BaseModel):
    """All schemas, as `POST /api/v1/schemas/import` takes them."""

    format: Literal["pilothouse-schemas-1"] = EXPORT_FORMAT
    schemas: dict[str, dict[str, Any]] = Field(description="The bodies of the schemas by name.")


class SchemaFailureOut(BaseModel):
    code: str
    detail: str
    errors: list[dict[str, Any]] = Field(
        description="As in the problem that writing the schema alone would be answered with."
    )

    @classmethod
    def of(cls, name: str, error: PilothouseError) -> "SchemaFailureOut":
        flaws = error.flaws if isinstance(error, Invalid) else ()
        return cls(
            code=error.code, detail=str(error), errors=[_flaw_below(name, each) for each in flaws]
        )


def _flaw_below(name: str, flaw: Mapping[str, object]) -> dict[str, Any]:
    """Return a flaw of one schema with the place of it in an import."""
    if "pointer" not in flaw:
        return dict(flaw)
    place = str(flaw["pointer"]).removeprefix("#")
    return {**flaw, "pointer": f"#{join_pointer('/schemas', name)}{place}"}


class ImportedSchemaOut(BaseModel):
    name: str
    status: Literal["created", "updated", "unchanged", "failed"]
    version: int = Field(description="0: nothing was written.")
    error: SchemaFailureOut | None = None


class SchemasImportedOut(BaseModel):
    dry_run: bool
    schemas: list[ImportedSchemaOut] = Field(description="The result of each schema.")


class ViolationsOut(BaseModel):
    """What the enforced and the warning schemas find in the configurations that exist now."""

    items: list[ProblemOut]
    next: str | None
    hidden: int = Field(
        description="Violating configurations that the caller may not read, whatever is asked for."
    )
    revision: int = Field(description="The revision up to which everything was judged.")


def may_read(caller: Caller, pair: Pair) -> bool:
    return caller.may(Right.READ_CONFIGS, pair.environment, pair.service)


def bodies_by_name(definitions: Sequence[Definition]) -> Mapping[str, dict[str, Any]]:
    """Return the bodies of schemas by name."""
    return {each.name: json.loads(each.text) for each in definitions}
