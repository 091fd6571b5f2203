"""Secrets and URLs of webhooks: encrypted where they are stored, in the clear only to be used."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from app.webhooks.model import Webhook
from app.webhooks.signing import read_key

_ENVIRONMENT: Final = "default"  # whose key encrypts


class Ciphertext(Protocol):
    @property
    def ciphertext(self) -> str: ...


class Encryption(Protocol):
    """What is used of the Cipher port; see app/configs/store/port.py."""

    async def seal(
        self, environment: str, items: Sequence[tuple[str, str]]
    ) -> Sequence[Ciphertext]: ...

    async def open(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class OpenedWebhook:
    """The URL of a webhook and its secrets in the clear."""

    url: str = field(repr=False)
    secret: str = field(repr=False)
    former_secret: str | None = field(repr=False)
    former_until: datetime | None

    def signing_keys(self) -> list[bytes]:
        """Return the keys that sign now: the newest, and the former one for a day."""
        keys = [read_key(self.secret)]
        if (
            self.former_secret is not None
            and self.former_until is not None
            and datetime.now(UTC) < self.former_until
        ):
            keys.append(read_key(self.former_secret))
        return keys


class WebhookSecrets:
    def __init__(self, encryption: Encryption) -> None:
        self._encryption = encryption
        self._opened: dict[str, tuple[int, OpenedWebhook]] = {}  # by id, with its version

    async def seal(self, webhook_id: str, url: str, secret: str) -> tuple[str, str]:
        """Return the ciphertexts of a URL and a secret; raises Unavailable."""
        sealed_url, sealed_secret = await self._encryption.seal(
            _ENVIRONMENT, [(_url(webhook_id), url), (_secret(webhook_id), secret)]
        )
        return sealed_url.ciphertext, sealed_secret.ciphertext

    async def open(self, webhook: Webhook) -> OpenedWebhook:
        """Return what a webhook needs to deliver; raises Unavailable."""
        version, opened = self._opened.get(webhook.id, (0, None))
        if opened is not None and version == webhook.version:
            return opened
        items = [(_url(webhook.id), webhook.url), (_secret(webhook.id), webhook.secret)]
        if webhook.former_secret is not None:
            items.append((_secret(webhook.id), webhook.former_secret))
        url, secret, *former = await self._encryption.open(_ENVIRONMENT, items)
        opened = OpenedWebhook(url, secret, former[0] if former else None, webhook.former_until)
        self._opened[webhook.id] = webhook.version, opened
        return opened

    def forget(self, webhook_id: str) -> None:
        """Keep nothing of a webhook that is deleted."""
        self._opened.pop(webhook_id, None)


def _url(webhook_id: str) -> str:
    return f"webhooks/{webhook_id}/url"


def _secret(webhook_id: str) -> str:
    return f"webhooks/{webhook_id}/secret"
