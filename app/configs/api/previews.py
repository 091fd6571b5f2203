"""Previews and validations in requests and responses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.changes.revisions import REVISION_HEADER
from app.configs.api.requests import PointerOf
from app.configs.api.schemas import (
    ChangedOut,
    DiffOut,
    Key,
    Name,
    SourceOut,
    UserName,
    WarnedOut,
    WarningOut,
    Warnings,
)
from app.configs.checks.errors import SchemaViolated, SecretInPlain
from app.configs.documents.attempt import Outcome, Write
from app.configs.errors import CredentialInPlainValue
from app.configs.model import BASE, SHARED
from app.configs.services.previews import Preview, PreviewService, Validation
from app.rules.judging.errors import MOST_SHOWN, flaw_of
from app.rules.judging.model import Pair
from app.web.openapi import KEYED, PROPOSAL_NEEDED
from app.web.request_body import RequestBody
from app.web.request_state import from_state
from app.web.responses import model_response
from app.workers import is_large_request
from pilothouse_core.diff import Diff

Previews = Annotated[PreviewService, from_state("previews")]
DryRun = Annotated[bool, Query(description="Answer 200 with what would change, and write nothing.")]


class EffectiveDiffOut(DiffOut):
    """What changes in one effective configuration."""

    environment: str
    service_name: str
    user: str | None = None


class PreviewOut(SourceOut):
    """What a write would change; secrets are masked."""

    dry_run: bool = True
    version: int = Field(description="Of the layer before the write; 0: it does not exist.")
    changed: bool
    diff: DiffOut = Field(description="What changes in the layer.")
    effective: list[EffectiveDiffOut] = Field(
        description="The first 100 configurations that change and that the caller may read; fewer "
        "if they have more than 4 MiB."
    )
    affected: int = Field(description="How many configurations the layer contributes to.")
    proposal_needed: str | None = PROPOSAL_NEEDED
    warnings: Warnings

    @classmethod
    def of_preview(cls, preview: Preview) -> "PreviewOut":
        return cls(
            **SourceOut.of(preview.document).model_dump(),
            version=preview.version,
            changed=preview.is_changed,
            diff=diff_out(preview.changes),
            effective=[
                EffectiveDiffOut(
                    environment=pair.environment,
                    service_name=pair.service,
                    user=pair.user,
                    **diff_out(change).model_dump(),
                )
                for pair, change in preview.effective
            ],
            affected=preview.affected,
            proposal_needed=preview.proposal_needed,
            warnings=WarningOut.all(preview.notices),
        )


class ChangeIn(RequestBody):
    environment: Name = BASE
    service_name: Name = SHARED
    user: UserName | None = None
    set: dict[str, Any] = Field(default_factory=dict, json_schema_extra=KEYED)
    unset: list[Key] = Field(default_factory=list, max_length=10_000)


class ValidateIn(RequestBody):
    changes: Annotated[list[ChangeIn], Field(min_length=1, max_length=100)]


class ValidationErrorOut(BaseModel, extra="allow"):
    """As in the problem that writing would be answered with."""

    code: str
    detail: str
    pointer: str | None = Field(None, description="A JSON pointer into the body, as a fragment.")


class ValidationOut(BaseModel):
    valid: bool = Field(description="Whether all changes could be written now.")
    errors: list[ValidationErrorOut] = Field(
        description="The first 100 of configurations that the caller may read."
    )
    warnings: Warnings
    affected: int = Field(description="Configurations that were judged.")
    violating: int = Field(description="Those that would not meet an enforced schema.")
    hidden: int = Field(description="Violating configurations that the caller may not read.")

    @classmethod
    def of(
        cls, validation: Validation, may_read: Callable[[Pair], bool], pointers: Sequence[PointerOf]
    ) -> "ValidationOut":
        judgement = validation.judgement
        shown = [each for each in judgement.errors if may_read(each.pair)]
        flaws = list(found_flaws(validation, pointers))
        flaws += [flaw_of(each, SchemaViolated.code, _place(each.key, pointers)) for each in shown]
        warned = (each for each in judgement.warnings if may_read(each.pair))
        return cls(
            valid=validation.is_valid,
            errors=[ValidationErrorOut.model_validate(each) for each in islice(flaws, MOST_SHOWN)],
            warnings=WarningOut.all(warned),
            affected=judgement.affected,
            violating=judgement.violating,
            hidden=judgement.violating - len({each.pair for each in shown}),
        )


def found_flaws(
    validation: Validation, pointers: Sequence[PointerOf]
) -> Iterator[Mapping[str, object]]:
    """Yield what keeps changes from being written at all, with the places in the body."""
    for number, error in validation.refused:
        assert isinstance(error, CredentialInPlainValue | SecretInPlain)
        yield from type(error)(error.found, pointers[number]).flaws  # type: ignore[arg-type]


def _place(key: str, pointers: Sequence[PointerOf]) -> str:
    """Return the place in the body of the first change that sets a key, "" if none does."""
    candidates = (pointer_of(key) for pointer_of in pointers)
    return next((pointer for pointer in candidates if not pointer.endswith("/set")), "")


def diff_out(diff: Diff) -> DiffOut:
    changed = {key: ChangedOut(old=old, new=new) for key, (old, new) in diff.changed.items()}
    return DiffOut(added=diff.added, removed=diff.removed, changed=changed)


PREVIEWED: dict[int | str, dict[str, Any]] = {
    200: {"model": PreviewOut, "description": "With `dry_run`: what would change."}
}
WARNED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": PreviewOut | WarnedOut,
        "description": "With `dry_run`: what would change. Else what schemas warn of.",
    }
}


def answer_removal(outcome: Outcome) -> Response:
    """Answer 204, or 200 with what schemas warn of."""
    headers = {REVISION_HEADER: str(outcome.revision)}
    if not outcome.warnings:
        return Response(status_code=204, headers=headers)
    warned = WarnedOut(warnings=WarningOut.all(outcome.notices))
    return JSONResponse(warned.model_dump(mode="json", by_alias=True), headers=headers)


async def answer_preview(
    previews: PreviewService, write: Write, pointer_of: PointerOf = lambda _: ""
) -> Response:
    """Answer what a write would change; raises what `carry_out` would raise."""
    try:
        preview = await previews.preview(write)
    except (CredentialInPlainValue, SecretInPlain) as error:
        raise type(error)(error.found, pointer_of) from None  # type: ignore[arg-type]
    except SchemaViolated as error:
        raise error.shown_to(write.may_read, pointer_of) from None
    return await model_response(is_large_request(), lambda: PreviewOut.of_preview(preview), {})
