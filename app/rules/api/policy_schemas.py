"""Policies in requests and responses."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.actors import split_actor
from app.audit.port import AuditRow
from app.rules.api.template_schemas import Text, members_of
from app.rules.definitions.model import Definition
from app.rules.policies.model import Approver, Day, PolicyKind, RollbackRule
from app.rules.services.definitions import DefinitionWritten
from app.web.openapi import NAME, PROPOSAL_NEEDED
from app.web.request_body import RequestBody

_PATTERN: dict[str, Any] = {"maxLength": 63, "pattern": "^[A-Za-z0-9._*-]+$"}
_KINDS = (
    "Which changes need a proposal. With `policy` among them, the policy itself is changed by a "
    "proposal only."
)
_APPROVALS = "How many persons or tokens, not related to an author, have to approve."
_OF = "Roles whose approvals count; an admin's always do."
_PEOPLE = "Only people's approvals count, no token's; needs an OpenID Connect issuer."
_VALID = "How long approvals count, as `90s`, `30m`, `12h` or `7d`; null: without limit."
_ROLLBACK = "`free`: a rollback to an earlier version needs no proposal."
_CLOSED = "Times of the week at which nothing is applied."
_DAYS = "`mon` to `sun`: on which the window begins."
_ZONE = "Name in the IANA database, such as `Europe/Berlin`."
_FROM = "`HH:MM`; default: midnight."
_TO = "`HH:MM`, of the next day if not later than `from`; default: midnight."
_SERVICES = "Names; `*` matches any characters. Flags and segments belong to no service."


def _word_list(allowed: list[str]) -> dict[str, Any]:
    return {"items": {"type": "string", "enum": allowed}, "minItems": 1}


class ClosedIn(RequestBody):
    days: list[str] = Field(description=_DAYS)
    zone: str = Field(description=_ZONE)
    begin: str | None = Field(None, alias="from", description=_FROM)
    end: str | None = Field(None, alias="to", description=_TO)


class PolicyIn(RequestBody):
    """Values are checked when the policy is read: 422 `bad_policy` has the place of each."""

    environments: list[Annotated[str, Field(json_schema_extra=_PATTERN)]] = Field(
        default_factory=lambda: ["*"], description="Names; `*` matches any characters."
    )
    services: list[Annotated[str, Field(json_schema_extra=_PATTERN)]] = Field(
        default_factory=lambda: ["*"], description=_SERVICES
    )
    kinds: list[str] = Field(
        description=_KINDS,
        json_schema_extra=_word_list(
            ["config", "flag", "segment", "schema", "template", "policy", "webhook"]
        ),
    )
    approvals: int = Field(
        1, description=_APPROVALS, json_schema_extra={"minimum": 1, "maximum": 5}
    )
    of: list[str] = Field(
        default_factory=lambda: ["publisher"],
        description=_OF,
        json_schema_extra=_word_list(["publisher", "admin"]),
    )
    people_only: bool = Field(default=False, description=_PEOPLE)
    valid_for: str | None = Field(None, description=_VALID)
    rollback: str = Field(
        "approved", description=_ROLLBACK, json_schema_extra={"enum": ["free", "approved"]}
    )
    closed: list[ClosedIn] = Field(default_factory=list, description=_CLOSED)
    description: str = ""
    comment: Text = Field("", description="Reason for the change; kept in the history.")

    def members(self) -> dict[str, Any]:
        """Return what is stored, as it was sent."""
        stated = self.model_dump(exclude={"comment", "closed"})
        closed = [each.model_dump(by_alias=True, exclude_none=True) for each in self.closed]
        return {**stated, "closed": closed}


class PolicyRollbackIn(RequestBody):
    version: Annotated[int, Field(ge=1, lt=2**31, description="The version to go back to.")]
    comment: Text = ""


class ClosedOut(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    days: list[Day] = Field(description=_DAYS)
    zone: str = Field(description=_ZONE)
    begin: str | None = Field(None, alias="from", description=_FROM)
    end: str | None = Field(None, alias="to", description=_TO)


class PolicyOut(BaseModel):
    name: Annotated[str, Field(json_schema_extra=NAME)]
    version: int
    description: str
    environments: list[str]
    services: list[str] = Field(description=_SERVICES)
    kinds: list[PolicyKind] = Field(description=_KINDS)
    approvals: int = Field(description=_APPROVALS)
    of: list[Approver] = Field(description=_OF)
    people_only: bool = Field(description=_PEOPLE)
    valid_for: str | None = Field(description=_VALID)
    rollback: RollbackRule = Field(description=_ROLLBACK)
    closed: list[ClosedOut] = Field(description=_CLOSED)
    created_at: datetime
    updated_at: datetime
    updated_by: str
    comment: str

    @classmethod
    def of_definition(cls, definition: Definition) -> "PolicyOut":
        return cls.model_validate(members_of(definition))


class BypassOut(BaseModel):
    """A change that was made past a policy."""

    seq: int = Field(description="Number of its row in the audit.")
    at: datetime
    actor: str
    actor_id: str | None = Field(description="The id of the token; null for people.")
    reason: str = Field(description="As the caller stated it in `Bypass-Reason`.")
    policies: list[str] = Field(description="The policies that asked for a proposal.")
    action: str
    kind: str
    environment: str
    name: str
    version: int | None
    revision: int | None
    request_id: str | None

    @classmethod
    def of_row(cls, row: AuditRow) -> "BypassOut":
        actor, actor_id = split_actor(row.actor)
        facts = row.facts or {}
        return cls(
            seq=row.seq,
            at=row.at,
            actor=actor,
            actor_id=actor_id,
            reason=str(facts.get("bypass_reason")),
            policies=str(facts.get("bypassed", "")).split(","),
            action=row.action,
            kind=row.kind,
            environment=row.environment,
            name=row.name,
            version=row.version,
            revision=row.revision,
            request_id=row.request_id,
        )


class PolicyWrittenOut(PolicyOut):
    changed: bool = Field(description="False: the policy said the same already.")
    dry_run: bool
    proposal_needed: str | None = PROPOSAL_NEEDED

    @classmethod
    def of_written(cls, written: DefinitionWritten, *, dry_run: bool = False) -> "PolicyWrittenOut":
        return cls.model_validate(
            {
                **members_of(written.definition),
                "changed": written.changed,
                "dry_run": dry_run,
                "proposal_needed": written.proposal_needed,
            }
        )
