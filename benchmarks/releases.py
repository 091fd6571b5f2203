"""What a release costs a hot read, and how soon an abort has reached a thousand clients."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from app.configs.documents.edits import PatchKeys
from app.configs.model import document_id
from app.main import create_app
from app.proposals.releases.model import Origin
from app.settings import Settings
from benchmarks.load import Figures
from pilothouse_core.releases.plan import read_plan
from tests.proposals.releasing import ReleasingService
from tests.servers.process import wait_until

_ROUNDS, _CALLS, _INSTANCES, _CLIENTS = 15, 2000, 1000, 1000
_QUERY = b"environment=production&service_name=bench"
_PLAN = {"steps": [{"share": 50, "hold": "1h"}]}
_ALL = {"steps": [{"share": 100, "hold": "1h"}]}


def release_costs() -> str:
    """Return the processor time of reads without and with `instance`, and the time of an abort."""
    return asyncio.run(_measure_reads()) + "\n" + asyncio.run(_measure_aborts())


async def _measure_reads() -> str:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        settings = Settings.model_validate(
            {"pilothouse_data_dir": str(Path(folder)), "log_level": "error"}
        )
        app = create_app(settings)
        opened = await stack.enter_async_context(app.router.lifespan_context(app))
        state: dict[str, Any] = dict(opened or {})
        members = {f"section{n}": {f"key{m}": "value" for m in range(10)} for n in range(10)}
        await _call(app, state, "PATCH", "/api/v1/config", _QUERY, {"set": members})
        asked = _reads(app, state)
        best: dict[str, float] = {}
        await state["releases"].start(
            document_id("production", "bench"),
            PatchKeys({"section1": {"key1": "other"}}),
            read_plan(_PLAN),
            Origin("bench"),
        )
        await asked["released"]()
        for _ in range(_ROUNDS):  # in turns, so that whatever slows the machine slows all
            await _time("without", asked["without"], best)
            await _time("released", asked["released"], best)
    without = best["without"]
    return "\n".join(
        f"effective configuration, in the process: {best[name] * 1e6:.1f} us {text}"
        f" ({without / best[name]:.2f} of the speed)"
        for name, text in (
            ("without", "without `instance`"),
            ("released", f"with `instance`, of {_INSTANCES} while a release is running"),
        )
    )


def _reads(app: Any, state: dict[str, Any]) -> Mapping[str, Callable[[], Awaitable[Any]]]:
    queries = [_QUERY + b"&instance=pod-%d" % number for number in range(_INSTANCES)]
    numbers = iter(range(10**9))

    async def without() -> None:
        await _call(app, state, "GET", "/api/v1/effective", _QUERY)

    async def with_instance() -> None:
        query = queries[next(numbers) % _INSTANCES]
        await _call(app, state, "GET", "/api/v1/effective", query)

    return {"without": without, "released": with_instance}


async def _time(name: str, ask: Callable[[], Awaitable[Any]], best: dict[str, float]) -> None:
    began = process_time()
    for _ in range(_CALLS):
        await ask()
    took = (process_time() - began) / _CALLS
    best[name] = min(took, best.get(name, took))


async def _call(
    app: Any, state: dict[str, Any], method: str, path: str, query: bytes, body: Any = None
) -> None:
    sent = b"" if body is None else json.dumps(body).encode()
    headers = [(b"host", b"localhost")]
    if sent:
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(sent)),
        ]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": headers,
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "state": state,
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": sent, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    if statuses != [200]:
        raise RuntimeError(f"{method} {path} was answered {statuses}")


async def _measure_aborts() -> str:
    with TemporaryDirectory() as folder, ReleasingService({}, Path(folder)) as service:
        wait_until(lambda: service.request("GET", "/ready").status == 200, "it is ready")
        layer = await asyncio.to_thread(service.layer)
        await asyncio.to_thread(layer.write, {"pool": 10})
        clients = [_Client(layer, number) for number in range(_CLIENTS)]
        for begin in range(0, _CLIENTS, 50):
            await asyncio.gather(*(client.open() for client in clients[begin : begin + 50]))
        times: list[float] = []
        for _ in range(3):
            await asyncio.to_thread(layer.start, {"pool": 40}, _ALL)
            await asyncio.gather(*(client.wait_for(40) for client in clients))
            began = perf_counter()
            aborting = asyncio.create_task(asyncio.to_thread(layer.move, "abort"))
            await asyncio.gather(*(client.wait_for(10) for client in clients))
            await aborting
            times += [client.at - began for client in clients]
        for client in clients:
            client.close()
    figures = Figures(times, 0)
    return (
        f"from an abort until {_CLIENTS} clients have the stable value: p50"
        f" {figures.p50 * 1e3:.0f} ms, p99 {figures.p99 * 1e3:.0f} ms"
    )


class _Client:
    """A stream, and a connection to read by when an event concerns the instance."""

    def __init__(self, layer: Any, number: int) -> None:
        self._query = f"{layer.query}&instance=pod-{number}"
        self._stream_query = f"{layer.query}&kinds=config,release"
        self._port = int(layer.service.process.url.rpartition(":")[2])
        self._woken = asyncio.Event()
        self._value = 0
        self.at = 0.0

    async def open(self) -> None:
        self._stream, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._request(f"/api/v1/stream?{self._stream_query}"))
        self._reader, self._asking = await asyncio.open_connection("127.0.0.1", self._port)
        self._task = asyncio.create_task(self._follow())

    def _request(self, target: str) -> bytes:
        return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode()

    async def _follow(self) -> None:
        await self._read()
        async for line in self._stream:
            if line.startswith(b"data: ") and b'"release"' in line:
                await self._read()

    async def _read(self) -> None:
        self._asking.write(self._request(f"/api/v1/effective?{self._query}"))
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        at = head.index(b"content-length:") + 15
        body = await self._reader.readexactly(int(head[at : head.index(b"\r", at)]))
        self._value, self.at = json.loads(body)["data"]["pool"], perf_counter()
        self._woken.set()

    async def wait_for(self, value: int) -> None:
        async with asyncio.timeout(60):
            while self._value != value:
                self._woken.clear()
                await self._woken.wait()

    def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        self._asking.close()
