"""Send to Vault over aiohttp what hvac composes (docs/decisions/0036)."""

import asyncio
import json
import random
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from time import monotonic
from typing import Any

import aiohttp
import structlog
from aiohttp.connector import Connection
from yarl import URL

from app.configs.errors import StoreUnavailable, WriteUnanswered
from app.configs.store.vault_api import API, VaultRequest
from app.connection_failures import explain_connection_failure
from app.telemetry import VAULT_REQUEST_DURATION, VAULT_REQUESTS
from app.timeouts import timeout_while_running

CALL_SECONDS = 0.7
_CONNECT_SHARE = 4 / 7  # of a call's time, to connect: the rest is for the answer
CONNECTIONS = 32
_LEAST_PAUSE_SECONDS = 0.1
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._@+-]*"
# Nothing any client or server would decode or normalise: `..` once reached other paths with our
# token, and Vault reads `%2e%2e` as the same.
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*(?:/\?list=true|\?version=[0-9]+)?", re.ASCII)
_WANTS_TLS = b"HTTP request to an HTTPS server"  # so Vault, as every server in Go
_LOOKUP: VaultRequest = API.tokens.lookup_self()
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TokenLogin:
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    role_id: str
    secret_id: str = field(repr=False)
    mount: str = "approle"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Mapping[str, Any]
    retry_after: int | None = None

    @property
    def data(self) -> Mapping[str, Any]:
        data = self.body.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def errors(self) -> str:
        return "; ".join(map(str, self.body.get("errors") or ()))


