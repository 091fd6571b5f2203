"""Requests to the addresses that a host had when they were checked, not to later ones."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TypeVar

from aiohttp import ClientResponse
from yarl import URL

from app.outbound.addresses import Address, AddressPolicy
from app.outbound.resolver import Resolve
from pilothouse_core.instances import Url

BODY_BYTES = 64 * 1024
DEFAULT_PORTS = {"http": 80, "https": 443}

Answer = TypeVar("Answer")


class HostUnknown(Exception):
    """The host has no address."""


class AddressForbidden(Exception):
    """No address of the host may be connected to."""


async def permitted_addresses(
    host: str, resolve: Resolve, policy: AddressPolicy
) -> Sequence[Address]:
    """Return the permitted addresses of a host; raises HostUnknown and AddressForbidden."""
    try:
        addresses: Sequence[Address] = [ip_address(host)]
    except ValueError:
        try:
            addresses = await resolve(host)
        except (OSError, UnicodeError):
            addresses = []
    if not addresses:
        raise HostUnknown
    permitted = [address for address in addresses if policy.permits(address)]
    if not permitted:
        raise AddressForbidden
    return permitted


async def first_answer(attempts: Sequence[Callable[[], Awaitable[Answer]]], share: float) -> Answer:
    """Return the first result; raises the error of the first failed attempt if all fail.

    The next attempt begins when one has failed, or after `share` seconds.
    """
    running: set[asyncio.Future[Answer]] = set()
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


def url_with_address(url: Url, address: Address) -> URL:
    host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6
    return URL(f"{url.scheme}://{host}:{url.port}{url.path or '/'}{url.query}", encoded=True)


def host_header(url: Url) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return host if url.port == DEFAULT_PORTS[url.scheme] else f"{host}:{url.port}"


async def discard_body(response: ClientResponse) -> None:
    """Read the body up to a limit: some servers log a reset connection as an error."""
    left = BODY_BYTES
    while left > 0:
        piece = await response.content.read(left)
        if not piece:
            return
        left -= len(piece)
