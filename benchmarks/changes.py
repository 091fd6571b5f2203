"""How long a change takes to reach another replica, and its stream clients."""

import asyncio
import json
from time import perf_counter
from typing import Self
from urllib.parse import urlsplit

from benchmarks.load import Figures
from benchmarks.table import Row
from tests.servers.service import ServiceProcess

STREAM_CLIENTS = 1000
WRITES = 200
_LOOK_SECONDS = 0.001
_TIMED = 50  # of the stream clients, spread over all of them


async def spread(writer: ServiceProcess, reader: ServiceProcess) -> list[Row]:
    """Write on one replica; read and listen on the other, beside many idle stream clients."""
    timed: list[_Client] = []
    others: list[_Deaf] = []
    for number in range(STREAM_CLIENTS):
        if number % (STREAM_CLIENTS // _TIMED):
            others.append(await _Deaf.connect(reader.url))
        else:
            timed.append(await _Client.connect(reader.url))
    to_writer, to_reader = [await Kept.connect(url) for url in (writer.url, reader.url)]
    try:
        heard: list[float] = []
        visible: list[float] = []
        acknowledged: list[float] = []
        for number in range(WRITES):
            path = "/api/v1/config/key7?environment=production&service_name=bench"
            started = perf_counter()
            revision = await _write(to_writer, path, number)
            acknowledged.append(perf_counter() - started)
            visible.append(await _visible(to_reader, path, number) - started)
            moments = await asyncio.gather(*(client.time_of_arrival(revision) for client in timed))
            heard += [moment - started for moment in moments]
    finally:
        closing: list[_Client | _Deaf | Kept] = [*timed, *others, to_writer, to_reader]
        for client in closing:
            client.close()
    name = f"with {STREAM_CLIENTS} stream clients"
    return [
        Row(
            f"of it the write itself, {name}", Figures(acknowledged, 1 / _mean(acknowledged)), None
        ),
        Row(f"write on A to read on B, {name}", Figures(visible, 1 / _mean(visible)), None),
        Row(f"write on A to stream client of B, {name}", Figures(heard, 1 / _mean(heard)), None),
    ]


def _mean(seconds: list[float]) -> float:
    return sum(seconds) / len(seconds)


async def _write(service: "Kept", path: str, number: int) -> int:
    head, _ = await service.ask("PUT", path, json.dumps({"value": f"change {number}"}).encode())
    return int(header(head, b"x-revision"))


async def _visible(service: "Kept", path: str, number: int) -> float:
    wanted = f'"change {number}"'.encode()
    while True:
        _, body = await service.ask("GET", path)
        if wanted in body:
            return perf_counter()
        await asyncio.sleep(_LOOK_SECONDS)


def header(head: bytes, name: bytes) -> bytes:
    line = next(line for line in head.lower().split(b"\r\n") if line.startswith(name))
    return line.partition(b":")[2].strip()


class Kept:
    """One connection that is kept, as clients do."""

    def __init__(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str) -> Self:
        address = urlsplit(url)
        return cls(address.netloc, *await asyncio.open_connection(address.hostname, address.port))

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[bytes, bytes]:
        length = ""
        if body:
            length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{length}\r\n"
        self._writer.write(head.encode() + body)
        answered = await self._reader.readuntil(b"\r\n\r\n")
        length_of_answer = int(header(answered, b"content-length"))
        return answered, await self._reader.readexactly(length_of_answer)

    def close(self) -> None:
        self._writer.close()


def _request(host: str) -> bytes:
    return f"GET /api/v1/stream HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


class _Deaf(asyncio.Protocol):
    """A stream client that only reads: a thousand that also parse would measure themselves."""

    _transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        self._transport.close()

    @classmethod
    async def connect(cls, url: str) -> Self:
        address = urlsplit(url)
        connecting = asyncio.get_running_loop().create_connection(
            cls, address.hostname or "", address.port or 80
        )
        transport, client = await connecting
        transport.write(_request(address.netloc))
        return client


class _Client:
    """A stream client that remembers when it heard of which revision."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._moments: dict[int, float] = {}
        self._heard = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def connect(cls, url: str) -> Self:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(_request(address.netloc))
        await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            if line.startswith(b"id: "):
                self._moments[int(line[4:])] = perf_counter()
                self._heard.set()

    async def time_of_arrival(self, revision: int) -> float:
        while revision not in self._moments:
            self._heard.clear()
            await self._heard.wait()
        return self._moments[revision]

    def close(self) -> None:
        self._listening.cancel()
        self._writer.close()
