"""Health probes over HTTP, limited to permitted addresses."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from ssl import SSLContext, create_default_context
from time import monotonic

from aiohttp import ClientError, ClientResponse, ClientSession, DummyCookieJar, TCPConnector
from yarl import URL

from app.registry.health.addresses import Address, AddressPolicy
from app.timeouts import timeout_while_running
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import Url, read_url

PROBE_SECONDS = 2.0
BODY_BYTES = 64 * 1024
_SHORTEST_SHARE = 0.1  # minimum number of seconds for each address of a name
_RESOLVERS = 4  # threads; a slow name server must not block other work
_HEALTHY = range(200, 300)
_DEFAULT_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str], Awaitable[Sequence[Address]]]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    is_healthy: bool
    reason: str  # for people; contains only the status of the response
    seconds: float


class _ProbeFailed(Exception):
    """Reason for a failed probe; internal to this module."""


class _ProbeForbidden(_ProbeFailed):
    """The address may not be probed."""


class SystemResolver:
    """Resolves names as this machine does, in a thread pool."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")

    async def __call__(self, host: str) -> Sequence[Address]:
        """Return the addresses of a host; raises OSError if it has no address."""
        loop = asyncio.get_running_loop()
        entries = await loop.run_in_executor(self._threads, _resolve_host, host)
        return list(dict.fromkeys(ip_address(entry[4][0]) for entry in entries))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolve_host(host: str) -> "list[tuple[int, int, int, str, tuple[str, int]]]":
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)  # type: ignore[return-value]


class Prober:
    def __init__(
        self, resolve: Resolve, policy: AddressPolicy, *, tls: SSLContext | None = None
    ) -> None:
        """Trust the certificates that `tls` trusts; by default those of this machine."""
        self._resolve = resolve
        self._policy = policy
        self._session = ClientSession(
            # No limit: waiting for other probes would count as silence of the probed instance.
            connector=TCPConnector(limit=0, force_close=True, ssl=tls or True),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,  # a small body can unpack to a large one
            headers={"User-Agent": "pilothouse-health", "Accept": "*/*"},
        )

    async def probe(self, url: str, seconds: float = PROBE_SECONDS) -> ProbeResult:
        """Send one request; a status of 200 to 299 within `seconds` is healthy. Never raises.

        The host is resolved once, and only addresses checked against the policy are connected to,
        so that a later change of the name has no effect. Each address is tried after the previous
        one has failed or has used up its share of the time. Redirects are not followed, and at most
        64 KiB of the body are read.
        """
        began = monotonic()
        is_healthy = False
        try:
            async with timeout_while_running(seconds):
                status = await self._send_probe(url, seconds)
            is_healthy, reason = status in _HEALTHY, f"answered {status}"
        except TimeoutError:
            reason = f"did not answer within {seconds:g} s"
        except _ProbeFailed as failure:
            reason = str(failure)
        return ProbeResult(is_healthy, reason, monotonic() - began)

    async def refusal(self, url: str, seconds: float = PROBE_SECONDS) -> str | None:
        """Return why a URL may not be probed, None if it may be.

        A name that does not resolve may be probed: it is only unhealthy.
        """
        try:
            async with timeout_while_running(seconds):
                await self._addresses(read_url(url).host)
        except _ProbeForbidden as failure:
            return str(failure)
        except (_ProbeFailed, TimeoutError, DefinitionError):
            return None
        return None

    async def close(self) -> None:
        await self._session.close()

    async def _send_probe(self, text: str, seconds: float) -> int:
        try:
            url = read_url(text)
        except DefinitionError as error:
            raise _ProbeFailed(f"the URL {error.detail}") from None
        if url.scheme not in _DEFAULT_PORTS:
            raise _ProbeFailed("is neither http nor https")
        addresses = await self._addresses(url.host)
        share = max(seconds / len(addresses), _SHORTEST_SHARE)
        return await _first_answer([partial(self._get, url, one) for one in addresses], share)

    async def _get(self, url: Url, address: Address) -> int:
        try:
            async with self._session.get(
                _url_with_address(url, address),
                headers={"Host": _host_header(url)},
                server_hostname=url.host if url.scheme == "https" else None,
                allow_redirects=False,
            ) as response:
                await _discard_body(response)
                return response.status
        except TimeoutError:
            raise
        except (ClientError, OSError, ValueError) as error:
            raise _ProbeFailed(f"cannot be reached: {type(error).__name__}") from None

    async def _addresses(self, host: str) -> Sequence[Address]:
        """Return the permitted addresses of a host, at least one; raises if there is none."""
        try:
            addresses: Sequence[Address] = [ip_address(host)]
        except ValueError:
            try:
                addresses = await self._resolve(host)
            except (OSError, UnicodeError):
                addresses = []
        if not addresses:
            raise _ProbeFailed("does not resolve")
        permitted = [address for address in addresses if self._policy.permits(address)]
        if not permitted:
            raise _ProbeForbidden("may not be probed: its address is not in an allowed network")
        return permitted


async def _first_answer(attempts: Sequence[Callable[[], Awaitable[int]]], share: float) -> int:
    """Return the first result; raises the error of the first failed attempt if all fail.

    The next attempt begins when one has failed, or after `share` seconds.
    """
    running: set[asyncio.Future[int]] = set()
    failure: BaseException | None = None
    left = list(reversed(attempts))
    try:
        while left or running:
            if left:
                running.add(asyncio.ensure_future(left.pop()()))
            done, _ = await asyncio.wait(
                running, timeout=share if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            running -= done
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                failure = failure or error
    finally:
        for attempt in running:
            attempt.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert failure is not None
    raise failure


def trusting_context(ca_file: str | None) -> SSLContext | None:
    """Return a TLS context that also trusts the authorities in a file; raises OSError."""
    if ca_file is None:
        return None
    context = create_default_context()
    context.load_verify_locations(ca_file)
    return context


def _url_with_address(url: Url, address: Address) -> URL:
    host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6
    return URL(f"{url.scheme}://{host}:{url.port}{url.path or '/'}{url.query}", encoded=True)


def _host_header(url: Url) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return host if url.port == _DEFAULT_PORTS[url.scheme] else f"{host}:{url.port}"


async def _discard_body(response: ClientResponse) -> None:
    """Read the body up to a limit: some servers log a reset connection as an error."""
    left = BODY_BYTES
    while left > 0:
        piece = await response.content.read(left)
        if not piece:
            return
        left -= len(piece)
