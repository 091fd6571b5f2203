"""What happens on the fast path when an endpoint fails."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from app.changes.errors import LogUnavailable
from app.web import problem
from app.web.boundary import RequestBoundary
from app.web.fast_path import FastPathApp, FastResponse, Requester
from app.web.sites import SitePolicy

pytestmark = pytest.mark.anyio


class Anybody:
    name = None
    only_environment = None

    def may(self, _: object, environment: str = "", service: str = "") -> bool:  # noqa: ARG002
        return True


class Gate:
    def authenticate_from_cache(self, _: Mapping[bytes, bytes]) -> Requester:
        return Anybody()


@dataclass
class Failing:
    failure: Exception
    route: str = "/things/{name}"
    prefix: str = "/things/"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], requester: Requester
    ) -> FastResponse | None:
        raise type(self.failure)(f"cannot answer {requester.name}: {parameter}{query!r}{headers}")


@dataclass
class Served:
    """An application as the server calls it, with what its lifespan has made."""

    app: FastAPI
    failure: Exception

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = {
            "fast_gets": (Failing(self.failure),),
            "authenticator": Gate(),
            "sites": SitePolicy(),
        }
        await self.app({**scope, "state": state}, receive, send)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("good", 200), ("bad", 500)])
async def test_where_the_fast_path_fails_fastapi_answers(name: str, status: int) -> None:
    app = FastPathApp()
    app.add_middleware(RequestBoundary)

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        if name == "bad":
            raise ValueError("cannot answer either")
        return name

    transport = httpx.ASGITransport(app=Served(app, ValueError("cannot answer")))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(f"/things/{name}")

    assert answer.status_code == status
    assert "X-Request-Id" in answer.headers
    response = answer.json() if status == 200 else answer.json()["code"]
    assert response == ("good" if status == 200 else "internal_error")


async def test_a_failure_with_a_name_is_told_by_fastapi_alone() -> None:
    app = FastPathApp()
    app.add_middleware(RequestBoundary)
    problem.install(app)
    unavailable = LogUnavailable("the change log does not answer")

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        raise unavailable

    with capture_logs() as lines:
        transport = httpx.ASGITransport(app=Served(app, unavailable))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get("/things/good")

    assert (answer.status_code, answer.json()["code"]) == (503, "change_log_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "hot_door_failed" not in {line["event"] for line in lines}
