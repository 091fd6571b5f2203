"""Routes of what webhooks have sent, and of what they could not send."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.web.bodies import StrictRoute
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.webhooks.router import WEBHOOKS, Deliveries, PermittedWebhook
from app.webhooks.schemas import AttemptOut, DeadLetterOut, ResentOut

router = APIRouter(
    prefix=f"{WEBHOOKS}/{{name}}", tags=["webhooks"], route_class=StrictRoute, responses=PROBLEMS
)
MessageId = Annotated[str, Path(max_length=128, description="`webhook-id` of the message.")]


@router.get("/deliveries", summary="Recent requests to the receiver, newest first")
async def list_deliveries(
    webhook: PermittedWebhook,
    deliveries: Deliveries,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AttemptOut]:
    """The last 200, with the status of each answer and nothing else of it."""
    before = decode_cursor(cursor, int)[0] if cursor else None
    page = await deliveries.attempts(webhook, limit, before)
    more = encode_cursor(page[-1].number) if len(page) == limit else None
    return Page(items=[AttemptOut.of(each.attempt) for each in page], next=more)


@router.get("/dead-letters", summary="Messages that were given up, oldest change first")
async def list_dead_letters(
    webhook: PermittedWebhook,
    deliveries: Deliveries,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DeadLetterOut]:
    """Up to 10,000 are kept, for 14 days."""
    after = decode_cursor(cursor, int, str) if cursor else None
    page = await deliveries.dead_letters(webhook, limit, after)
    last = page[-1].delivery if len(page) == limit else None
    more = None if last is None else encode_cursor(last.revision, last.id)
    return Page(items=[DeadLetterOut.of(each) for each in page], next=more)


@router.post("/dead-letters/resend", summary="Try all dead letters once more")
async def resend_all(webhook: PermittedWebhook, deliveries: Deliveries) -> ResentOut:
    """In the order of the log for each entity. One that fails is a dead letter again."""
    return ResentOut(resent=await deliveries.resend(webhook))


@router.post("/dead-letters/{message_id}/resend", summary="Try one dead letter once more")
async def resend_one(
    webhook: PermittedWebhook, message_id: MessageId, deliveries: Deliveries
) -> ResentOut:
    """It arrives after later changes that were delivered since, with the same `webhook-id`."""
    return ResentOut(resent=await deliveries.resend(webhook, message_id))


@router.post("/test", summary="Send a test message now")
async def send_test(webhook: PermittedWebhook, deliveries: Deliveries) -> AttemptOut:
    """Of the type `pilothouse.webhook.test`, once, also while the webhook is disabled."""
    return AttemptOut.of(await deliveries.send_test(webhook))
