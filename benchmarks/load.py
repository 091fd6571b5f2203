"""A small load generator: keep-alive connections that each send one request after the other."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run measured; seconds, and answers per second."""

    latencies: Sequence[float]
    rate: float

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def p50(self) -> float:
        return self.percentile(0.5)

    @property
    def p99(self) -> float:
        return self.percentile(0.99)


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes = b""
    status: int = 200


async def measure(
    url: str, requests: Callable[[int], Request], *, count: int, connections: int
) -> Figures:
    """Send `requests(0)` to `requests(count - 1)` over `connections`; fails on another status."""
    latencies: list[float] = []
    numbers = iter(range(count))
    started = perf_counter()
    await asyncio.gather(
        *(_connection(url, requests, numbers, latencies) for _ in range(connections))
    )
    return Figures(latencies, count / (perf_counter() - started))


async def _connection(
    url: str,
    requests: Callable[[int], Request],
    numbers: Iterator[int],
    latencies: list[float],
) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        for number in numbers:
            request = requests(number)
            started = perf_counter()
            writer.write(_wire_bytes(request, address.netloc))
            status = await _answer(reader)
            latencies.append(perf_counter() - started)
            if status != request.status:
                raise RuntimeError(f"{request.method} {request.path} was answered {status}")
    finally:
        writer.close()
        await writer.wait_closed()


def _wire_bytes(request: Request, host: str) -> bytes:
    head = f"{request.method} {request.path} HTTP/1.1\r\nHost: {host}\r\n"
    if request.body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(request.body)}\r\n"
    return head.encode() + b"\r\n" + request.body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    at = head.lower().find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r", at)]))
    return status
