"""Configurations as they are sent and answered."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.changes.model import Action, Change, Pointer
from app.configs.answers import KeyAnswer
from app.configs.documents import Shown
from app.configs.errors import MOST_FOUND
from app.configs.keys import KeyChange
from app.configs.model import BASE, SHARED, DocumentId, Finding
from app.configs.reading import Effective
from app.configs.transfer import Imported
from app.web.openapi import KEY, KEYED, NAME, USER
from pilothouse_core.diff import Diff

Comment = Annotated[str, Field(max_length=1000, description="Why; kept in the history.")]
Version = Annotated[int, Field(ge=1, lt=2**31)]
Key = Annotated[
    str, Field(description="A dotted path, e.g. `database.pool.size`.", json_schema_extra=KEY)
]
Name = Annotated[str, Field(json_schema_extra=NAME)]
UserName = Annotated[str, Field(json_schema_extra=USER)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class KeyIn(_In):
    key: Key
    value: Any = Field(description="Any JSON value; an object is a section of further keys.")
    environment: Name = BASE
    service_name: Name = SHARED
    user: UserName | None = None
    is_encrypted: bool = False
    comment: Comment = ""


class ValueIn(_In):
    value: Any
    is_encrypted: bool | None = Field(
        None, description="Unset: a secret stays a secret. `false` makes it plain."
    )
    comment: Comment = ""


class PatchIn(_In):
    set: dict[str, Any] = Field(default_factory=dict, json_schema_extra=KEYED)
    encrypt: list[Key] = Field(default_factory=list, max_length=10_000)
    unset: list[Key] = Field(default_factory=list, max_length=10_000)
    comment: Comment = ""


class RollbackIn(_In):
    version: Version
    comment: Comment = ""


class BulkItemIn(_In):
    key: Key
    environment: Name = BASE
    service_name: Name = SHARED
    user: UserName | None = None


class BulkIn(_In):
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


class WarningOut(BaseModel):
    key: str
    rule: str = Field(description="By which its plain value is taken for a credential.")

    @classmethod
    def all(cls, findings: Sequence[Finding]) -> "list[WarningOut]":
        warned = (finding for finding in findings if not finding.allowed)
        return [cls(key=each.key, rule=each.rule) for each in islice(warned, MOST_FOUND)]


Warnings = Annotated[
    list[WarningOut],
    Field(
        default_factory=list,
        description="Credentials that this write set plainly; the first 100 of them.",
    ),
]


class KeyOut(BaseModel):
    key: str
    value: Any = Field(description='A secret is `{"$secret": "masked"}` unless revealed.')
    environment: str
    service_name: str
    user: str | None = None
    source: SourceOut = Field(description="The layer the value comes from.")
    version: int = Field(description="The source's version in which this key last changed.")
    is_encrypted: bool
    updated_at: datetime | None
    updated_by: str
    warnings: Warnings

    @classmethod
    def of(cls, answer: KeyAnswer, value: Any, findings: Sequence[Finding] = ()) -> "KeyOut":
        return cls(
            key=answer.key,
            value=value,
            environment=answer.addressed.environment,
            service_name=answer.addressed.service,
            user=answer.addressed.user,
            source=SourceOut.of(answer.source),
            version=answer.version,
            is_encrypted=answer.is_encrypted,
            updated_at=_time(answer.updated_at),
            updated_by=answer.updated_by,
            warnings=WarningOut.all(findings),
        )


class MissingOut(SourceOut):
    key: str


class BulkOut(BaseModel):
    items: list[KeyOut]
    missing: list[MissingOut]


class PatchOut(SourceOut):
    version: int
    changed: bool = Field(description="False if everything was as asked already.")
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
            actor=change.actor,
            comment=change.comment,
            at=_time(change.at),
        )


class LayerOut(SourceOut):
    version: int


class EffectiveOut(BaseModel):
    environment: str
    service_name: str
    user: str | None = None
    data: dict[str, Any]
    sources: dict[str, SourceOut] = Field(description="The layer of every leaf's key.")
    layers: list[LayerOut] = Field(description="What was merged, lowest first.")
    revision: int = Field(description="The newest contributing change.")

    @classmethod
    def of(cls, effective: Effective, data: dict[str, Any]) -> "EffectiveOut":
        return cls(
            environment=effective.addressed.environment,
            service_name=effective.addressed.service,
            user=effective.addressed.user,
            data=data,
            sources={key: SourceOut.of(layer) for key, layer in effective.merged.sources.items()},
            layers=[
                LayerOut(**SourceOut.of(layer).model_dump(), version=version)
                for layer, version in effective.layers
            ],
            revision=effective.revision,
        )


class DocumentIn(_In):
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
    def of(cls, shown: Shown) -> "DocumentOut":
        body = shown.body
        return cls(
            service_name=shown.document.service,
            environment=shown.document.environment,
            version=body.version,
            config_data=shown.data,
            comment=body.change.comment,
            created_by=body.created_by,
            created_at=_time(body.created_at),
            updated_at=_time(body.change.at),
            updated_by=body.change.actor,
        )


class DocumentWrittenOut(DocumentOut):
    warnings: Warnings

    @classmethod
    def written(cls, shown: Shown, findings: Sequence[Finding]) -> "DocumentWrittenOut":
        said = DocumentOut.of(shown)
        return cls(**dict(said), warnings=WarningOut.all(findings))


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
            updated_by=pointer.actor,
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
            actor=change.actor,
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
    def changes(found: Diff) -> dict[str, ChangedOut]:
        return {key: ChangedOut(old=old, new=new) for key, (old, new) in found.changed.items()}

    @classmethod
    def of(cls, found: Diff) -> "DiffOut":
        return cls(added=found.added, removed=found.removed, changed=cls.changes(found))


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
    def imported(cls, imported: Imported) -> "ImportedOut":
        error = imported.error
        return cls(
            **SourceOut.of(imported.document).model_dump(),
            status=imported.status,
            version=imported.version,
            changes=DiffOut.of(imported.changes),
            error=FailureOut(code=error.code, detail=str(error)) if error else None,
            warnings=WarningOut.all(imported.findings),
        )


class ImportOut(BaseModel):
    dry_run: bool
    documents: list[ImportedOut]


def _time(text: str) -> datetime | None:
    """Read a stored time; a document written past this service may carry none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
