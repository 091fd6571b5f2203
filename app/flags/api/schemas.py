"""Request and response bodies of flags, segments and evaluations.

The core checks the rules inside a definition, and names the place of an error; the models here
describe the rules for people and check the outermost members.
"""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

from app.actors import actor_name
from app.flags.definitions.previews import ItemPreview
from app.flags.model import FlagUsage, Item, VersionAction
from app.web.openapi import NAME, PROPOSAL_NEEDED
from app.web.request_body import RequestBody
from pilothouse_core.diff import Diff
from pilothouse_core.flags.moved_buckets import BucketMoves, FlagMoves

BASE = "default"
Name = Annotated[str, Field(json_schema_extra=NAME)]
Comment = Annotated[
    str, Field(max_length=1000, description="Reason for the change; kept in the history.")
]
Condition = Annotated[
    dict[str, Any] | None,
    Field(
        description='`{"all": [..]}`, `{"any": [..]}`, `{"not": ..}`, `{"segment": name}`, '
        '`{"attribute", "op", "values", "case_insensitive"?}` or '
        '`{"rollout": {"by", "salt", "hash", "percent"}}`; null is always true.'
    ),
]


def _up_to_the_first_flaw(value: Any, types: tuple[type, ...] = (str,)) -> Any:
    """Omit items after the first wrong one: 300,000 errors take seconds, and few are listed."""
    items = value if isinstance(value, list) else []
    wrong = next((n for n, item in enumerate(items) if type(item) not in types), None)
    return value if wrong is None else items[: wrong + 1]


def _users(value: Any) -> Any:
    """Write numeric ids as texts: 101 and "101" are one user."""
    users = _up_to_the_first_flaw(value, (str, int))
    if not isinstance(users, list):
        return users
    return [str(v) if type(v) is int and abs(v) < _UNSAFE_ID else v for v in users]


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
        "the first rule whose condition is true decides."
    ),
]
Prerequisites = Annotated[
    list[dict[str, Any]],
    FailFast(),
    Field(description='`{"flag", "variants": [..]}`: each flag must serve one of the variants.'),
]
_SHOWN = "Set by the service; ignored in a request."
_MOST_COUNTS = 10_000
_UNSAFE = 2**53  # as JavaScript counts
_UNSAFE_ID = 10**1000  # as long as an id may be
FlagType = Literal["boolean", "string", "integer", "number", "object"]


class _Written(RequestBody):
    """The members of a response that a client may send back, and the comment."""

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
        None, description="Variant that is served when no rule decides; null: the caller's default."
    )
    off_variant: str | None = Field(
        None,
        description="Variant that is served while the flag is not enabled or a prerequisite is "
        "not met; null: the caller's default.",
    )
    enabled: bool = Field(
        default=False,
        description="Default: true for a new flag with rules, default_variant, rollout_percentage "
        "or target_users; false for a flag that is created by name only.",
    )
    rules: Rules = Field(default_factory=list)
    prerequisites: Prerequisites = Field(default_factory=list)
    rollout_percentage: float | None = Field(
        None, description="Simple form: the flag is on for this share of the users, 0 to 100."
    )
    target_users: Users | None = Field(
        None,
        description='Simple form: the flag is on for these users; 101 and `"101"` are the same.',
    )
    last_evaluated_at: Any = Field(None, description=_SHOWN)
    archived: Literal[False] = Field(
        default=False, description="Always false: only `POST .../archive` archives a flag."
    )


class FlagIn(FlagMembers):
    name: Name
    environment: Name = BASE


class FlagEdit(FlagMembers):
    name: Name = Field("", description="If stated, it must be the name in the path.")
    environment: Name | None = Field(None, description="Alternative to the query parameter.")


class SegmentMembers(_Written):
    description: str = ""
    when: Condition = None


class SegmentIn(SegmentMembers):
    name: Name
    environment: Name = BASE


class SegmentEdit(SegmentMembers):
    name: Name = Field("", description="If stated, it must be the name in the path.")
    environment: Name | None = Field(None, description="Alternative to the query parameter.")


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
        default=False, description="True: the flag is neither evaluated nor listed."
    )


class SegmentOut(_Out):
    when: Condition


class FlagDiffOut(BaseModel):
    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, dict[str, Any]] = Field(description="`{old, new}` by path of the member.")

    @classmethod
    def of(cls, diff: Diff) -> "FlagDiffOut":
        changed = {path: {"old": old, "new": new} for path, (old, new) in diff.changed.items()}
        return cls(added=diff.added, removed=diff.removed, changed=changed)


