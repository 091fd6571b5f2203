"""Signatures of Standard Webhooks (https://www.standardwebhooks.com), version `v1`. Pure."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = range(24, 65)
_MADE_BYTES: Final = 32


class BadSecret(ValueError):
    """Not a secret of the standard."""

    def __init__(self) -> None:
        super().__init__("a secret is `whsec_`, then 24 to 64 random bytes in base64")


def create_secret() -> str:
    """Return a new random secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_MADE_BYTES)).decode()


def read_key(secret: str) -> bytes:
    """Return the key that a secret holds; raises BadSecret."""
    if not secret.startswith(PREFIX):
        raise BadSecret
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise BadSecret from None
    if len(key) not in SECRET_BYTES:
        raise BadSecret
    return key


def signature_headers(
    keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Return the headers of a message: HMAC-SHA-256 over `id.timestamp.body` by each key."""
    content = f"{message_id}.{timestamp}.".encode() + body
    signed = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{each}" for each in signed),
    }
