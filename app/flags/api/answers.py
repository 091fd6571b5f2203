"""Answers with a flag or a segment, or with several."""

from collections.abc import Iterable
from time import time
from typing import Final

from fastapi import Response

from app.changes.revisions import REVISION_HEADER
from app.flags.api.schemas import FlagOut, SegmentOut, WritePreviewOut
from app.flags.definitions.plans import ItemPlan
from app.flags.model import Item, Kind
from app.flags.service import FlagService
from app.flags.writer import WriteRequest
from app.web.conditional import etag
from app.web.responses import model_response
from app.workers import LARGE_TEXT

_ANSWERS: Final[dict[Kind, type[FlagOut | SegmentOut]]] = {"flag": FlagOut, "segment": SegmentOut}


def are_large(items: Iterable[Item]) -> bool:
    """Tell whether these are encoded in a worker thread."""
    return sum(len(item.definition) for item in items) > LARGE_TEXT


async def answer_written(
    response: Response, flags: FlagService, item: Item, status: int = 200
) -> Response:
    """Answer a write with the flag or segment it wrote."""
    response.headers[REVISION_HEADER] = str(item.revision)
    return await answer_item(response, flags, item, status)


async def answer_plan(
    response: Response,
    flags: FlagService,
    environment: str,
    plan: ItemPlan,
    request: WriteRequest,
    *,
    is_dry_run: bool,
) -> Response:
    """Carry out a plan, and answer with the written flag or segment; in a dry run, preview it."""
    if is_dry_run:
        return await answer_preview(response, flags, environment, plan, request)
    return await answer_written(response, flags, await flags.write(environment, plan, request))


async def answer_preview(
    response: Response,
    flags: FlagService,
    environment: str,
    plan: ItemPlan,
    request: WriteRequest,
) -> Response:
    """Answer with what a plan would write; nothing is written."""
    preview = await flags.preview(environment, plan, request)
    now = time()
    return await model_response(
        preview.is_large, lambda: WritePreviewOut.of(preview, now), response.headers
    )


async def answer_item(
    response: Response, flags: FlagService, item: Item, status: int = 200
) -> Response:
    """Answer with a flag or segment; a large one is encoded in a worker thread."""
    response.headers["ETag"] = etag(str(item.version))
    presenter = flags.presenter
    presenter.collect_counts(item.kind)
    return await model_response(
        are_large([item]),
        lambda: _ANSWERS[item.kind].model_validate(presenter.members(item)),
        response.headers,
        status,
    )
