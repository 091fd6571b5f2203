"""Resolution of host names, apart from the event loop."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from app.outbound.addresses import Address

_RESOLVERS = 4  # threads; a slow name server must not block other work

Resolve = Callable[[str], Awaitable[Sequence[Address]]]


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
