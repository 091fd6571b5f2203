"""What happens at the hot door when an endpoint fails."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.web.hot import Asking, HotAnswer, HotFastAPI
from app.web.middleware import Edge

pytestmark = pytest.mark.anyio


class Anybody:
    name = None
    home = None

    def may(self, _: object, environment: str = "", service: str = "") -> bool:  # noqa: ARG002
        return True


class Gate:
    def at_once(self, _: Mapping[bytes, bytes]) -> Asking:
        return Anybody()


class Failing:
    route = "/things/{name}"
    prefix = "/things/"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], asking: Asking
    ) -> HotAnswer | None:
        raise ValueError(f"cannot answer {asking.name} about {parameter}{query!r}{headers}")


@dataclass
class Served:
    """An application as the server calls it, with what its lifespan has made."""

    app: FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "state": {"hot": (Failing(),), "gate": Gate()}}, receive, send)


@pytest.mark.parametrize(("name", "status"), [("good", 200), ("bad", 500)])
async def test_where_the_hot_door_fails_fastapi_answers(name: str, status: int) -> None:
    app = HotFastAPI()
    app.add_middleware(Edge)

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        if name == "bad":
            raise ValueError("cannot answer either")
        return name

    transport = httpx.ASGITransport(app=Served(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(f"/things/{name}")

    assert answer.status_code == status
    assert "X-Request-Id" in answer.headers
    told = answer.json() if status == 200 else answer.json()["code"]
    assert told == ("good" if status == 200 else "internal_error")
