"""Routes of what webhooks have sent, and of what they could not send."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.access.caller import CurrentCaller
from app.web.bodies import StrictRoute
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.webhooks.router import WEBHOOKS, WebhookName, Webhooks, demand_webhook
from app.webhooks.schemas import AttemptOut, DeadLetterOut, ResentOut

router = APIRouter(
    prefix=f"{WEBHOOKS}/{{name}}", tags=["webhooks"], route_class=StrictRoute, responses=PROBLEMS
)
MessageId = Annotated[str, Path(max_length=128, description="`webhook-id` of the message.")]


@router.get("/deliveries", summary="Recent requests to the receiver, newest first")
async def list_deliveries(
    name: WebhookName,
    webhooks: Webhooks,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AttemptOut]:
    """The last 200, with the status of each answer and nothing else of it."""
    await demand_webhook(webhooks, caller, name)
    before = decode_cursor(cursor, int)[0] if cursor else None
    page = await webhooks.attempts(name, limit, before)
    more = encode_cursor(page[-1].number) if len(page) == limit else None
    return Page(items=[AttemptOut.of(each.attempt) for each in page], next=more)


@router.get("/dead-letters", summary="Messages that were given up, oldest change first")
async def list_dead_letters(
    name: WebhookName,
    webhooks: Webhooks,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DeadLetterOut]:
    """Up to 10,000 are kept, for 14 days."""
    await demand_webhook(webhooks, caller, name)
    after = decode_cursor(cursor, int, str) if cursor else None
    page = await webhooks.dead_letters(name, limit, after)
    last = page[-1].delivery if len(page) == limit else None
    more = None if last is None else encode_cursor(last.revision, last.id)
    return Page(items=[DeadLetterOut.of(each) for each in page], next=more)


@router.post("/dead-letters/resend", summary="Try all dead letters once more")
async def resend_all(name: WebhookName, webhooks: Webhooks, caller: CurrentCaller) -> ResentOut:
    """In the order of the log for each entity. One that fails is a dead letter again."""
    await demand_webhook(webhooks, caller, name)
    return ResentOut(resent=await webhooks.resend(name))


@router.post("/dead-letters/{message_id}/resend", summary="Try one dead letter once more")
async def resend_one(
    name: WebhookName, message_id: MessageId, webhooks: Webhooks, caller: CurrentCaller
) -> ResentOut:
    """It arrives after later changes that were delivered meanwhile, with the same `webhook-id`."""
    await demand_webhook(webhooks, caller, name)
    return ResentOut(resent=await webhooks.resend(name, message_id))


@router.post("/test", summary="Send a test message now")
async def send_test(name: WebhookName, webhooks: Webhooks, caller: CurrentCaller) -> AttemptOut:
    """Of the type `pilothouse.webhook.test`, once, also while the webhook is disabled."""
    await demand_webhook(webhooks, caller, name)
    return AttemptOut.of(await webhooks.send_test(name))
