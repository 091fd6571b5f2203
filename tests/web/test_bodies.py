"""JSON is read strictly, and what is wrong with it is said."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, FastAPI
from pydantic import BaseModel

from app.web import problem
from app.web.bodies import RawText, StrictRoute
from app.web.middleware import Edge

pytestmark = pytest.mark.anyio

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Thing(BaseModel):
    name: str
    value: Any = None


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter(route_class=StrictRoute)

    @router.post("/things")
    async def keep(body: Thing) -> Thing:
        return body

    @router.put("/things")
    async def keep_maybe(body: Annotated[Thing | None, Body()] = None) -> str:
        return "nothing" if body is None else body.name

    @router.post("/texts")
    async def measure(text: RawText) -> str:
        return text

    @router.post("/bare")
    async def bare() -> str:
        return "no body asked for"

    outer = APIRouter(prefix="/api")
    outer.include_router(router)
    app = FastAPI(redirect_slashes=False)
    problem.install(app)
    app.add_middleware(Edge)
    app.include_router(outer)
    return app


async def _post(client: httpx.AsyncClient, body: bytes, content_type: str = JSON) -> httpx.Response:
    headers = {"Content-Type": content_type} if content_type else {}
    return await client.post("/api/things", content=body, headers=headers)


@pytest.mark.parametrize(
    "content_type",
    [JSON, "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"],
)
async def test_json_arrives_as_it_was_sent(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await _post(client, b'{"name": "\\u00e4", "value": [1, null]}', content_type)

    assert answer.json() == {"name": "ä", "value": [1, None]}


@pytest.mark.parametrize("content_type", ["", FORM])
async def test_json_from_a_shell_is_taken_for_json(
    client: httpx.AsyncClient, content_type: str
) -> None:
    assert (await _post(client, b'{"name": "a"}', content_type)).status_code == 200


@pytest.mark.parametrize("content_type", ["", FORM])
async def test_json_in_disguise_from_a_web_page_is_refused(
    client: httpx.AsyncClient, content_type: str
) -> None:
    client.headers["Origin"] = "https://elsewhere.example"

    answer = await _post(client, b'{"name": "a"}', content_type)

    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"name": ', "line 1"),
        (b"", "required"),
        (b'{"name": "a", "name": "b"}', "'name' stands twice"),
        (b'{"name": "a", "value": NaN}', "NaN"),
        (b'{"name": "a", "value": -Infinity}', "Infinity"),
        (b'{"name": "a", "value": 1e400}', "number"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b'{"name": "\\u0000"}', "NUL"),
        (b'{"name": "a", "value": ' + b"[" * 64 + b"]" * 64 + b"}", "64 levels"),
        (b'{"name": "a", "value": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "64 levels"),
        (b'{"name": "\xff"}', "UTF-8"),
    ],
)
async def test_json_that_is_not_quite_json_is_refused_with_the_reason(
    client: httpx.AsyncClient, body: bytes, reason: str
) -> None:
    answer = await _post(client, body)

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == (400 if body else 422)
    assert answer.json()["code"] == ("bad_json" if body else "invalid")
    assert reason in answer.text


async def test_64_levels_are_allowed(client: httpx.AsyncClient) -> None:
    answer = await _post(client, b'{"name": "a", "value": ' + b"[" * 63 + b"]" * 63 + b"}")

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b'{"name": "a"}'),
        ("application/xml", b"<name/>"),
        ("application/jsonish", b'{"name": "a"}'),
        ("multipart/form-data; boundary=x", b'{"name": "a"}'),
        ("nonsense", b'{"name": "a"}'),
        (FORM, b"name=hunter2"),
    ],
)
async def test_another_media_type_is_refused(
    client: httpx.AsyncClient, content_type: str, body: bytes
) -> None:
    answer = await _post(client, body, content_type)

    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"
    assert "hunter2" not in answer.text


async def test_a_body_may_be_left_out_where_the_route_says_so(client: httpx.AsyncClient) -> None:
    assert (await client.put("/api/things")).json() == "nothing"
    assert (await client.put("/api/things", json={"name": "a"})).json() == "a"


async def test_a_route_without_a_body_does_not_look_at_one(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/bare", content=b"{", headers={"Content-Type": "text/plain"})

    assert answer.status_code == 200


@pytest.mark.parametrize("body", ["größe: 1\n".encode(), b"\xef\xbb\xbf" + "größe: 1\n".encode()])
async def test_text_is_read_with_or_without_a_byte_order_mark(
    client: httpx.AsyncClient, body: bytes
) -> None:
    assert (await client.post("/api/texts", content=body)).json() == "größe: 1\n"


@pytest.mark.parametrize("body", [b"gr\xf6\xdfe: 1", b"a: \x00"])
async def test_text_that_is_no_text_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/api/texts", content=body)

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_text"
