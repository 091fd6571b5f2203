"""Routes of webhooks: which exist, and where they deliver what."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from app.access.caller import CurrentCaller
from app.access.errors import Denied
from app.access.model import Caller, Right
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    min_revision_dependency,
    wait_until_followed,
)
from app.rules.definitions.model import Scope
from app.rules.policies.model import Authority
from app.web.bodies import StrictRoute
from app.web.conditional import ANY_VERSION, ExpectedVersions, IfMatch, etag
from app.web.freshness import adds_stale_header
from app.web.openapi import CREATED, DELETED, NAME, READ, TAGGED, WRITTEN, with_model
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from app.webhooks.delivery_service import DeliveryService
from app.webhooks.model import Webhook
from app.webhooks.schemas import WebhookDetailOut, WebhookIn, WebhookOut, WebhookWrittenOut
from app.webhooks.service import WebhookRequest, WebhookService, scopes_of

WEBHOOKS = "/api/v1/webhooks"
router = APIRouter(
    prefix=WEBHOOKS,
    tags=["webhooks"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Webhooks = Annotated[WebhookService, from_state("webhooks")]
Deliveries = Annotated[DeliveryService, from_state("webhook_deliveries")]
WebhookName = Annotated[str, Path(json_schema_extra=NAME)]
Comment = Annotated[
    str, Query(max_length=1000, description="Reason for the change; kept in the history.")
]


def _demand(caller: Caller, scopes: Sequence[Scope]) -> None:
    """Raise Denied unless each pair of patterns lies within one grant of the caller."""
    if not caller.has_right_anywhere(Right.WRITE_WEBHOOKS):
        raise Denied(Right.WRITE_WEBHOOKS, "", "")
    for scope in scopes:
        for environment in scope.environments:
            for service in scope.services:
                caller.demand(Right.WRITE_WEBHOOKS, environment, service)


def _may(caller: Caller, webhook: Webhook) -> bool:
    return all(
        caller.may(Right.WRITE_WEBHOOKS, environment, service)
        for environment in webhook.filter.environments
        for service in webhook.filter.services
    )


async def _permitted_webhook(
    name: WebhookName, webhooks: Webhooks, caller: CurrentCaller
) -> Webhook:
    """Raise Denied unless the caller has the right to the webhook, and WebhookNotFound."""
    _demand(caller, ())
    webhook = Webhook.of(await webhooks.current(name))
    _demand(caller, scopes_of(webhook.filter))
    return webhook


PermittedWebhook = Annotated[Webhook, Depends(_permitted_webhook)]


def _request(caller: Caller, comment: str, expected: IfMatch = ANY_VERSION) -> WebhookRequest:
    return WebhookRequest(
        caller.actor(),
        comment,
        caller.request_id,
        lambda scopes: _demand(caller, scopes),
        expected,
        caller.source or None,
        Authority(bypass_reason=caller.bypass_reason),
    )


async def _set_revision(response: Response, webhooks: WebhookService, follower: Following) -> None:
    newest = await wait_until_followed(follower, lambda: webhooks.catalog.revision)
    response.headers[REVISION_HEADER] = str(newest)


@router.get("", responses=READ, summary="List webhooks by name, without their secrets")
async def list_webhooks(
    response: Response,
    webhooks: Webhooks,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[WebhookOut]:
    """Those that the caller may change: a URL may be a secret."""
    _demand(caller, ())
    await _set_revision(response, webhooks, follower)
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [
        each
        for each in webhooks.list_current()
        if each.name > after and _may(caller, Webhook.of(each))
    ]
    page = rest[:limit]
    more = encode_cursor(page[-1].name) if len(rest) > len(page) else None
    items = [WebhookOut.of(each, await webhooks.url_of(each)) for each in page]
    return Page(items=items, next=more)


@router.get(
    "/{name}",  # noqa: FAST003 - PermittedWebhook takes it
    responses=TAGGED,
    summary="Read a webhook and how far its deliveries are",
)
async def get_webhook(
    webhook: PermittedWebhook,
    response: Response,
    webhooks: Webhooks,
    deliveries: Deliveries,
    follower: Following,
) -> WebhookDetailOut:
    await _set_revision(response, webhooks, follower)
    definition = await webhooks.current(webhook.name)
    response.headers["ETag"] = etag(str(definition.version))
    url, state = await webhooks.url_of(definition), await deliveries.state(webhook)
    return WebhookDetailOut.of_state(definition, url, state)


@router.put(
    "/{name}",
    response_model=WebhookWrittenOut,
    responses=WRITTEN | with_model(WebhookWrittenOut, CREATED),
    summary="Create or replace a webhook",
)
async def put_webhook(
    name: WebhookName,
    body: WebhookIn,
    response: Response,
    webhooks: Webhooks,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> Response:
    """A new webhook delivers what changes from now on. With a new secret, the former one signs too
    for 24 hours, in which receivers can change theirs.
    """
    written = await webhooks.put(name, body.to_spec(), _request(caller, body.comment, expected))
    definition = written.definition
    response.headers["ETag"] = etag(str(definition.version))
    response.headers["Cache-Control"] = "no-store"
    response.headers[REVISION_HEADER] = str(definition.revision)
    status = 200
    if written.is_changed and definition.action == "created":
        response.headers["Location"] = f"{WEBHOOKS}/{name}"
        status = 201
    members = WebhookOut.members_of(definition, body.url)
    shown = {**members, "changed": written.is_changed, "secret": written.made_secret}
    return await model_response(
        False,  # noqa: FBT003 - it is small
        lambda: WebhookWrittenOut.model_validate(shown),
        response.headers,
        status,
    )


@router.delete("/{name}", status_code=204, responses=DELETED, summary="Delete a webhook")
async def delete_webhook(
    name: WebhookName,
    response: Response,
    webhooks: Webhooks,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    comment: Comment = "",
) -> None:
    """What waits for its receiver, and its dead letters, are deleted too."""
    _demand(caller, ())
    deleted = await webhooks.delete(name, _request(caller, comment, expected))
    response.headers[REVISION_HEADER] = str(deleted.revision)