class VersionOut(BaseModel):
    version: int
    revision: int
    action: VersionAction
    actor: str
    comment: str
    at: datetime
    definition: dict[str, Any] | None = Field(description="null: this version is a deletion.")
    diff: FlagDiffOut = Field(description="What this version changed, by path.")

    @classmethod
    def of(
        cls, item: Item, action: VersionAction, definition: dict[str, Any] | None, diff: Diff
    ) -> "VersionOut":
        return cls(
            version=item.version,
            revision=item.revision,
            action=action,
            actor=actor_name(item.actor),
            comment=item.comment,
            at=item.at,
            definition=definition,
            diff=FlagDiffOut.of(diff),
        )


class BucketMoveOut(BaseModel):
    source: str | None = Field(
        alias="from",
        serialization_alias="from",
        description="The variant before; null: the caller's default.",
    )
    target: str | None = Field(
        alias="to",
        serialization_alias="to",
        description="The variant after; null: the caller's default.",
    )
    buckets: int = Field(description="How many buckets move so.")


class BucketMovesOut(BaseModel):
    total: int = Field(description="100,000 unless the hash has another number of buckets.")
    moved: int = Field(description="How many of them get another variant.")
    exact: bool = Field(
        description="False: salt, hash or attribute differ, so that users get new buckets; the "
        "counts are the expected ones."
    )
    moves: list[BucketMoveOut] = Field(description="The moved buckets by their variants.")

    @classmethod
    def of(cls, moves: BucketMoves, **members: Any) -> Self:
        return cls(
            total=moves.total,
            moved=moves.count,
            exact=moves.is_exact,
            moves=[
                BucketMoveOut.model_validate({"from": former, "to": latter, "buckets": count})
                for (former, latter), count in moves.moves.items()
            ],
            **members,
        )


class RuleMovesOut(BucketMovesOut):
    rule_id: str


class FlagMovesOut(BucketMovesOut):
    """The buckets of users that no condition concerns."""

    rules: list[RuleMovesOut] = Field(
        description="The same for each rule that serves otherwise after the write."
    )

    @classmethod
    def of_flag(cls, moves: FlagMoves) -> "FlagMovesOut":
        rules = [RuleMovesOut.of(of_rule, rule_id=name) for name, of_rule in moves.rules.items()]
        return cls.of(moves.overall, rules=rules)


class WritePreviewOut(BaseModel):
    """The answer to a write with `dry_run=true`."""

    dry_run: Literal[True] = True
    environment: str
    name: str
    kind: Literal["flag", "segment"] = Field(description="What would be written.")
    version: int = Field(description="The current version, for `If-Match`; 0: there is none.")
    changed: bool = Field(description="False: the write would create no version.")
    diff: FlagDiffOut = Field(
        description="As the history would show it; empty where a flag is archived or restored."
    )
    buckets: FlagMovesOut | None = Field(
        description="How many buckets move; null: a segment, or no flag before or after."
    )
    definition: dict[str, Any] | None = Field(
        description="As it would be stored; null: the write is a deletion."
    )
    proposal_needed: str | None = PROPOSAL_NEEDED

    @classmethod
    def of(cls, preview: ItemPreview, now: float) -> "WritePreviewOut":
        moves = preview.bucket_moves(now)
        return cls(
            environment=preview.environment,
            name=preview.name,
            kind=preview.kind,
            version=preview.version,
            changed=preview.is_changed,
            diff=FlagDiffOut.of(preview.diff()),
            buckets=None if moves is None else FlagMovesOut.of_flag(moves),
            proposal_needed=preview.proposal_needed,
            definition=json.loads(preview.definition) if preview.definition else None,
        )


class UsageOut(BaseModel):
    flag_name: str
    environment: str
    evaluations: dict[str, int] = Field(
        description="Evaluations by variant, of all replicas and clients; `_none`: the caller's "
        "default."
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
    dict[str, Any], Field(description="Attributes, addressed by dotted paths; any JSON.")
]
UserId = Annotated[
    str | int | None, Field(description="Sets `user_id` and `targetingKey` of the context.")
]


class EvaluateIn(RequestBody):
    flag_name: Name
    user_id: UserId = None
    environment: Name = BASE
    context: Context = Field(default_factory=dict)
    explain: bool = Field(default=False, description="Add a trace of every rule and condition.")


class BatchIn(RequestBody):
    flag_names: Texts | None = Field(None, max_length=10_000, description="Default: all flags.")
    user_id: UserId = None
    environment: Name = BASE
    context: Context = Field(default_factory=dict)


