"""The public keys of an OpenID Connect issuer, over HTTP."""

import asyncio
import json
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

import aiohttp
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key

from app.access.errors import IssuerUnavailable
from app.telemetry import ISSUER_CALLS

CALL_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 30.0  # invented key ids must not cause a request each time
_LARGEST: Final = 256 * 1024
_MOST_KEYS: Final = 100
_DISCOVERY: Final = "/.well-known/openid-configuration"
# An issuer that answers with anything but a document of keys counts as unavailable.
_FAILURES: Final = (
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    ValueError,
    KeyError,
    RecursionError,
)
_log = structlog.get_logger(__name__)


class IssuerKeys:
    """Keys read when they are first needed, then every five minutes or for an unknown id.

    While the issuer is unavailable the last keys are used: a key that it has withdrawn is trusted
    until it can be reached again.
    """

    def __init__(self, issuer: str, url: str | None = None, seconds: float = CALL_SECONDS) -> None:
        """Wait at most `seconds` for the keys, discovery included."""
        self._issuer = issuer
        self._seconds = seconds
        self._url = url
        self._keys: Sequence[Key] | None = None
        self._asked = -_FRESH_SECONDS
        self._asking: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def keys(self, key_id: object) -> Sequence[Key]:
        """Return the keys that may have signed; raises IssuerUnavailable if none were ever read."""
        age = monotonic() - self._asked
        is_known = self._keys is not None and (key_id is None or bool(self._with_id(key_id)))
        if age >= _FRESH_SECONDS or (not is_known and age >= _RETRY_SECONDS):
            await self._refresh()
        if self._keys is None:
            # Retried at once, unlike an unknown id: without keys no token can be verified.
            self._asked = -_FRESH_SECONDS
            raise IssuerUnavailable
        return self._keys if key_id is None else self._with_id(key_id)

    def _with_id(self, key_id: object) -> Sequence[Key]:
        return [key for key in self._keys or () if key.kid == key_id]

    async def _refresh(self) -> None:
        """Read the keys, once for all waiting callers."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._read())
        await asyncio.shield(self._asking)

    async def _read(self) -> None:
        outcome = "failed"
        try:
            async with asyncio.timeout(self._seconds):
                self._url = self._url or await self._discover_url()
                self._keys = _usable_keys(await self._fetch_json(self._url))
            outcome = "ok"
        except _FAILURES as error:
            _log.warning("issuer_away", reason=type(error).__name__)
        finally:
            self._asked = monotonic()
            self._asking = None
            ISSUER_CALLS.labels(outcome).inc()

    async def _discover_url(self) -> str:
        document = await self._fetch_json(self._issuer.rstrip("/") + _DISCOVERY)
        if document["issuer"] != self._issuer:
            raise ValueError("another issuer")
        return str(document["jwks_uri"])

    async def _fetch_json(self, url: str) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=2), trust_env=False
            )
        async with self._session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:  # noqa: PLR2004
                raise ValueError("no answer to use")
            text = await answer.content.read(_LARGEST + 1)
            while not answer.content.at_eof() and len(text) <= _LARGEST:
                text += await answer.content.read(_LARGEST + 1 - len(text))
        if len(text) > _LARGEST:
            raise ValueError("too large")
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("not an object")  # noqa: TRY004 - handled like any other bad answer
        return document

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _usable_keys(document: dict[str, Any]) -> Sequence[Key]:
    """Return the keys for signatures; unreadable ones are skipped."""
    keys: list[Key] = []
    members = document["keys"]
    if not isinstance(members, list):
        raise ValueError("not a list of keys")  # noqa: TRY004 - handled like any other bad answer
    for member in members[:_MOST_KEYS]:
        # A symmetric key in a public document is not secret any more.
        if not isinstance(member, dict) or member.get("kty") not in {"RSA", "EC", "OKP"}:
            continue
        if member.get("use", "sig") != "sig":
            continue
        try:
            keys.append(import_key(member))
        except (JoseError, ValueError, TypeError, KeyError):
            _log.warning("issuer_key_unusable")
    return keys
