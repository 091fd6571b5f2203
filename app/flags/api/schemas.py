"""Flags, segments and evaluations as they are sent and answered.

The rules inside a definition are judged by the core, which names the place of a flaw; the models
here describe them for people and check the outermost members.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

from app.actors import actor_name
from app.flags.model import FlagUsage, Item, VersionAction
from app.web.openapi import NAME
from app.web.request_body import RequestBody
from pilothouse_core.diff import Diff

BASE = "default"
Name = Annotated[str, Field(json_schema_extra=NAME)]
Comment = Annotated[str, Field(max_length=1000, description="Why; kept in the history.")]
Condition = Annotated[
    dict[str, Any] | None,
    Field(
        description='`{"all": [..]}`, `{"any": [..]}`, `{"not": ..}`, `{"segment": name}`, '
        '`{"attribute", "op", "values", "case_insensitive"?}` or '
        '`{"rollout": {"by", "salt", "hash", "percent"}}`; null always holds.'
    ),
]


def _up_to_the_first_flaw(value: Any, types: tuple[type, ...] = (str,)) -> Any:
    """Leave out what need not be told: 300,000 flaws took seconds, and only some are listed."""
    items = value if isinstance(value, list) else []
    wrong = next((n for n, item in enumerate(items) if type(item) not in types), None)
    return value if wrong is None else items[: wrong + 1]


def _users(value: Any) -> Any:
    """Write numeric ids as texts: 101 and "101" are one user."""
    found = _up_to_the_first_flaw(value, (str, int))
    if not isinstance(found, list):
        return found
    return [str(v) if type(v) is int and abs(v) < _UNSAFE_ID else v for v in found]


Texts = Annotated[list[str], BeforeValidator(_up_to_the_first_flaw)]  # FailFast, but for unions
Users = Annotated[
    list[str],
    BeforeValidator(_users, json_schema_input_type=list[str | int]),
]
Rules = Annotated[
    list[dict[str, Any]],
    FailFast(),
    Field(
        description='`{"id", "when": condition, "active"?: {"from", "until"}, "serve": '
        '{"variant"} | {"rollout": {"by", "salt", "hash", "weights"}} | {"progressive": ..}}`; '
        "the first that holds decides."
    ),
]
Prerequisites = Annotated[
    list[dict[str, Any]],
    FailFast(),
    Field(description='`{"flag", "variants": [..]}`: all must be served.'),
]
_SHOWN = "Told by the service; sent back, it says nothing."
_MOST_COUNTS = 10_000
_UNSAFE = 2**53  # as JavaScript counts
_UNSAFE_ID = 10**1000  # as long as an id may be
FlagType = Literal["boolean", "string", "integer", "number", "object"]


class _Written(RequestBody):
    """What a client may send back of what it was shown."""

    version: Any = Field(None, description=_SHOWN)
    created_at: Any = Field(None, description=_SHOWN)
    updated_at: Any = Field(None, description=_SHOWN)
    updated_by: Any = Field(None, description=_SHOWN)
    comment: Comment = ""

    def members(self) -> dict[str, Any]:
        """Return what was sent of the definition itself."""
        stated = self.model_fields_set - {"comment", "environment"}
        return {name: getattr(self, name) for name in type(self).model_fields if name in stated}


class FlagMembers(_Written):
    description: str = ""
    owner: str = ""
    tags: Texts = Field(default_factory=list)
    type: FlagType = "boolean"
    variants: dict[str, Any] = Field(
        default_factory=dict, description="Values by name, all of the flag's type."
    )
    default_variant: str | None = Field(
        None, description="Served when no rule decides; null is the caller's own default."
    )
    off_variant: str | None = Field(
        None, description="Served while the flag is not enabled, or a prerequisite not met."
    )
    enabled: bool = Field(
        default=False,
        description="Unless stated, true for a new flag whose body says for whom it is on (rules, "
        "default_variant, rollout_percentage or target_users); one created by name only is off.",
    )
    rules: Rules = Field(default_factory=list)
    prerequisites: Prerequisites = Field(default_factory=list)
    rollout_percentage: float | None = Field(
        None, description="The simple form: on for this share of the users, 0 to 100."
    )
    target_users: Users | None = Field(
        None, description='The simple form: on for these users; 101 and `"101"` are one.'
    )
    last_evaluated_at: Any = Field(None, description=_SHOWN)
    archived: Literal[False] = Field(
        default=False, description="`POST .../archive` archives a flag, and nothing else."
    )


class FlagIn(FlagMembers):
    name: Name
    environment: Name = BASE


class FlagEdit(FlagMembers):
    name: Name = Field("", description="If it is stated, the one of the address.")
    environment: Name | None = Field(None, description="Where the address says none.")


class SegmentMembers(_Written):
    description: str = ""
    when: Condition = None


class SegmentIn(SegmentMembers):
    name: Name
    environment: Name = BASE


class SegmentEdit(SegmentMembers):
    name: Name = Field("", description="If it is stated, the one of the address.")
    environment: Name | None = Field(None, description="Where the address says none.")


class _Out(BaseModel):
    name: str
    environment: str
    description: str = ""
    version: int
    created_at: datetime
    updated_at: datetime
    updated_by: str


class FlagOut(_Out):
    model_config = ConfigDict(extra="allow")

    owner: str
    tags: list[str]
    type: FlagType
    variants: dict[str, Any]
    default_variant: str | None
    off_variant: str | None
    enabled: bool
    rules: Rules
    prerequisites: Prerequisites
    last_evaluated_at: datetime | None = None
    archived: bool = Field(
        default=False, description="Nobody is served it, and lists leave it out."
    )


class SegmentOut(_Out):
    when: Condition


class FlagDiffOut(BaseModel):
    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, dict[str, Any]] = Field(description="`{old, new}` by path.")


class VersionOut(BaseModel):
    version: int
    revision: int
    action: VersionAction
    actor: str
    comment: str
    at: datetime
    definition: dict[str, Any] | None = Field(description="null where it was deleted.")
    diff: FlagDiffOut = Field(description="What this version has changed, by path.")

    @classmethod
    def of(
        cls, item: Item, action: VersionAction, definition: dict[str, Any] | None, diff: Diff
    ) -> "VersionOut":
        changed = {path: {"old": old, "new": new} for path, (old, new) in diff.changed.items()}
        return cls(
            version=item.version,
            revision=item.revision,
            action=action,
            actor=actor_name(item.actor),
            comment=item.comment,
            at=item.at,
            definition=definition,
            diff=FlagDiffOut(added=diff.added, removed=diff.removed, changed=changed),
        )


class UsageOut(BaseModel):
    flag_name: str
    environment: str
    evaluations: dict[str, int] = Field(
        description="By variant, of all replicas and clients; `_none` is the caller's default."
    )
    last_evaluated_at: datetime | None

    @classmethod
    def of(cls, environment: str, name: str, usage: FlagUsage | None) -> "UsageOut":
        return cls(
            flag_name=name,
            environment=environment,
            evaluations={} if usage is None else dict(usage.counts),
            last_evaluated_at=None if usage is None else usage.last_evaluated_at,
        )


Context = Annotated[
    dict[str, Any], Field(description="Attributes, found by dotted paths; any JSON.")
]
UserId = Annotated[
    str | int | None, Field(description="Fills `user_id` and `targetingKey` of the context.")
]


class EvaluateIn(RequestBody):
    flag_name: Name
    user_id: UserId = None
    environment: Name = BASE
    context: Context = Field(default_factory=dict)
    explain: bool = Field(default=False, description="Add the trace: every rule and condition.")


class BatchIn(RequestBody):
    flag_names: Texts | None = Field(None, max_length=10_000, description="All when absent.")
    user_id: UserId = None
    environment: Name = BASE
    context: Context = Field(default_factory=dict)


class EvaluationOut(BaseModel):
    flag_name: str
    user_id: UserId = None
    environment: str
    enabled: bool = Field(
        description="The value of a boolean flag; of others whether a variant but the off one is "
        "served."
    )
    variant: str | None = Field(description="null: the caller's own default holds.")
    value: Any
    reason: str = Field(description="One of OpenFeature's reasons.")
    rule_id: str | None
    bucket: int | None
    flag_version: int
    revision: int = Field(description="Of the newest change of the environment's flags.")
    prerequisite: str | None = Field(None, description="The one that is not met.")
    skipped: list[dict[str, str]] = Field(
        default_factory=list, description="Rollouts that found nothing to go by."
    )
    error_code: str | None = Field(None, description="In a batch: why there is no evaluation.")
    explanation: dict[str, Any] | None = None


class BatchOut(BaseModel):
    evaluations: dict[str, EvaluationOut]
    revision: int


class FlagSetOut(BaseModel):
    environment: str
    revision: int
    flags: list[dict[str, Any]]
    segments: list[dict[str, Any]]


def _few_counts(value: Any) -> Any:
    """Refuse too many counts before they are looked at, and tell only of the first wrong one."""
    if not isinstance(value, dict):
        return value
    counts = sum(len(found) for found in value.values() if isinstance(found, dict))
    if max(counts, len(value)) > _MOST_COUNTS:
        raise ValueError(f"holds more than {_MOST_COUNTS} counts")
    for name, found in value.items():
        if not isinstance(found, dict):
            return {name: found}
        for variant, times in found.items():
            if type(times) is not int or not 0 <= times < _UNSAFE:
                return {name: {variant: times}}
    return value


Counts = Annotated[
    dict[str, dict[str, Annotated[int, Field(ge=0, lt=_UNSAFE)]]], BeforeValidator(_few_counts)
]


class UsageIn(RequestBody):
    environment: Name = BASE
    evaluations: Counts = Field(
        description="At most 10,000 counts by flag and variant since the last report.",
        max_length=_MOST_COUNTS,
    )


class FlagTargetsOut(BaseModel):
    name: str
    environment: str
    dry_run: bool
    version: int = Field(description="The one it has now, or would have after a dry run.")
    enabled: bool
    variant: str | None = Field(
        description="That these users are served while it is enabled; null: it names nobody."
    )
    count: int = Field(description="How many users it names now.")
    added: int = Field(description="How many of them it did not name before.")
    removed: int = Field(description="How many it names no more.")


class LifecycleIn(RequestBody):
    """A body that need not be sent."""

    environment: Name | None = Field(None, description="Where the address says none.")
    comment: Comment = ""


class FlagRollbackIn(RequestBody):
    version: int = Field(ge=1, le=2**31 - 1, description="The one whose definition holds again.")
    environment: Name | None = Field(None, description="Where the address says none.")
    comment: Comment = ""


class FlagCopyIn(RequestBody):
    to: Name = Field(description="The environment that the flag is copied to.")
    overwrite: bool = Field(
        default=False, description="Replace a flag of this name that is there and differs."
    )
    comment: Comment = ""
    dry_run: bool = Field(default=False, description="Only say what would change.")


class MissingReferenceOut(BaseModel):
    kind: Literal["flag", "segment"]
    name: str
    pointer: str = Field(description="Where the flag names it (RFC 6901).")
    archived: bool = Field(description="The flag is there, and archived.")


class FlagCopyOut(BaseModel):
    name: str
    environment: str = Field(description="The one that it was copied from.")
    to: str = Field(description="The one that it was copied to.")
    dry_run: bool
    status: Literal["created", "updated", "unchanged"]
    version: int = Field(description="The one it has there now, or would have after a dry run.")
    missing: list[MissingReferenceOut] = Field(
        description="What it needs and its new environment does not have; only after a dry run."
    )


class ArrivalOut(BaseModel):
    kind: Literal["flag", "segment"]
    name: str
    status: Literal["created", "updated", "archived", "unchanged"] = Field(
        description="`archived`: it is archived in the file, and now here."
    )
    version: int = Field(description="The one it has now, or would have after a dry run.")


class UnexpressedOut(BaseModel):
    flag: str = Field(description="Empty where the whole file is meant.")
    pointer: str = Field(description="Its place in the file (RFC 6901).")
    reason: str


class FlagImportOut(BaseModel):
    environment: str
    dry_run: bool
    hash: Literal["v2", "v3"] | None = Field(
        description="By which of flagd's hashes rollouts bucket; null for another system."
    )
    items: list[ArrivalOut]
    report: list[UnexpressedOut] = Field(description="What has no equal here; it is left out.")
