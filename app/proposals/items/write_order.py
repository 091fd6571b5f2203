"""The order in which the configurations of a proposal can be written one by one."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from app.configs.model import DocumentId, Draft
from app.configs.services.previews import PreviewService
from app.errors import PilothouseError
from app.proposals.items.port import Numbered

Drafts = Mapping[int, tuple[DocumentId, Draft]]


async def order_by_schemas(
    items: Sequence[Numbered], drafts: Drafts, previews: PreviewService
) -> Sequence[Numbered]:
    """Return items so that no schema refuses one after those before it, as far as possible.

    They were judged together, but are written one by one: `min` may only grow once `max` has.
    `drafts` are by the numbers of the items; one without a draft comes where it was.
    """
    ordered: list[Numbered] = []
    waiting, written = list(items), dict[DocumentId, Draft]()
    while waiting:
        each = await _next_writable(waiting, drafts, written, previews)
        waiting.remove(each)
        ordered.append(each)
        if each.number in drafts and drafts[each.number][1].data is not None:
            document, draft = drafts[each.number]
            written[document] = draft
    return ordered


async def _next_writable(
    waiting: Sequence[Numbered],
    drafts: Drafts,
    written: Mapping[DocumentId, Draft],
    previews: PreviewService,
) -> Numbered:
    """Return the first item that no schema refuses now, else the first of all."""
    for each in waiting:
        if each.number not in drafts:
            return each
        document, draft = drafts[each.number]
        if draft.data is None:
            return each
        with suppress(PilothouseError):
            await previews.check({**written, document: draft}, lambda _: True)
            return each
    return waiting[0]
