"""Questions to Prometheus, asked of a server that answers as its API does."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from aiohttp import web

from app.proposals.releases.prometheus import NoQueries, PrometheusQueries
from pilothouse_core.releases.plan import Prometheus

NOW = Prometheus("errors", 0.05, 0)
LASTING = Prometheus("errors", 0.05, 120)


class Server:
    """Answers every question with `body`, after `seconds`; `asked` has the last one."""

    def __init__(self) -> None:
        self.body: Any = {}
        self.status = 200
        self.seconds = 0.0
        self.asked: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked = {"path": request.path, **request.query}
        await asyncio.sleep(self.seconds)
        if isinstance(self.body, str):
            return web.Response(text=self.body, status=self.status)
        return web.json_response(self.body, status=self.status)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/api/v1/{name}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]  # type: ignore[attr-defined]
    yield server
    await runner.cleanup()


@pytest.fixture
async def queries(server: Server) -> AsyncIterator[PrometheusQueries]:
    queries = PrometheusQueries(f"http://127.0.0.1:{server.port}/", seconds=0.5)  # type: ignore[attr-defined]
    yield queries
    await queries.close()


def vector(*values: str) -> Any:
    result = [{"metric": {}, "value": [1, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def matrix(*series: tuple[str, ...]) -> Any:
    result = [{"metric": {}, "values": [[1, value] for value in each]} for each in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


@pytest.mark.parametrize(
    ("signal", "body", "expected"),
    [
        (NOW, vector("0.06"), True),
        (NOW, vector("0.05"), False),
        (NOW, vector("0.01", "0.9"), True),
        (NOW, vector("NaN"), False),
        (NOW, vector(), None),
        (NOW, {"data": {"resultType": "scalar", "result": [1, "7"]}}, True),
        (LASTING, matrix(("0.06", "0.9")), True),
        (LASTING, matrix(("0.06", "0.01", "0.9")), False),
        (LASTING, matrix(("0.01",), ("0.9",)), True),
        (LASTING, matrix(), None),
        (NOW, {"status": "error"}, None),
        (NOW, [], None),
        (NOW, "not JSON", None),
        (NOW, vector("many"), None),
    ],
)
async def test_a_query_is_above_its_limit_or_not(
    server: Server, queries: PrometheusQueries, signal: Prometheus, body: Any, *, expected: Any
) -> None:
    server.body = body

    assert await queries.is_above(signal) is expected


async def test_a_lasting_query_is_asked_over_its_time(
    server: Server, queries: PrometheusQueries
) -> None:
    await queries.is_above(LASTING)

    asked = server.asked
    assert (asked["path"], asked["query"]) == ("/api/v1/query_range", "errors")
    assert float(asked["end"]) - float(asked["start"]) == pytest.approx(120)


async def test_a_server_that_fails_or_is_silent_has_no_data(
    server: Server, queries: PrometheusQueries
) -> None:
    server.body, server.status = vector("7"), 503
    assert await queries.is_above(NOW) is None
    server.status, server.seconds = 200, 5.0
    began = monotonic()
    assert await queries.is_above(NOW) is None
    assert monotonic() - began < 3


async def test_without_a_server_there_is_no_data() -> None:
    assert await NoQueries().is_above(NOW) is None
    unreachable = PrometheusQueries("http://127.0.0.1:9")
    assert await unreachable.is_above(NOW) is None
    await unreachable.close()
