"""Asks instances whether they are well, and goes nowhere else on their behalf."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from ssl import SSLContext
from time import monotonic

from aiohttp import ClientError, ClientResponse, ClientSession, DummyCookieJar, TCPConnector
from yarl import URL

from app.patience import within
from app.registry.addresses import Address, AddressPolicy
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import Url, read_url

PROBE_SECONDS = 2.0
BODY_BYTES = 64 * 1024
_RESOLVERS = 4  # threads; a name server that is silent must not stop anything else
_HEALTHY = range(200, 300)
_DEFAULT_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str], Awaitable[Sequence[Address]]]


@dataclass(frozen=True, slots=True)
class Probe:
    is_healthy: bool
    reason: str  # for people; holds nothing of the answer but its status
    seconds: float


class _Failed(Exception):
    """Why a probe was not answered well; never leaves this module."""


class _Forbidden(_Failed):
    """It may be alive, but not for us to ask."""


class SystemResolver:
    """Resolves names as this machine does, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")

    async def __call__(self, host: str) -> Sequence[Address]:
        """Return the addresses of a host; raises OSError if there are none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _resolved, host)
        return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolved(host: str) -> "list[tuple[int, int, int, str, tuple[str, int]]]":
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)  # type: ignore[return-value]


class Prober:
    def __init__(
        self, resolve: Resolve, policy: AddressPolicy, *, tls: SSLContext | None = None
    ) -> None:
        """Trust the certificates that `tls` trusts, or else those that this machine does."""
        self._resolve = resolve
        self._policy = policy
        self._session = ClientSession(
            # No limit: waiting for others would count as the silence of the one that is asked.
            connector=TCPConnector(limit=0, force_close=True, ssl=tls or True),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,  # a small body can unpack to a large one
            headers={"User-Agent": "pilothouse-health", "Accept": "*/*"},
        )

    async def probe(self, url: str, seconds: float = PROBE_SECONDS) -> Probe:
        """Ask once; healthy is a status of 200 to 299 within `seconds`. Never raises.

        The host is resolved once, and the address that the policy was asked about is the one that
        is connected to: a name that resolves otherwise a moment later leads nowhere else. Redirects
        are not followed, and of the body no more than 64 KiB is read.
        """
        began = monotonic()
        is_healthy = False
        try:
            async with within(seconds):
                status = await self._ask(url)
            is_healthy, reason = status in _HEALTHY, f"answered {status}"
        except TimeoutError:
            reason = f"did not answer within {seconds:g} s"
        except _Failed as failure:
            reason = str(failure)
        return Probe(is_healthy, reason, monotonic() - began)

    async def refusal(self, url: str, seconds: float = PROBE_SECONDS) -> str | None:
        """Return why a URL may never be probed as it resolves now, None if it may be.

        One that does not resolve may: it is only not healthy yet.
        """
        try:
            async with within(seconds):
                await self._address(read_url(url).host)
        except _Forbidden as failure:
            return str(failure)
        except (_Failed, TimeoutError, DefinitionError):
            return None
        return None

    async def close(self) -> None:
        await self._session.close()

    async def _ask(self, text: str) -> int:
        try:
            url = read_url(text)
        except DefinitionError as error:
            raise _Failed(f"the URL {error.detail}") from None
        if url.scheme not in _DEFAULT_PORTS:
            raise _Failed("is neither http nor https")
        address = await self._address(url.host)
        try:
            async with self._session.get(
                _pinned(url, address),
                headers={"Host": _host_header(url)},
                server_hostname=url.host if url.scheme == "https" else None,
                allow_redirects=False,
            ) as response:
                await _read(response)
                return response.status
        except TimeoutError:
            raise
        except (ClientError, OSError, ValueError) as error:
            raise _Failed(f"cannot be asked: {type(error).__name__}") from None

    async def _address(self, host: str) -> Address:
        """Choose the address to connect to: the first that may be probed."""
        try:
            found: Sequence[Address] = [ip_address(host)]
        except ValueError:
            try:
                found = await self._resolve(host)
            except (OSError, UnicodeError):
                found = []
        if not found:
            raise _Failed("does not resolve")
        for address in found:
            if self._policy.permits(address):
                return address
        raise _Forbidden("may not be probed: its address is not of an allowed network")


def _pinned(url: Url, address: Address) -> URL:
    host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6
    return URL(f"{url.scheme}://{host}:{url.port}{url.path or '/'}{url.query}", encoded=True)


def _host_header(url: Url) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return host if url.port == _DEFAULT_PORTS[url.scheme] else f"{host}:{url.port}"


async def _read(response: ClientResponse) -> None:
    """Let it say what it wants to say, up to a bound: some take a reset as a failure."""
    left = BODY_BYTES
    while left > 0:
        piece = await response.content.read(left)
        if not piece:
            return
        left -= len(piece)