class _PatientConnector(aiohttp.TCPConnector):
    """aiohttp's own timers take a standstill of this process for silence of Vault's."""

    def __init__(self, seconds: float) -> None:
        super().__init__(limit=CONNECTIONS)
        self._seconds = seconds

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the name is aiohttp's
    ) -> Connection:
        try:
            async with timeout_while_running(self._seconds):
                return await super().connect(req, traces, timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from error


class VaultClient:
    """Calls are refused (`StoreUnavailable`), answered (`Reply`), or unanswered."""

    def __init__(
        self,
        address: str,
        login: TokenLogin | AppRoleLogin,
        *,
        namespace: str | None = None,
        ca_file: str | None = None,
        seconds: float = CALL_SECONDS,
    ) -> None:
        """Wait `seconds` for the answer to one call, connecting included."""
        self._address = address.rstrip("/")
        self._login = login
        self._seconds = seconds
        self._token = login.token if isinstance(login, TokenLogin) else ""
        self._logging_in = asyncio.Lock()
        self._failed_logins = 0
        self._headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace
        self._ssl: ssl.SSLContext | bool = (
            ssl.create_default_context(cafile=ca_file) if ca_file else True
        )
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, operation: str, request: VaultRequest) -> Reply:
        """Make one call, logging in (again) where needed.

        Raises StoreUnavailable when nothing was sent or Vault refused, WriteUnanswered when the
        request was sent and its outcome is unknown.
        """
        if not self._token:
            await self._log_in("")
        token = self._token
        reply = await self._send(operation, request, token)
        if reply.status == 403 and await self._renew_token(token):
            reply = await self._send(operation, request, self._token)
        if reply.status == 403 and request == _LOOKUP and isinstance(self._login, TokenLogin):
            raise StoreUnavailable(
                "Vault refuses VAULT_TOKEN: it is wrong, expired or revoked (403)"
            )
        return _raise_if_refused(reply)

    async def read(self, operation: str, request: VaultRequest) -> Reply:
        """Send a read, once again if the connection broke: a read may be repeated."""
        try:
            return await self._read_once(operation, request)
        except ConnectionError:
            pass
        try:
            return await self._read_once(operation, request)
        except ConnectionError as error:
            raise StoreUnavailable("the connection to Vault broke twice") from error

    async def _read_once(self, operation: str, request: VaultRequest) -> Reply:
        try:
            return await self.call(operation, request)
        except WriteUnanswered as error:
            if isinstance(error.__cause__, TimeoutError):
                raise StoreUnavailable("Vault did not answer in time") from error
            if isinstance(error.__cause__, ValueError):
                raise StoreUnavailable(
                    "the server at VAULT_ADDR answers, but is not Vault"
                ) from error
            raise ConnectionError from error

    async def ask(self, operation: str, request: VaultRequest) -> Reply:
        """Send what changes no document (transit), so being unanswered is harmless."""
        try:
            return await self.call(operation, request)
        except WriteUnanswered as error:
            raise StoreUnavailable("Vault did not answer in time") from error

    async def _send(self, operation: str, request: VaultRequest, token: str) -> Reply:
        started = monotonic()
        outcome = "unsent"
        try:
            reply = await self._exchange(request, token)
            outcome = str(reply.status)
        except aiohttp.ConnectionTimeoutError as error:
            raise StoreUnavailable("Vault cannot be reached: no connection in time") from error
        except aiohttp.ClientConnectorError as error:
            explanation = explain_connection_failure(error, "VAULT_ADDR")
            reason = "" if explanation is None else f": {explanation}"
            raise StoreUnavailable(f"Vault cannot be reached{reason}") from error
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            outcome = "unanswered"
            raise WriteUnanswered("Vault did not answer") from error
        finally:
            VAULT_REQUESTS.labels(operation, outcome).inc()
            VAULT_REQUEST_DURATION.labels(operation).observe(monotonic() - started)
        return reply

    async def _exchange(self, request: VaultRequest, token: str) -> Reply:
        if not _PATH.fullmatch(request.path):
            raise StoreUnavailable("refused to send a request to another path than was meant")
        url = URL(f"{self._address}/v1/{request.path}", encoded=True)
        body = request.body
        headers = self._headers | ({"X-Vault-Token": token} if token else {})
        # Vault measures a string as it is sent, where an escaped character counts six times.
        # A stream, because aiohttp warns of more than a mebibyte of bytes.
        sent = None if body is None else BytesIO(json.dumps(body, ensure_ascii=False).encode())
        call = self._open_session().request(
            request.method, url, data=sent, headers=headers, allow_redirects=False, ssl=self._ssl
        )
        async with timeout_while_running(self._seconds), call as answer:
            raw = await answer.read()
            if answer.status == 400 and _WANTS_TLS in raw[:200]:
                raise StoreUnavailable("VAULT_ADDR is http, but its server needs https")
            retry_after = answer.headers.get("Retry-After", "")
            return Reply(
                answer.status,
                _parse_body(raw, answer.status),
                int(retry_after) if retry_after.isdecimal() else None,
            )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_PatientConnector(self._seconds * _CONNECT_SHARE),
                timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _renew_token(self, token: str) -> bool:
        """After a 403: tell whether there is a new token to try with.

        An expired token also gets a 403. One look-up distinguishes it from a missing policy.
        """
        if self._token != token:
            return True
        if isinstance(self._login, TokenLogin):
            return False
        try:
            lookup = await self._send("lookup", _LOOKUP, token)
        except WriteUnanswered as error:
            raise StoreUnavailable("Vault refused the token (403), then did not answer") from error
        if lookup.status != 403:
            return False
        await self._log_in(token)
        return True

    async def _log_in(self, stale: str) -> None:
        """Log in for a new token unless another request just did."""
        failed = self._failed_logins
        async with self._logging_in:
            login = self._login
            if self._token != stale or isinstance(login, TokenLogin):
                return
            if self._failed_logins != failed:
                # To try in turn would keep the last in the queue waiting far beyond its deadline.
                raise StoreUnavailable("the login to Vault that this request waited for failed")
            try:
                self._token = await self._fresh_token(login)
            except StoreUnavailable:
                self._failed_logins += 1
                raise

    async def _fresh_token(self, login: AppRoleLogin) -> str:
        request = API.approle.login(login.role_id, login.secret_id, mount_point=login.mount)
        try:
            reply = await self._send("login", request, "")
            if reply.status not in {400, 403, 404}:  # which here are about what was sent
                reply = _raise_if_refused(reply)
        except WriteUnanswered as error:
            raise StoreUnavailable("Vault did not answer the login") from error
        auth = reply.body.get("auth")
        if reply.status != 200 or not isinstance(auth, dict):
            raise StoreUnavailable(
                "Vault refuses the AppRole login: VAULT_ROLE_ID, VAULT_SECRET_ID or"
                f" VAULT_APPROLE_MOUNT is wrong ({reply.status})"
            )
        _log.info("vault_logged_in", lease_seconds=auth.get("lease_duration"))
        return str(auth["client_token"])

    async def keep_token(self) -> None:
        """Keep renewing the token at two thirds of its time to live, with jitter.

        Raises StoreUnavailable when Vault is unavailable; call it again.
        """
        while True:
            reply = await self.read("lookup", _LOOKUP)
            if reply.data.get("expire_time") is None:
                await asyncio.sleep(60)  # a token without end; look again: it may be replaced
                continue
            ttl = float(reply.data.get("ttl") or 0)  # whole seconds: 0 in the last one
            pause = ttl * 2 / 3 * random.uniform(0.9, 1.0)  # noqa: S311 - jitter, not a secret
            await asyncio.sleep(max(pause, _LEAST_PAUSE_SECONDS))
            await self._renew(float(reply.data.get("creation_ttl") or 0))

    async def _renew(self, lifetime: float) -> None:
        token = self._token
        renewed = await self.ask("renew", API.tokens.renew_self())
        granted = (renewed.body.get("auth") or {}).get("lease_duration") or 0
        if renewed.status != 200 or granted <= lifetime / 2:
            await self._log_in(token)  # the token nears its maximal life


def _parse_body(raw: bytes, status: int) -> Mapping[str, Any]:
    """Read the body; a proxy's page instead of JSON is not a valid answer."""
    if status == 204:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    if status < 300:
        raise ValueError("not an answer of Vault")
    return {}


def _raise_if_refused(reply: Reply) -> Reply:
    """Pass on what Vault answered, unless it plainly refused to do anything."""
    if reply.status == 403:
        raise StoreUnavailable("Vault refuses the token or its policy (403)")
    if reply.status == 429:
        refused = StoreUnavailable("Vault limits the rate (429)")
        refused.retry_after = reply.retry_after or 1
        raise refused
    if reply.status == 503 and "sealed" in reply.errors.lower():
        raise StoreUnavailable("Vault is sealed")
    if 300 <= reply.status < 400 or (reply.status in {404, 405, 413, 472} and reply.body == {}):
        raise StoreUnavailable(f"Vault answered {reply.status}")
    if reply.status >= 500:
        raise WriteUnanswered(f"Vault answered {reply.status}")
    return reply
