"""The use cases of webhooks: created, changed, removed, tried out, and what they did."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from app.audit.fingerprints import Fingerprints
from app.changes.follower import Follower
from app.changes.model import Action
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.model import (
    ENVIRONMENT,
    Definition,
    DefinitionCommit,
    DefinitionEdit,
    Scope,
    entity,
)
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import DefinitionMoved, DefinitionsUnavailable
from app.rules.policies.enforcement import Policies, count_bypass
from app.rules.policies.model import NO_AUTHORITY, OWN_AUTHORITY, Authority
from app.web.conditional import ANY_VERSION, IfMatch
from app.webhooks.errors import (
    BadWebhookName,
    StaleWebhook,
    TooManyWebhooks,
    WebhookInvalid,
    WebhookNotFound,
)
from app.webhooks.messages import check_body_template
from app.webhooks.model import Filter, Webhook
from app.webhooks.secrets import WebhookSecrets
from app.webhooks.sender import Sender
from app.webhooks.signing import BadSecret, create_secret, read_key
from app.webhooks.store.port import DeliveryStore
from pilothouse_core.names import is_name

MOST_WEBHOOKS: Final = 100
FORMER_SECRET_SECONDS: Final = 24 * 3600
ACTOR: Final = "webhooks"  # of what the deliveries change themselves
_ATTEMPTS: Final = 5  # of a change that other changes overtake


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """What a caller states of a webhook; without a secret the present one stays, or one is made."""

    url: str = field(repr=False)
    secret: str | None = field(repr=False)
    filter: Filter
    template: Any
    is_enabled: bool


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """The actor and reason of a change, and the versions that it may follow (If-Match).

    `allow` raises where the actor may not have changes of these scopes delivered.
    """

    actor: str
    comment: str
    request_id: str
    allow: Callable[[Sequence[Scope]], None] = field(repr=False, compare=False)
    expected: IfMatch = ANY_VERSION
    source: str | None = None
    authority: Authority = NO_AUTHORITY  # where a policy asks for a proposal


@dataclass(frozen=True, slots=True)
class WebhookWritten:
    """The current version; `made_secret` is the secret that was made for it, if one was."""

    definition: Definition
    made_secret: str | None = field(default=None, repr=False)
    is_changed: bool = True


class WebhookService:
    def __init__(  # noqa: PLR0913, PLR0917 - what it stores, and what it sends with
        self,
        definitions: DefinitionStore,
        catalog: DefinitionCatalog,
        deliveries: DeliveryStore,
        secrets: WebhookSecrets,
        sender: Sender,
        follower: Follower,
        policies: Policies,
        fingerprints: Fingerprints,
    ) -> None:
        self.catalog = catalog
        self._definitions = definitions
        self._deliveries = deliveries
        self._secrets = secrets
        self._sender = sender
        self._follower = follower
        self._policies = policies
        self._fingerprints = fingerprints

    def list_current(self) -> Sequence[Definition]:
        """Return the webhooks by name."""
        return self.catalog.live("webhook")

    async def current(self, name: str) -> Definition:
        """Return a webhook, also one that this replica has not followed yet.

        Raises WebhookNotFound.
        """
        definition = self._present(name)
        if definition is None:
            await self.catalog.refresh()
            definition = self._present(name)
        if definition is None:
            raise WebhookNotFound(name, (each.name for each in self.list_current()))
        return definition

    def _present(self, name: str) -> Definition | None:
        newest = self.catalog.definition("webhook", name)
        return None if newest is None or newest.is_deleted else newest

    async def url_of(self, definition: Definition) -> str:
        """Return the URL of a webhook in the clear."""
        return (await self._secrets.open(Webhook.of(definition))).url

    async def put(self, name: str, spec: WebhookSpec, request: WebhookRequest) -> WebhookWritten:
        """Create or replace a webhook; nothing is written if it says the same already.

        Under a new secret the former one signs too for a day. Raises BadWebhookName,
        WebhookInvalid, StaleWebhook, TooManyWebhooks, Unavailable, and what `allow` raises.
        """
        request.allow(scopes_of(spec.filter))
        if not is_name(name):
            raise BadWebhookName(name)
        await self._check(spec)
        await self.catalog.refresh()  # this replica may lag: nothing is refused for what it lacks
        for _ in range(_ATTEMPTS):
            present = self._present(name)
            version = self._check_present(name, present, request)
            if present is None and len(self.list_current()) >= MOST_WEBHOOKS:
                raise TooManyWebhooks(MOST_WEBHOOKS)
            webhook, made = await self._next_version(name, present, spec)
            if present is not None and webhook == Webhook.of(present):
                return WebhookWritten(present, is_changed=False)
            if present is None:
                await self._deliveries.open(webhook.id, self._follower.revision)
            action: Action = "created" if present is None else "updated"
            written = await self._commit(name, webhook.to_text(), action, request)
            if written is not None:
                return WebhookWritten(written, made)
        raise DefinitionMoved("webhook", name, version)

    async def delete(self, name: str, request: WebhookRequest) -> Definition:
        """Delete a webhook with all that waits for it; raises WebhookNotFound, StaleWebhook."""
        await self.catalog.refresh()
        for _ in range(_ATTEMPTS):
            present = await self.current(name)
            version = self._check_present(name, present, request)
            written = await self._commit(name, "", "deleted", request)
            if written is not None:
                return written
        raise DefinitionMoved("webhook", name, version)

    async def disable(self, webhook: Webhook) -> None:
        """Disable a webhook whose receiver has answered that it is gone, unless it was changed."""
        text = replace(webhook, is_enabled=False).to_text()
        comment = "the receiver has answered 410 Gone"
        request = WebhookRequest(ACTOR, comment, "", lambda _: None, authority=OWN_AUTHORITY)
        present = self._present(webhook.name)
        if present is not None and present.version == webhook.version:
            await self._commit(webhook.name, text, "updated", request)

    async def _check(self, spec: WebhookSpec) -> None:
        if spec.secret is not None:
            try:
                read_key(spec.secret)
            except BadSecret as error:
                raise WebhookInvalid("/secret", str(error)) from None
        check_body_template(spec.template)
        reason = await self._sender.refusal(spec.url)
        if reason is not None:
            raise WebhookInvalid("/url", f"the URL {reason}")

    def _check_present(self, name: str, present: Definition | None, request: WebhookRequest) -> int:
        """Raise unless the present version may be followed; return it, 0 if there is none."""
        if present is not None:
            request.allow(scopes_of(Webhook.of(present).filter))
        version = 0 if present is None else present.version
        if not request.expected.allows(version):
            raise StaleWebhook(name, version)
        return version

    async def _next_version(
        self, name: str, present: Definition | None, spec: WebhookSpec
    ) -> tuple[Webhook, str | None]:
        """Return the webhook that is to be stored, and the secret that was made for it."""
        if present is None:
            webhook_id, made = uuid4().hex, create_secret() if spec.secret is None else None
            url, secret = await self._secrets.seal(webhook_id, spec.url, spec.secret or made or "")
            webhook = Webhook(
                id=webhook_id,
                name=name,
                version=0,
                url=url,
                secret=secret,
                former_secret=None,
                former_until=None,
                filter=spec.filter,
                template=spec.template,
                is_enabled=spec.is_enabled,
            )
            return webhook, made
        before = Webhook.of(present)
        webhook = replace(
            before, filter=spec.filter, template=spec.template, is_enabled=spec.is_enabled
        )
        opened = await self._secrets.open(before)
        if spec.secret in (None, opened.secret) and spec.url == opened.url:
            return webhook, None
        url, secret = await self._secrets.seal(before.id, spec.url, spec.secret or opened.secret)
        if spec.secret in (None, opened.secret):
            return replace(webhook, url=url), None
        return (
            replace(
                webhook,
                url=url,
                secret=secret,
                former_secret=before.secret,
                former_until=datetime.now(UTC) + timedelta(seconds=FORMER_SECRET_SECONDS),
            ),
            None,
        )

    async def _commit(
        self, name: str, text: str, action: Action, request: WebhookRequest
    ) -> Definition | None:
        """Write the next version; None if another was written since this replica has read."""
        newest = self.catalog.definition("webhook", name)
        path = entity("webhook", name).key
        present = None if newest is None or newest.is_deleted else f"{path}\0{newest.text}"
        facts = self._fingerprints.facts(present, f"{path}\0{text}" if text else None)
        policies_at = self._policies.revision()
        everywhere = [Scope((ENVIRONMENT,), ("*",))]
        authority = await self._policies.check_direct("webhook", everywhere, request.authority)
        edit = DefinitionEdit(
            "webhook",
            name,
            newest.version if newest is not None else 0,
            text,
            action,
            facts={**facts, **authority},
        )
        commit = DefinitionCommit(
            [edit],
            request.actor,
            request.comment,
            request.request_id,
            request.source,
            policies_at=policies_at,
        )
        try:
            (written,) = await self._definitions.commit(commit)
        except DefinitionMoved:
            await self.catalog.refresh()
            return None
        count_bypass(authority)
        with suppress(DefinitionsUnavailable):  # it was written: the log brings it too
            await self.catalog.refresh()
        return written


def scopes_of(selected: Filter) -> Sequence[Scope]:
    """Return the scopes whose changes are delivered."""
    return [Scope(selected.environments, selected.services)]
