"""Health probes over HTTP, limited to permitted addresses."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from time import monotonic

from aiohttp import ClientError, ClientSession, DummyCookieJar, TCPConnector

from app.outbound.addresses import Address, AddressPolicy
from app.outbound.pinning import (
    DEFAULT_PORTS,
    AddressForbidden,
    HostUnknown,
    discard_body,
    first_answer,
    host_header,
    permitted_addresses,
    url_with_address,
)
from app.outbound.resolver import Resolve
from app.timeouts import timeout_while_running
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import Url, read_url

PROBE_SECONDS = 2.0
_SHORTEST_SHARE = 0.1  # minimum number of seconds for each address of a name
_HEALTHY = range(200, 300)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    is_healthy: bool
    reason: str  # for people; contains only the status of the response
    seconds: float


class _ProbeFailed(Exception):
    """Reason for a failed probe; internal to this module."""


class _ProbeForbidden(_ProbeFailed):
    """The address may not be probed."""


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
        if url.scheme not in DEFAULT_PORTS:
            raise _ProbeFailed("is neither http nor https")
        addresses = await self._addresses(url.host)
        share = max(seconds / len(addresses), _SHORTEST_SHARE)
        return await first_answer([partial(self._get, url, one) for one in addresses], share)

    async def _get(self, url: Url, address: Address) -> int:
        try:
            async with self._session.get(
                url_with_address(url, address),
                headers={"Host": host_header(url)},
                server_hostname=url.host if url.scheme == "https" else None,
                allow_redirects=False,
            ) as response:
                await discard_body(response)
                return response.status
        except TimeoutError:
            raise
        except (ClientError, OSError, ValueError) as error:
            raise _ProbeFailed(f"cannot be reached: {type(error).__name__}") from None

    async def _addresses(self, host: str) -> Sequence[Address]:
        """Return the permitted addresses of a host, at least one; raises if there is none."""
        try:
            return await permitted_addresses(host, self._resolve, self._policy)
        except HostUnknown:
            raise _ProbeFailed("does not resolve") from None
        except AddressForbidden:
            raise _ProbeForbidden(
                "may not be probed: its address is not in an allowed network"
            ) from None
