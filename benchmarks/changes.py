"""How long a change takes to reach another replica, and its stream clients."""

import asyncio
import json
from time import perf_counter
from urllib.parse import urlsplit

from benchmarks.load import Figures
from benchmarks.table import Row
from tests.servers.service import ServiceProcess

STREAM_CLIENTS = 1000
WRITES = 200
_TIMED = 50  # of the stream clients, spread over all of them


async def spread(writer: ServiceProcess, reader: ServiceProcess) -> list[Row]:
    """Write on one replica; read and listen on the other, beside many idle stream clients."""
    clients = [await _Client.connect(reader.url) for _ in range(STREAM_CLIENTS)]
    timed = clients[:: STREAM_CLIENTS // _TIMED]
    try:
        heard: list[float] = []
        visible: list[float] = []
        for number in range(WRITES):
            path = "/api/v1/config/key7?environment=production&service_name=bench"
            started = perf_counter()
            revision = await _write(writer.url, path, number)
            visible.append(await _visible(reader.url, path, number) - started)
            moments = await asyncio.gather(*(client.heard(revision) for client in timed))
            heard += [moment - started for moment in moments]
    finally:
        for client in clients:
            client.close()
    name = f"with {STREAM_CLIENTS} stream clients"
    return [
        Row(f"write on A to read on B, {name}", Figures(visible, 1 / _mean(visible)), None),
        Row(f"write on A to stream client of B, {name}", Figures(heard, 1 / _mean(heard)), None),
    ]


def _mean(seconds: list[float]) -> float:
    return sum(seconds) / len(seconds)


async def _write(url: str, path: str, number: int) -> int:
    body = json.dumps({"value": f"change {number}"}).encode()
    head, _ = await _exchange(url, "PUT", path, body)
    line = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"x-revision"))
    return int(line.partition(b":")[2])


async def _visible(url: str, path: str, number: int) -> float:
    wanted = f'"change {number}"'.encode()
    while True:
        _, body = await _exchange(url, "GET", path)
        if wanted in body:
            return perf_counter()


async def _exchange(url: str, method: str, path: str, body: bytes = b"") -> tuple[bytes, bytes]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, answer


class _Client:
    """A stream client that remembers when it heard of which revision."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._moments: dict[int, float] = {}
        self._heard = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def connect(cls, url: str) -> "_Client":
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"GET /api/v1/stream HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            if line.startswith(b"id: "):
                self._moments[int(line[4:])] = perf_counter()
                self._heard.set()

    async def heard(self, revision: int) -> float:
        while revision not in self._moments:
            self._heard.clear()
            await self._heard.wait()
        return self._moments[revision]

    def close(self) -> None:
        self._listening.cancel()
        self._writer.close()
