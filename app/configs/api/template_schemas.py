"""The use of templates by documents, in requests and responses."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.configs.api.schemas import (
    Comment,
    DiffOut,
    FailureOut,
    Name,
    SourceOut,
    Version,
    WarningOut,
    Warnings,
)
from app.configs.model import BASE, SHARED, DocumentId, document_id
from app.configs.services.template_upgrades import (
    UpgradeReport,
    UpgradeResult,
    UpgradeStatus,
    UpgradeWanted,
)
from app.configs.services.template_uses import FoundUse, TemplateUsed
from app.web.request_body import RequestBody

_PATTERN: dict[str, Any] = {"maxLength": 63, "pattern": "^[A-Za-z0-9._*-]+$"}
_Patterns = Annotated[
    list[Annotated[str, Field(json_schema_extra=_PATTERN)]], Field(min_length=1, max_length=100)
]
_KEPT = "Keys that are not as the template has them, because they were changed by hand."


class TemplateUseIn(RequestBody):
    environment: Name = BASE
    service_name: Name = SHARED
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Stored in the document as they are: no secrets."
    )
    dry_run: bool = Field(default=False, description="Only show what would change.")
    comment: Comment = ""

    def document(self) -> DocumentId:
        """Return the layer; raises BadName."""
        return document_id(self.environment, self.service_name)


class TemplateUsedOut(SourceOut):
    template: str = Field(description="The name of the template.")
    template_version: int = Field(description="The version of the template that was used.")
    status: Literal["created", "updated", "unchanged"] = Field(
        description="What happened to the document."
    )
    version: int = Field(description="The version of the document.")
    dry_run: bool
    changes: DiffOut = Field(description="What changes in the document.")
    kept: list[str] = Field(description=_KEPT)
    warnings: Warnings

    @classmethod
    def of_use(cls, template: str, used: TemplateUsed, *, dry_run: bool) -> "TemplateUsedOut":
        written = used.written
        assert written.status != "failed"
        return cls(
            **SourceOut.of(written.document).model_dump(),
            template=template,
            template_version=used.version,
            status=written.status,
            version=written.version,
            dry_run=dry_run,
            changes=DiffOut.of(written.changes),
            kept=list(used.kept),
            warnings=WarningOut.all(written.notices),
        )


class TemplateUseOut(SourceOut):
    version: int = Field(description="The version of the document.")
    template_version: int = Field(description="The version of the template that was used last.")
    parameters: dict[str, Any] = Field(
        description='Those that are part of what became a secret are `{"$secret": "masked"}`.'
    )
    differing: list[str] = Field(description=_KEPT)

    @classmethod
    def of_found(cls, document_use: FoundUse) -> "TemplateUseOut":
        return cls(
            **SourceOut.of(document_use.document).model_dump(),
            version=document_use.version,
            template_version=document_use.use.version,
            parameters=dict(document_use.parameters),
            differing=list(document_use.differing),
        )


class TemplateUsesOut(BaseModel):
    items: list[TemplateUseOut]
    next: str | None = Field(
        None, description="The cursor of the next page; null on the last page."
    )
    hidden: int = Field(description="Documents that use it and that the caller may not read.")
    unreadable: int = Field(description="Documents that cannot be read, and may use it.")


class TemplateUpgradeIn(RequestBody):
    to: Version | None = Field(None, description="Default: the current version.")
    environments: _Patterns = Field(
        default_factory=lambda: ["*"], description="Names; `*` matches any characters."
    )
    services: _Patterns = Field(
        default_factory=lambda: ["*"], description="Names; `*` matches any characters."
    )
    dry_run: bool = Field(default=False, description="Only show what would change.")
    comment: Comment = ""

    def upgrade_wanted(self) -> UpgradeWanted:
        return UpgradeWanted(self.to, tuple(self.environments), tuple(self.services), self.dry_run)


class TemplateUpgradeResultOut(SourceOut):
    status: UpgradeStatus = Field(
        description="`refused`: nothing was written, for the reason in `error`."
    )
    before: int = Field(description="The version of the template that the document had.")
    version: int = Field(description="The version of the document; 0: nothing was written.")
    changes: DiffOut | None = Field(None, description="What changes in the document.")
    kept: list[str] = Field(description=_KEPT)
    error: FailureOut | None = None
    warnings: Warnings

    @classmethod
    def of_result(cls, result: UpgradeResult) -> "TemplateUpgradeResultOut":
        used, error = result.used, result.error
        return cls(
            **SourceOut.of(result.document).model_dump(),
            status=result.status,
            before=result.before,
            version=used.written.version if used is not None else 0,
            changes=DiffOut.of(used.written.changes) if used is not None else None,
            kept=list(used.kept) if used is not None else [],
            error=FailureOut(code=error.code, detail=str(error)) if error else None,
            warnings=WarningOut.all(used.written.notices if used is not None else ()),
        )


class TemplateUpgradesOut(BaseModel):
    to: int = Field(description="The version of the template that documents have from then on.")
    dry_run: bool
    uses: list[TemplateUpgradeResultOut] = Field(description="One result for each document.")
    remaining: int = Field(description="Documents that another request has to upgrade.")
    hidden: int = Field(description="Documents that use it and that the caller may not read.")
    unreadable: int = Field(description="Documents that cannot be read, and may use it.")

    @classmethod
    def of_report(cls, report: UpgradeReport, *, dry_run: bool) -> "TemplateUpgradesOut":
        return cls(
            to=report.to,
            dry_run=dry_run,
            uses=[TemplateUpgradeResultOut.of_result(each) for each in report.results],
            remaining=report.remaining,
            hidden=report.hidden,
            unreadable=report.unreadable,
        )
