"""Requests to receivers, limited to permitted addresses as health probes are."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from time import monotonic
from typing import Final

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

from app.outbound.addresses import Address, AddressPolicy
from app.outbound.pinning import (
    AddressForbidden,
    HostUnknown,
    discard_body,
    host_header,
    permitted_addresses,
    url_with_address,
)
from app.outbound.resolver import Resolve
from app.timeouts import timeout_while_running
from app.webhooks.rounds import Failure
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import Url, read_url

ANSWER_SECONDS: Final = 5.0
GONE: Final = 410
_SUCCESS: Final = range(200, 300)
_KEPT_SECONDS: Final = 15.0  # that an idle connection is kept


class ReceiverUnreachable(Exception):
    """Nothing can be sent to this URL now; the text says why, without the URL."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A URL with the addresses that its host had when they were checked."""

    url: Url
    addresses: Sequence[Address]


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one request: `failure` is None if the receiver has accepted the message."""

    status: int | None
    seconds: float
    failure: Failure | None

    @property
    def is_gone(self) -> bool:
        return self.status == GONE


class Sender:
    def __init__(
        self, resolve: Resolve, policy: AddressPolicy, *, tls: SSLContext | None = None
    ) -> None:
        """Trust the certificates that `tls` trusts; by default those of this machine."""
        self._resolve = resolve
        self._policy = policy
        self._session = ClientSession(
            # No limit: the caller bounds how many requests are under way.
            connector=TCPConnector(limit=0, ssl=tls or True, keepalive_timeout=_KEPT_SECONDS),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,  # a small body can unpack to a large one
            timeout=ClientTimeout(total=None),
            headers={"User-Agent": "pilothouse-webhooks", "Content-Type": "application/json"},
        )

    async def locate(self, text: str) -> Receiver:
        """Resolve the host of a URL and check its addresses; raises ReceiverUnreachable."""
        try:
            url = read_url(text)
            async with asyncio.timeout(ANSWER_SECONDS):
                addresses = await permitted_addresses(url.host, self._resolve, self._policy)
        except DefinitionError as error:
            raise ReceiverUnreachable(f"the URL {error.detail}") from None
        except HostUnknown:
            raise ReceiverUnreachable("the host does not resolve") from None
        except AddressForbidden:
            raise ReceiverUnreachable("the address is not in an allowed network") from None
        except TimeoutError:
            raise ReceiverUnreachable("the host does not resolve in time") from None
        return Receiver(url, addresses)

    async def refusal(self, text: str) -> str | None:
        """Return why nothing may be sent to a URL, None if it may be.

        A host that does not resolve now is let through: its deliveries fail until it does.
        """
        try:
            host = read_url(text).host
            async with asyncio.timeout(ANSWER_SECONDS):
                await permitted_addresses(host, self._resolve, self._policy)
        except DefinitionError as error:
            return error.detail
        except AddressForbidden:
            return "reaches an address that is not in an allowed network"
        except (HostUnknown, TimeoutError):
            return None
        return None

    async def send(self, receiver: Receiver, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one message; a status of 200 to 299 within ANSWER_SECONDS is a success.

        Redirects are not followed, and at most 64 KiB of the answer are read and forgotten. The
        next address is tried only if no connection to the one before was made. Never raises.
        """
        began = monotonic()
        status: int | None = None
        try:
            async with timeout_while_running(ANSWER_SECONDS):
                status, retry_after = await self._post(receiver, headers, body)
            failure = (
                None if status in _SUCCESS else Failure(status, f"answered {status}", retry_after)
            )
        except TimeoutError:
            failure = Failure(None, f"did not answer within {ANSWER_SECONDS:g} s")
        except (ClientError, OSError, ValueError) as error:
            failure = Failure(None, f"cannot be reached: {type(error).__name__}")
        return Answer(status, monotonic() - began, failure)

    async def _post(
        self, receiver: Receiver, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, float | None]:
        url = receiver.url
        *others, last = receiver.addresses
        for address in others:
            try:
                return await self._post_to(url, address, headers, body)
            except ClientConnectorError:
                continue
        return await self._post_to(url, last, headers, body)

    async def _post_to(
        self, url: Url, address: Address, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, float | None]:
        async with self._session.post(
            url_with_address(url, address),
            data=body,
            headers={**headers, "Host": host_header(url)},
            server_hostname=url.host if url.scheme == "https" else None,
            allow_redirects=False,
        ) as response:
            await discard_body(response)
            return response.status, _retry_after(response)

    async def close(self) -> None:
        await self._session.close()


def _retry_after(response: ClientResponse) -> float | None:
    """Return the seconds that the receiver asks for; a date counts as nothing."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < len("1000000") else None
