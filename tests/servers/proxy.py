"""A TCP proxy between a client and a server that loses, holds and invents answers on command."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self

CHUNK = 65536
Predicate = Callable[[bytes], bool]


def http_answer(status_line: str, body: bytes = b"", **headers: str) -> bytes:
    """Spell `http_answer("429 Too Many Requests", Retry_After="1")` as bytes on the wire."""
    fields = {"Content-Length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status_line}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def is_whole(request: bytes) -> bool:
    """Tell whether an HTTP request has arrived to its last byte."""
    head, blank, body = request.partition(b"\r\n\r\n")
    if not blank:
        return False
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
        if name == b"transfer-encoding" and b"chunked" in value:
            return body.endswith(b"0\r\n\r\n")
    return True


def _any(_: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Drop:
    hang: bool
    when: Predicate


@dataclass(slots=True)
class _Script:
    answer: bytes
    times: int
    when: Predicate


@dataclass(slots=True, eq=False)
class _Wire:
    """A client's connection, the one to the server behind it, and the request under way."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    beginning: bytearray = field(default_factory=bytearray)
    request: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    answered: bool = False
    drop: _Drop | None = None
    is_lost: bool = False

    def take(self, chunk: bytes) -> None:
        if self.answered:  # what comes after an answer is the next request
            self.request.clear()
            self.answered = False
        self.request += chunk
        self.unsent += chunk
        self.beginning += chunk[: CHUNK - len(self.beginning)]

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class LossyProxy:
    """Passes everything through to the target until told otherwise; `heal` returns to that.

    A mode is in force when its method returns. A request is whatever a client sends until
    something comes back, so any protocol of questions and answers passes, also when one question
    arrives in pieces; pipelined requests count as one.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._drops: list[_Drop] = []
        self._scripts: list[_Script] = []
        self._refusing = False
        self._refused_when: Predicate | None = None
        self._delay = 0.0
        self._wires: set[_Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0
        """Answers swallowed so far."""
        self.refused = 0
        """Connections closed by `refuse` so far."""
        self.held = 0
        """Pieces that `hold` has stopped so far, in either direction."""
        started: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        self.port = started.result(10)

    def drop_next_response(self, *, hang: bool = False, when: Predicate = _any) -> None:
        """Let the next request that matches reach the server, and swallow its answer.

        The client sees its connection closed once the server has answered or, with `hang`, waits
        for ever. `when` is asked again with all bytes of the request so far as pieces arrive.
        """
        self._tell(lambda: self._drops.append(_Drop(hang, when)))

    def answer_next(self, answer: bytes, times: int = 1, when: Predicate = _any) -> None:
        """Answer the next HTTP requests that match with these bytes; the server sees nothing."""
        self._tell(lambda: self._scripts.append(_Script(answer, times, when)))

    def refuse(self, when: Predicate | None = None) -> None:
        """Close new connections at once; `cut` ends those that are open.

        With `when`, only those where it holds of what their client sends at first.
        """
        self._tell(lambda: self._refuse(when))

    def cut(self) -> None:
        """Break all open connections now."""
        self._tell(self._cut)

    def hold(self) -> None:
        """Pass nothing in either direction.

        What was held arrives after `heal`, even when its sender has hung up: like packets late on
        a slow wire.
        """
        self._tell(self._flow.clear)

    def lose(self, when: Predicate = _any) -> None:
        """Swallow whatever comes from now on over open connections, and tell neither end.

        Only those where `when` holds of what their client has sent at first. New connections work.
        """
        self._tell(lambda: self._lose(when))

    def slow(self, seconds: float) -> None:
        """Keep each request back that long, once, before it reaches the server."""
        self._tell(lambda: self._slow(seconds))

    def heal(self) -> None:
        """Pass everything again and forget what was to be dropped or answered.

        A client that hangs because its answer was swallowed is not woken, and what was lost stays
        lost.
        """
        self._tell(self._heal)

    def close(self) -> None:
        if self._thread.is_alive():
            self._tell(self._over.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, change: Callable[[], None]) -> None:
        """Change something in the thread of the proxy and wait until that has happened."""
        done: Future[None] = Future()

        def carry_out() -> None:
            change()
            done.set_result(None)

        self._loop.call_soon_threadsafe(carry_out)
        done.result(10)

    def _refuse(self, when: Predicate | None) -> None:
        self._refusing, self._refused_when = when is None, when

    def _slow(self, seconds: float) -> None:
        self._delay = seconds

    def _cut(self) -> None:
        for wire in self._wires:
            wire.cut()

    def _lose(self, when: Predicate) -> None:
        for wire in self._wires:
            wire.is_lost = wire.is_lost or when(bytes(wire.beginning))

    def _heal(self) -> None:
        self._refusing, self._refused_when, self._delay = False, None, 0.0
        self._drops.clear()
        self._scripts.clear()
        self._flow.set()

    async def _run(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._over, self._flow = asyncio.Event(), asyncio.Event()
        self._flow.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        started.set_result(server.sockets[0].getsockname()[1])
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.refused += 1
            writer.transport.abort()
            return
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        wire = _Wire(writer, server_writer)
        self._wires.add(wire)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry_requests(reader, wire))
                both.create_task(self._carry_answers(server_reader, wire))
        except* OSError:
            pass  # one side hung up: the other one sees the same
        finally:
            self._wires.discard(wire)
            wire.cut()
            await asyncio.sleep(0)  # the transports close their sockets in the next round

    async def _carry_requests(self, reader: asyncio.StreamReader, wire: _Wire) -> None:
        while chunk := await reader.read(CHUNK):
            if wire.is_lost:
                continue
            if not wire.beginning and self._refused_when is not None and self._refused_when(chunk):
                self.refused += 1
                wire.cut()
                return
            starts = wire.answered or not wire.request
            wire.take(chunk)
            if starts:
                await asyncio.sleep(self._delay)
            await self._pass_when_flowing()
            await self._forward(wire)
        if wire.is_lost:
            wire.cut()
        wire.server.write_eof()

    async def _forward(self, wire: _Wire) -> None:
        if self._scripts and wire.unsent == wire.request:
            if not is_whole(bytes(wire.request)):
                return  # the rest comes; only a whole request can be answered
            if (answer := self._scripted_reply(bytes(wire.request))) is not None:
                wire.unsent.clear()
                wire.answered = True
                wire.client.write(answer)
                await wire.client.drain()
                return
        wire.drop = wire.drop or self._drop(bytes(wire.request))
        wire.server.write(bytes(wire.unsent))
        wire.unsent.clear()
        await wire.server.drain()

    async def _carry_answers(self, reader: asyncio.StreamReader, wire: _Wire) -> None:
        while chunk := await reader.read(CHUNK):
            await self._pass_when_flowing()
            if wire.is_lost:
                continue
            if wire.drop is not None:
                await self._swallow(reader, wire.drop)
                break
            wire.answered = True
            wire.client.write(chunk)
            await wire.client.drain()
        if not wire.is_lost and (wire.drop is None or not wire.drop.hang):
            wire.client.close()

    async def _swallow(self, reader: asyncio.StreamReader, drop: _Drop) -> None:
        self.dropped += 1
        while drop.hang and await reader.read(CHUNK):
            pass

    async def _pass_when_flowing(self) -> None:
        if not self._flow.is_set():
            self.held += 1
            await self._flow.wait()

    def _drop(self, request: bytes) -> _Drop | None:
        for drop in self._drops:
            if drop.when(request):
                self._drops.remove(drop)
                return drop
        return None

    def _scripted_reply(self, request: bytes) -> bytes | None:
        for script in self._scripts:
            if script.when(request):
                script.times -= 1
                if script.times == 0:
                    self._scripts.remove(script)
                return script.answer
        return None
