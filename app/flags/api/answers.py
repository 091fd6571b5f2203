"""Answers with a flag or a segment, or with several."""

from collections.abc import Iterable
from typing import Final

from fastapi import Response

from app.changes.revisions import REVISION_HEADER
from app.flags.api.schemas import FlagOut, SegmentOut
from app.flags.model import Item, Kind
from app.flags.service import FlagService
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