class EvaluationOut(BaseModel):
    flag_name: str
    user_id: UserId = None
    environment: str
    enabled: bool = Field(
        description="The value of a boolean flag; for other types, whether a variant other than "
        "the off variant is served."
    )
    variant: str | None = Field(description="The served variant; null: the caller's default.")
    value: Any
    reason: str = Field(description="One of the reasons of OpenFeature.")
    rule_id: str | None
    bucket: int | None
    flag_version: int
    revision: int = Field(description="Revision of the newest change of the environment's flags.")
    prerequisite: str | None = Field(None, description="The prerequisite that is not met.")
    skipped: list[dict[str, str]] = Field(
        default_factory=list,
        description="Rollouts that were skipped because the context has no subject for them.",
    )
    error_code: str | None = Field(None, description="In a batch: why the flag was not evaluated.")
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
    """Refuse too many counts before they are checked; of wrong ones, keep only the first."""
    if not isinstance(value, dict):
        return value
    counts = sum(len(variants) for variants in value.values() if isinstance(variants, dict))
    if max(counts, len(value)) > _MOST_COUNTS:
        raise ValueError(f"has more than {_MOST_COUNTS} counts")
    for name, variants in value.items():
        if not isinstance(variants, dict):
            return {name: variants}
        for variant, times in variants.items():
            if type(times) is not int or not 0 <= times < _UNSAFE:
                return {name: {variant: times}}
    return value


Counts = Annotated[
    dict[str, dict[str, Annotated[int, Field(ge=0, lt=_UNSAFE)]]], BeforeValidator(_few_counts)
]


class UsageIn(RequestBody):
    environment: Name = BASE
    evaluations: Counts = Field(
        description="Counts by flag and variant since the last report, at most 10,000.",
        max_length=_MOST_COUNTS,
    )


class FlagTargetsOut(BaseModel):
    name: str
    environment: str
    dry_run: bool
    version: int = Field(
        description="The current version; in a dry run, the version that the write would create."
    )
    enabled: bool
    variant: str | None = Field(
        description="Variant that these users are served while the flag is enabled; null: the flag "
        "names no users."
    )
    count: int = Field(description="Number of users that the flag names now.")
    added: int = Field(description="Number of users that were added.")
    removed: int = Field(description="Number of users that were removed.")


class LifecycleIn(RequestBody):
    """An optional body."""

    environment: Name | None = Field(None, description="Alternative to the query parameter.")
    comment: Comment = ""


class KillIn(RequestBody):
    environment: Name | None = Field(None, description="Alternative to the query parameter.")
    reason: str = Field(
        min_length=1,
        max_length=1000,
        pattern=r"\S",
        description="Why the flag is turned off; kept in the history and in the audit.",
    )


class FlagRollbackIn(RequestBody):
    version: int = Field(ge=1, le=2**31 - 1, description="The version to restore.")
    environment: Name | None = Field(None, description="Alternative to the query parameter.")
    comment: Comment = ""


class FlagCopyIn(RequestBody):
    to: Name = Field(description="The environment that the flag is copied to.")
    overwrite: bool = Field(
        default=False, description="Replace an existing flag of this name that differs."
    )
    comment: Comment = ""
    dry_run: bool = Field(default=False, description="Report what would change, and write nothing.")


class MissingReferenceOut(BaseModel):
    kind: Literal["flag", "segment"]
    name: str
    pointer: str = Field(description="Place of the reference in the flag (RFC 6901).")
    archived: bool = Field(description="True: the target has the flag, but it is archived.")


class FlagCopyOut(BaseModel):
    name: str
    environment: str = Field(description="The environment that the flag was copied from.")
    to: str = Field(description="The environment that the flag was copied to.")
    dry_run: bool
    status: Literal["created", "updated", "unchanged"]
    version: int = Field(
        description="The version in the target environment; in a dry run, the version that the "
        "copy would create."
    )
    missing: list[MissingReferenceOut] = Field(
        description="References that the target environment lacks; only in a dry run."
    )


class ArrivalOut(BaseModel):
    kind: Literal["flag", "segment"]
    name: str
    status: Literal["created", "updated", "archived", "unchanged"] = Field(
        description="`archived`: the file has the flag as archived, and now it is."
    )
    version: int = Field(
        description="The current version; in a dry run, the version that the write would create."
    )


class UnexpressedOut(BaseModel):
    flag: str = Field(description="Name of the flag; empty: the whole file.")
    pointer: str = Field(description="Place in the file (RFC 6901).")
    reason: str


class FlagImportOut(BaseModel):
    environment: str
    dry_run: bool
    hash: Literal["v2", "v3"] | None = Field(
        description="Hash of flagd by which rollouts assign buckets; null for other systems."
    )
    items: list[ArrivalOut]
    report: list[UnexpressedOut] = Field(
        description="What was left out because Pilothouse has no equivalent."
    )
