"""JSON is read strictly, and what is wrong with it is said."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Request
from pydantic import BaseModel

from app.web import problem
from app.web.bodies import StrictRoute, check_file_type, read_text
from app.web.boundary import RequestBoundary

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

    @router.post("/bare")
    async def bare() -> str:
        return "no body asked for"

    outer = APIRouter(prefix="/api")
    outer.include_router(router)

    @outer.post("/texts")
    async def measure(text: Annotated[str, Depends(read_text)]) -> str:
        return text

    @outer.post("/files/{kind}")
    async def take_file(kind: str, request: Request) -> int:
        check_file_type(request, f"application/{kind}", f"text/x-{kind}")
        return len(await read_text(request))

    app = FastAPI(redirect_slashes=False)
    problem.install(app)
    app.add_middleware(RequestBoundary)
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
        (b"", "no body"),
        (b'{"name": "a", "name": "b"}', "'name' occurs twice"),
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


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"", 200),
        ({"Content-Type": "text/plain"}, b"", 200),
        ({"Content-Type": JSON}, b"{", 200),
        ({"Content-Type": FORM}, b"a=1", 200),
        ({}, b"a", 200),
        ({"Content-Type": "text/plain"}, b"a", 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"a", 415),
        ({"Content-Type": FORM, "Origin": "http://test"}, b"a=1", 415),
        ({"Origin": "http://test"}, b"a", 415),
    ],
)
async def test_a_route_without_a_body_looks_at_its_type_alone(
    client: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = await client.post("/api/bare", content=body, headers=headers)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("kind", "headers", "status"),
    [
        ("yaml", {"Content-Type": "application/yaml"}, 200),
        ("yaml", {"Content-Type": "Application/YAML; charset=utf-8"}, 200),
        ("yaml", {"Content-Type": "text/x-yaml"}, 200),
        ("yaml", {"Content-Type": "application/octet-stream"}, 200),
        ("yaml", {}, 200),
        ("yaml", {"Content-Type": "application/yaml", "Origin": "http://test"}, 200),
        ("yaml", {"Origin": "http://test"}, 415),
        ("yaml", {"Content-Type": FORM}, 415),
        ("yaml", {"Content-Type": "text/plain"}, 415),
        ("yaml", {"Content-Type": "text/plain; application/yaml"}, 415),
        ("yaml", {"Content-Type": "text/plain, application/yaml"}, 415),
        ("yaml", {"Content-Type": JSON}, 415),
        ("json", {"Content-Type": JSON}, 200),
        ("json", {"Content-Type": FORM}, 200),
        ("json", {"Content-Type": FORM, "Origin": "http://test"}, 415),
        ("json", {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_a_file_has_the_type_of_its_format_or_none_of_its_own(
    client: httpx.AsyncClient, kind: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.post(f"/api/files/{kind}", content=b"a: 1", headers=headers)

    assert answer.status_code == status
    if status == 415:
        assert f"application/{kind}" in answer.json()["detail"]


async def test_two_types_of_one_body_are_refused(client: httpx.AsyncClient) -> None:
    headers = [("Content-Type", JSON), ("Content-Type", "text/plain")]

    for path in ("/api/things", "/api/files/yaml", "/api/bare"):
        assert (await client.post(path, content=b"{}", headers=headers)).status_code == 415


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
