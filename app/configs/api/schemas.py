"""Request and response schemas of configurations."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from app.actors import actor_name
from app.changes.model import Action, Change, Pointer
from app.configs.documents.attempt import Notice
from app.configs.documents.candidates import ReleaseArm
from app.configs.documents.effective import Effective
from app.configs.errors import MOST_FOUND
from app.configs.model import BASE, SHARED, DefaultsLayer, DocumentId, Finding, document_id
from app.configs.services.answers import KeyAnswer, UsedPlaceholder
from app.configs.services.documents import VisibleVersion
from app.configs.services.key_history import KeyChange
from app.configs.services.transfer import ImportResult
from app.rules.judging.errors import problem_members
from app.web.openapi import KEY, KEYED, NAME, USER
from app.web.request_body import RequestBody
from pilothouse_core.diff import Diff
from pilothouse_core.placeholders import Outcome

Comment = Annotated[
    str, Field(max_length=1000, description="Reason for the change; kept in the history.")
]
Version = Annotated[int, Field(ge=1, lt=2**31)]
Key = Annotated[
    str, Field(description="A dotted path, e.g. `database.pool.size`.", json_schema_extra=KEY)
]
Name = Annotated[str, Field(json_schema_extra=NAME)]
UserName = Annotated[str, Field(json_schema_extra=USER)]


class KeyIn(RequestBody):
    key: Key
    value: Any = Field(description="Any JSON value; an object is a section of further keys.")
    environment: Name = BASE
    service_name: Name = SHARED
    user: UserName | None = None
    is_encrypted: bool = False
    comment: Comment = ""


class ValueIn(RequestBody):
    value: Any
    is_encrypted: bool | None = Field(
        None, description="Default: a secret stays a secret. `false` makes it plain."
    )
    comment: Comment = ""
    environment: Name | None = Field(None, description="Alternative to the query parameter.")
    service_name: Name | None = None
    user: UserName | None = None


class PatchIn(RequestBody):
    set: dict[str, Any] = Field(default_factory=dict, json_schema_extra=KEYED)
    encrypt: list[Key] = Field(default_factory=list, max_length=10_000)
    unset: list[Key] = Field(default_factory=list, max_length=10_000)
    comment: Comment = ""


class RollbackIn(RequestBody):
    version: Version
    comment: Comment = ""


class BulkItemIn(RequestBody):
    key: Key
    environment: Name = BASE
    service_name: Name = SHARED
    user: UserName | None = None


class BulkIn(RequestBody):
    environment: Name = BASE
    service_name: Name = SHARED
    user: UserName | None = None
    keys: list[Key] | None = Field(None, max_length=1000)
    items: list[BulkItemIn] | None = Field(None, max_length=1000)


class SourceOut(BaseModel):
    environment: str
    service_name: str
    user: str | None = None

    @classmethod
    def of(cls, document: DocumentId) -> "SourceOut":
        return cls(
            environment=document.environment, service_name=document.service, user=document.user
        )


class DefaultSourceOut(BaseModel):
    """Layer 0: a default of a schema."""

    schema_name: str = Field(
        alias="schema", serialization_alias="schema", description="Name of the schema."
    )
    version: int = Field(description="The version of the schema.")

    @classmethod
    def of(cls, layer: DefaultsLayer) -> "DefaultSourceOut":
        return cls.model_validate({"schema": layer.schema, "version": layer.version})


def source_out(layer: DocumentId) -> SourceOut | DefaultSourceOut:
    """Return a layer as the source of a value."""
    if isinstance(layer, DefaultsLayer):
        return DefaultSourceOut.of(layer)
    return SourceOut.of(layer)


class WarningOut(BaseModel):
    """What was written although a rule speaks against it."""

    kind: Literal["credential", "schema"] = Field(
        description="`credential`: a plain value looks like one. `schema`: a schema is not met "
        "that only warns, or that was not met before either."
    )
    key: str
    rule: str | None = Field(
        None, description="The rule by which the value looks like a credential, or of the schema."
    )
    environment: str | None = Field(None, description="Of the effective configuration.")
    service_name: str | None = None
    user: str | None = None
    schema_name: str | None = Field(None, alias="schema", serialization_alias="schema")
    schema_version: int | None = None
    schema_pointer: str | None = None
    keyword: str | None = None
    expected: Any = None
    detail: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    @classmethod
    def all(cls, notices: Iterable[Notice]) -> "list[WarningOut]":
        warned = (each for each in notices if not isinstance(each, Finding) or not each.allowed)
        return [cls._of(each) for each in islice(warned, MOST_FOUND)]

    @classmethod
    def _of(cls, notice: Notice) -> "WarningOut":
        if isinstance(notice, Finding):
            return cls(kind="credential", key=notice.key, rule=notice.rule)
        members = {**problem_members(notice), "detail": notice.text}
        return cls.model_validate({"kind": "schema", **members})


Warnings = Annotated[
    list[WarningOut],
    Field(
        default_factory=list,
        description="Credentials that this write stored as plain values, and what schemas warn of; "
        "the first 100.",
    ),
]


class WarnedOut(BaseModel):
    """The answer to a removal of which schemas warn."""

    warnings: Warnings


class PlaceholderOut(BaseModel):
    """The replacement of one `${name}`."""

    name: str
    outcome: Outcome = Field(
        description="`value`: the value of `key`. `default`: the text after the colon. "
        "`unresolved`: nothing, the placeholder is unchanged."
    )
    key: str | None = Field(None, description="The key whose value was used.")
    source: SourceOut | DefaultSourceOut | None = Field(None, description="The layer of that key.")

    @classmethod
    def of(cls, used: UsedPlaceholder) -> "PlaceholderOut":
        source = None if used.source is None else source_out(used.source)
        return cls(name=used.name, outcome=used.outcome, key=used.key, source=source)


class ReleaseArmOut(BaseModel):
    """The arm of the reading instance, while a release is running."""

    id: str = Field(description="Id of the release.")
    arm: Literal["candidate", "stable"] = Field(
        description="`candidate`: with the change of the release; `stable`: without."
    )
    step: int = Field(description="Counted from 0.")

    @classmethod
    def of(cls, arm: ReleaseArm | None) -> "ReleaseArmOut | None":
        return None if arm is None else cls(id=arm.release, arm=arm.arm, step=arm.step)


Released = Annotated[
    ReleaseArmOut | None,
    Field(
        default=None,
        exclude_if=lambda release: release is None,
        description="Only of a read with `instance` while a release is running.",
    ),
]


class KeyOut(BaseModel):
    key: str
    value: Any = Field(description='A secret is `{"$secret": "masked"}` unless revealed.')
    environment: str
    service_name: str
    user: str | None = None
    source: SourceOut | DefaultSourceOut = Field(
        description="The layer the value comes from; with `defaults`, it may be a schema."
    )
    version: int = Field(description="The source's version in which this key last changed.")
    is_encrypted: bool
    children: bool = Field(
        description="True: the key has a value, and is also a section of further keys."
    )
    updated_at: datetime | None
    updated_by: str
    warnings: Warnings
    release: Released

    @classmethod
    def of(cls, answer: KeyAnswer, value: Any, notices: Sequence[Notice] = ()) -> "KeyOut":
        return cls(
            key=answer.key,
            value=value,
            environment=answer.addressed.environment,
            service_name=answer.addressed.service,
            user=answer.addressed.user,
            source=source_out(answer.source),
            version=answer.version,
            is_encrypted=answer.is_encrypted,
            children=answer.has_children,
            updated_at=_time(answer.updated_at),
            updated_by=actor_name(answer.updated_by),
            warnings=WarningOut.all(notices),
            release=ReleaseArmOut.of(answer.release),
        )


class ResolvedKeyOut(KeyOut):
    placeholders: list[PlaceholderOut] = Field(description="Placeholders in the value, in order.")

    @classmethod
    def of_resolved(cls, answer: KeyAnswer, value: Any) -> "ResolvedKeyOut":
        placeholders = [PlaceholderOut.of(used) for used in answer.placeholders]
        return cls(**dict(KeyOut.of(answer, value)), placeholders=placeholders)


class MissingOut(SourceOut):
    key: str


class BulkOut(BaseModel):
    items: list[KeyOut]
    missing: list[MissingOut]


class PatchOut(SourceOut):
    version: int
    changed: bool = Field(description="False if nothing had to change.")
    warnings: Warnings


class KeyChangeOut(BaseModel):
    version: int
    value: Any
    removed: bool
    is_encrypted: bool
    action: Action
    actor: str
    comment: str
    at: datetime | None

    @classmethod
    def of(cls, change: KeyChange) -> "KeyChangeOut":
        return cls(
            version=change.version,
            value=change.value,
            removed=change.removed,
            is_encrypted=change.is_encrypted,
            action=change.action,
            actor=actor_name(change.actor),
            comment=change.comment,
            at=_time(change.at),
        )


class LayerOut(SourceOut):
    version: int


def _layer_out(layer: DocumentId, version: int) -> LayerOut | DefaultSourceOut:
    if isinstance(layer, DefaultsLayer):
        return DefaultSourceOut.of(layer)
    return LayerOut(**SourceOut.of(layer).model_dump(), version=version)


class EffectiveOut(BaseModel):
    environment: str
    service_name: str
    user: str | None = None
    data: dict[str, Any]
    sources: dict[str, SourceOut | DefaultSourceOut] = Field(
        description="The layer of each value, by key."
    )
    layers: list[LayerOut | DefaultSourceOut] = Field(
        description="The merged layers, lowest first."
    )
    revision: int = Field(description="Revision of the newest contributing change.")
    release: Released

    @classmethod
    def of(cls, effective: Effective, data: dict[str, Any]) -> "EffectiveOut":
        return cls(
            environment=effective.addressed.environment,
            service_name=effective.addressed.service,
            user=effective.addressed.user,
            data=data,
            sources={key: source_out(layer) for key, layer in effective.merged.sources.items()},
            layers=[_layer_out(layer, version) for layer, version in effective.layers],
            revision=effective.revision,
            release=ReleaseArmOut.of(effective.release),
        )


class ResolvedEffectiveOut(EffectiveOut):
    placeholders: dict[str, list[PlaceholderOut]] = Field(
        description="Placeholders by the key of the value that contains them."
    )

    @classmethod
    def of_resolved(
        cls,
        effective: Effective,
        data: dict[str, Any],
        placeholders: Mapping[str, Sequence[UsedPlaceholder]],
    ) -> "ResolvedEffectiveOut":
        by_key = {
            key: [PlaceholderOut.of(used) for used in in_leaf]
            for key, in_leaf in placeholders.items()
        }
        return cls(**dict(EffectiveOut.of(effective, data)), placeholders=by_key)


class DocumentIn(RequestBody):
    config_data: dict[str, Any] = Field(json_schema_extra=KEYED)
    comment: Comment = ""
    created_by: Annotated[str, Field(max_length=200)] | None = None


class DocumentOut(BaseModel):
    service_name: str
    environment: str
    version: int
    config_data: dict[str, Any]
    comment: str
    created_by: str
    created_at: datetime | None
    updated_at: datetime | None
    updated_by: str

    @classmethod
    def of(cls, shown: VisibleVersion) -> "DocumentOut":
        body = shown.body
        return cls(
            service_name=shown.document.service,
            environment=shown.document.environment,
            version=body.version,
            config_data=shown.data,
            comment=body.change.comment,
            created_by=actor_name(body.created_by),
            created_at=_time(body.created_at),
            updated_at=_time(body.change.at),
            updated_by=actor_name(body.change.actor),
        )


class DocumentWrittenOut(DocumentOut):
    warnings: Warnings

    @classmethod
    def of_written(cls, shown: VisibleVersion, notices: Sequence[Notice]) -> "DocumentWrittenOut":
        said = DocumentOut.of(shown)
        return cls(**dict(said), warnings=WarningOut.all(notices))


class DocumentListedOut(BaseModel):
    service_name: str
    environment: str
    version: int
    updated_at: datetime
    updated_by: str

    @classmethod
    def of(cls, pointer: Pointer) -> "DocumentListedOut":
        return cls(
            service_name=pointer.entity.name,
            environment=pointer.entity.environment,
            version=pointer.version,
            updated_at=pointer.at,
            updated_by=actor_name(pointer.actor),
        )


class DocumentChangeOut(BaseModel):
    version: int
    revision: int
    action: Action
    actor: str
    comment: str
    at: datetime

    @classmethod
    def of(cls, change: Change) -> "DocumentChangeOut":
        return cls(
            version=change.version,
            revision=change.revision,
            action=change.action,
            actor=actor_name(change.actor),
            comment=change.comment,
            at=change.at,
        )


class ChangedOut(BaseModel):
    old: Any
    new: Any


class DiffOut(BaseModel):
    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, ChangedOut]

    @staticmethod
    def changes(diff: Diff) -> dict[str, ChangedOut]:
        return {key: ChangedOut(old=old, new=new) for key, (old, new) in diff.changed.items()}

    @classmethod
    def of(cls, diff: Diff) -> "DiffOut":
        return cls(added=diff.added, removed=diff.removed, changed=cls.changes(diff))


class DocumentDiffOut(DiffOut):
    service_name: str
    environment: str
    old_version: int
    new_version: int


class FailureOut(BaseModel):
    code: str
    detail: str


class ImportedOut(SourceOut):
    status: Literal["created", "updated", "unchanged", "failed"]
    version: int
    changes: DiffOut
    error: FailureOut | None = None
    warnings: Warnings

    @classmethod
    def of_import(cls, imported: ImportResult) -> "ImportedOut":
        error = imported.error
        return cls(
            **SourceOut.of(imported.document).model_dump(),
            status=imported.status,
            version=imported.version,
            changes=DiffOut.of(imported.changes),
            error=FailureOut(code=error.code, detail=str(error)) if error else None,
            warnings=WarningOut.all(imported.notices),
        )


class PlaceIn(RequestBody):
    environment: Name
    service_name: Name
    user: UserName | None = None

    def document(self) -> DocumentId:
        """Return the layer; raises BadName."""
        return document_id(self.environment, self.service_name, self.user)


class LayerCopyIn(RequestBody):
    source: PlaceIn = Field(alias="from", description="The layer that is copied.")
    to: PlaceIn = Field(description="The layer that it is merged into.")
    keys: list[Key] | None = Field(
        None, min_length=1, max_length=10_000, description="Keys or sections; null for all."
    )
    dry_run: bool = False
    comment: Comment = ""


class LayerCopyOut(BaseModel):
    dry_run: bool
    source: SourceOut = Field(serialization_alias="from", description="The layer that was copied.")
    to: SourceOut = Field(description="The layer that it was merged into.")
    status: Literal["created", "updated", "unchanged"]
    version: int
    changes: DiffOut
    warnings: Warnings

    @classmethod
    def of_copy(cls, source: DocumentId, result: ImportResult, *, dry_run: bool) -> "LayerCopyOut":
        assert result.status != "failed"
        return cls(
            dry_run=dry_run,
            source=SourceOut.of(source),
            to=SourceOut.of(result.document),
            status=result.status,
            version=result.version,
            changes=DiffOut.of(result.changes),
            warnings=WarningOut.all(result.notices),
        )


class ImportOut(BaseModel):
    dry_run: bool
    documents: list[ImportedOut]
    notes: list[str] = Field(description="Parts of the file that were left out, and why.")


def _time(text: str) -> datetime | None:
    """Read a stored time; a document written past this service may carry none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
