"""Webhooks in requests and responses."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.actors import split_actor
from app.rules.definitions.model import Definition
from app.web.openapi import NAME
from app.web.request_body import RequestBody
from app.webhooks.messages import PLACEHOLDERS, PRESETS
from app.webhooks.model import (
    KINDS,
    Attempt,
    DeadLetter,
    DeliveryState,
    Filter,
    Outcome,
    Webhook,
    WebhookKind,
)
from app.webhooks.service import WebhookSpec

_PATTERN: dict[str, Any] = {"maxLength": 63, "pattern": "^[A-Za-z0-9._*-]+$"}
_Patterns = Annotated[
    list[Annotated[str, Field(json_schema_extra=_PATTERN)]], Field(min_length=1, max_length=100)
]
_TEMPLATE = (
    f"What is sent: a preset ({', '.join(f'`{each}`' for each in PRESETS)}), or an object in whose "
    f"texts {', '.join(f'`${{{each}}}`' for each in sorted(PLACEHOLDERS))} are replaced. `event` "
    "is the change as a CloudEvent."
)


_KINDS = Field(description="The kinds of changes that are delivered.")
_ENVIRONMENTS = Field(description="Names; `*` matches any characters.")
_SERVICES = Field(description="Names; `*` matches any characters.")


class WebhookIn(RequestBody):
    url: Annotated[str, Field(max_length=2048)] = Field(
        description="Where messages are sent, http or https; encrypted when it is stored."
    )
    secret: Annotated[str, Field(max_length=128)] | None = Field(
        None,
        description="What signs: `whsec_`, then 24 to 64 random bytes in base64. Encrypted, and "
        "never returned. Default: the present one, or one that is made and returned once.",
    )
    kinds: Annotated[list[WebhookKind], Field(min_length=1, max_length=len(KINDS))] = Field(
        description=_KINDS.description
    )
    environments: _Patterns = Field(
        default_factory=lambda: ["*"],
        description="Names; `*` matches any characters. Schemas, templates, policies and webhooks "
        "are in `default`.",
    )
    services: _Patterns = Field(
        default_factory=lambda: ["*"],
        description="Names; `*` matches any characters. They select among configurations, "
        "instances, proposals and releases: the other kinds belong to no service.",
    )
    template: str | dict[str, Any] = Field("event", description=_TEMPLATE)
    enabled: bool = Field(
        default=True, description="Changes while a webhook is disabled are not delivered later."
    )
    comment: Annotated[str, Field(max_length=1000)] = Field(
        "", description="Reason for the change; kept in the history."
    )

    def to_spec(self) -> WebhookSpec:
        selected = Filter(frozenset(self.kinds), tuple(self.environments), tuple(self.services))
        return WebhookSpec(self.url, self.secret, selected, self.template, self.enabled)


class WebhookOut(BaseModel):
    name: Annotated[str, Field(json_schema_extra=NAME)]
    version: int
    url: str = Field(description="Where messages are sent.")
    kinds: list[WebhookKind] = _KINDS
    environments: list[str] = _ENVIRONMENTS
    services: list[str] = _SERVICES
    template: str | dict[str, Any] = Field(description=_TEMPLATE)
    enabled: bool
    former_secret_until: datetime | None = Field(
        description="Until when the former secret signs too, after a new one was set."
    )
    created_at: datetime
    updated_at: datetime
    updated_by: str
    comment: str

    @classmethod
    def members_of(cls, definition: Definition, url: str) -> dict[str, Any]:
        webhook = Webhook.of(definition)
        return {
            "name": definition.name,
            "version": definition.version,
            "url": url,
            "kinds": sorted(webhook.filter.kinds),
            "environments": webhook.filter.environments,
            "services": webhook.filter.services,
            "template": webhook.template,
            "enabled": webhook.is_enabled,
            "former_secret_until": webhook.former_until,
            "created_at": definition.created_at,
            "updated_at": definition.at,
            "updated_by": split_actor(definition.actor)[0],
            "comment": definition.comment,
        }

    @classmethod
    def of(cls, definition: Definition, url: str) -> "WebhookOut":
        return cls.model_validate(cls.members_of(definition, url))


class WebhookStateOut(BaseModel):
    """How far the deliveries of a webhook are."""

    revision: int = Field(description="Changes up to it were delivered, or wait.")
    is_leased: bool = Field(description="Whether a replica delivers now.")
    waiting: int = Field(description="Deliveries that wait for another attempt.")
    dead_letters: int = Field(description="Deliveries that were given up.")
    oldest_seconds: float = Field(description="Age of the oldest change that is not delivered.")
    attempted: int = Field(description="Requests that were sent.")
    gaps: int = Field(
        description="How often the log was trimmed before it was read; each was announced by a "
        "message of the type `pilothouse.log.reset`."
    )

    @classmethod
    def of(cls, state: DeliveryState) -> "WebhookStateOut":
        return cls(
            revision=state.cursor,
            is_leased=state.is_leased,
            waiting=state.waiting,
            dead_letters=state.dead_letters,
            oldest_seconds=round(state.oldest_seconds, 3),
            attempted=state.attempted,
            gaps=state.gaps,
        )


class WebhookDetailOut(WebhookOut):
    state: WebhookStateOut | None = Field(description="Null until deliveries have begun.")

    @classmethod
    def of_state(
        cls, definition: Definition, url: str, state: DeliveryState | None
    ) -> "WebhookDetailOut":
        shown = None if state is None else WebhookStateOut.of(state)
        return cls.model_validate({**cls.members_of(definition, url), "state": shown})


class WebhookWrittenOut(WebhookOut):
    changed: bool = Field(description="False: the webhook said the same already.")
    secret: str | None = Field(
        description="The secret that was made, shown only now; null if the caller has stated one."
    )


class AttemptOut(BaseModel):
    """One request to the receiver; its answer is kept nowhere but for the status."""

    id: str = Field(description="`webhook-id` of the message, the same in every attempt.")
    revision: int = Field(description="Of the change; 0 for a test.")
    outcome: Outcome = Field(description="`failed` is tried again, a `dead_letter` only by hand.")
    status: int | None = Field(description="Of the answer; null if there was none.")
    reason: str = Field(description="Why it failed; empty if it was delivered.")
    seconds: float = Field(description="From the request to the answer.")
    attempt: int = Field(description="Counts the attempts of this message from 1.")
    at: datetime

    @classmethod
    def of(cls, attempt: Attempt) -> "AttemptOut":
        return cls(
            id=attempt.id,
            revision=attempt.revision,
            outcome=attempt.outcome,
            status=attempt.status,
            reason=attempt.reason,
            seconds=attempt.seconds,
            attempt=attempt.attempt,
            at=attempt.at,
        )


class DeadLetterOut(BaseModel):
    """A message that was given up after a day of attempts."""

    id: str = Field(description="`webhook-id` of the message.")
    revision: int
    message: str = Field(description="The change as a CloudEvent, as JSON.")
    attempts: int = Field(description="That were made.")
    status: int | None = Field(description="Of the last answer; null if there was none.")
    reason: str = Field(description="Why the last attempt failed.")
    at: datetime = Field(description="When it was given up.")

    @classmethod
    def of(cls, letter: DeadLetter) -> "DeadLetterOut":
        delivery = letter.delivery
        return cls(
            id=delivery.id,
            revision=delivery.revision,
            message=delivery.message,
            attempts=delivery.attempts,
            status=letter.status,
            reason=letter.reason,
            at=letter.at,
        )


class ResentOut(BaseModel):
    resent: int = Field(description="Dead letters that are tried once more.")
