"""What holds for every request, asked through hand-made ASGI as well as a client."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from app.flags.api.router_ofrep import RULES
from app.telemetry import REGISTRY
from app.web import problem
from app.web.boundary import MAX_BODY_BYTES, MAX_HEADER_BYTES, RequestBoundary
from app.web.path_rules import PathRules

pytestmark = pytest.mark.anyio
OFREP = PathRules(protocols=(RULES,))


@dataclass
class Exchange:
    """One request through bare ASGI: what was sent back, and how much was read for it."""

    sent: list[Message]
    unread: list[Message]

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(b"".join(part["body"] for part in self.sent[1:]))
        return document


async def exchange(
    app: ASGIApp,
    *,
    method: str = "GET",
    raw_path: bytes = b"/echo",
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    messages: Iterable[Message] = ({"type": "http.request", "body": b"", "more_body": False},),
) -> Exchange:
    result = Exchange(sent=[], unread=list(messages))

    async def receive() -> Message:
        return result.unread.pop(0) if result.unread else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        result.sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "path": httpx.URL(raw_path.decode("latin-1")).path if raw_path.isascii() else "/",
        "raw_path": raw_path,
        "query_string": query,
        "headers": list(headers),
    }
    await app(scope, receive, send)
    return result


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what arrived behind the middleware."""
    first = await receive()
    arrived = {"path": scope["path"], "bytes": len(first["body"]), "more": first["more_body"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(arrived).encode()})


async def break_off(_: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("after the answer began")


def part(body: bytes, *, last: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": not last}


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter(prefix="/things")

    @router.get("/{name}")
    async def thing(name: str) -> str:
        return name

    @router.get("")
    async def things() -> list[str]:
        return []

    @router.post("/{name}")
    async def keep(name: str, request: Request) -> int:
        return len(await request.body())

    @router.get("/{name}/stream")
    async def stream(name: str) -> StreamingResponse:
        return StreamingResponse(iter([name, name]))

    app = FastAPI(redirect_slashes=False)
    problem.install(app)
    app.add_middleware(RequestBoundary)
    app.include_router(router, prefix="/api")
    return app


async def test_every_answer_has_a_request_id(client: httpx.AsyncClient) -> None:
    answers = [await client.get(path) for path in ("/api/things", "/ghost", "/api/things/%2f")]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert [answer.status_code for answer in answers] == [200, 404, 400]
    assert all(re.fullmatch(r"[0-9a-f]{32}", request_id) for request_id in ids)
    assert len(set(ids)) == 3


async def test_a_good_request_id_is_kept(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/things", headers={"X-Request-Id": "Trace_1.a-b"})

    assert answer.headers["x-request-id"] == "Trace_1.a-b"


@pytest.mark.parametrize("stated", ["", "a b", "a" * 65, "a\tb", "ä", '"quoted"'])
async def test_a_bad_request_id_is_replaced(client: httpx.AsyncClient, stated: str) -> None:
    answer = await client.get("/api/things", headers=[(b"X-Request-Id", stated.encode("latin-1"))])

    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_nothing_of_an_earlier_request_is_left_in_the_log_context() -> None:
    structlog.contextvars.bind_contextvars(actor="of the request before")

    await exchange(RequestBoundary(echo), headers=[(b"x-request-id", b"second")])

    assert structlog.contextvars.get_contextvars() == {"request_id": "second"}


async def test_browsers_are_told_not_to_guess_types(client: httpx.AsyncClient) -> None:
    for path in ("/api/things", "/ghost"):
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/api/things", "/api/things/", "/api/things/a", "/api/things/a/"])
async def test_both_forms_of_a_path_are_answered(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path, follow_redirects=False)).status_code == 200


async def test_a_post_with_a_trailing_slash_keeps_its_body(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/things/a/", content=b"12345")

    assert answer.json() == 5


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/", "/"),
        (b"/a/", "/a"),
        (b"/a//", "/a/"),
        (b"/ofrep/v1/evaluate/flags/a%2F", "/ofrep/v1/evaluate/flags/a/"),
    ],
)
async def test_one_slash_is_taken_off_and_never_a_name(raw_path: bytes, path: str) -> None:
    assert (await exchange(RequestBoundary(echo, OFREP), raw_path=raw_path)).document[
        "path"
    ] == path


@pytest.mark.parametrize(
    "raw_path",
    [
        b"/api/v1/config/a%2fb",
        b"/api/v1/config/a%2Fb",
        b"/api/v1/config/a%5cb",
        b"/api/v1/config/a\\b",
        b"/api/v1/config/a%00",
        b"/api/v1/config/../tokens",
        b"/api/v1/config/%2e%2e/tokens",
        b"/api/v1/config/.%2E",
        b"/ofrep/../api/v1/tokens",
        b"/ofrep/..%2fapi",
        b"/ofrep/..%5capi",
        b"/api/v1/config/a%",
        b"/api/v1/config/a%zz",
        b"/api/v1/config%0A",
        b"/api/v1/config/a%7f",
        b"/api/v1/config/%ff",
        b"/api/v1/config/%c0%af",
        b"/api/v1/config/\xff",
    ],
)
async def test_a_path_that_two_servers_could_read_differently_is_refused(raw_path: bytes) -> None:
    refused = await exchange(RequestBoundary(echo, OFREP), raw_path=raw_path)

    assert refused.status == 400
    assert refused.document["code"] == "bad_path"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.document["request_id"] == refused.headers["x-request-id"]


@pytest.mark.parametrize(
    "raw_path",
    [b"/api/v1/config/a..b", b"/a%20b", b"/%C3%A4", b"/ofrep/v1/evaluate/flags/a%2Fb%5C"],
)
async def test_other_paths_pass(raw_path: bytes) -> None:
    assert (await exchange(RequestBoundary(echo, OFREP), raw_path=raw_path)).status == 200


@pytest.mark.parametrize(
    ("raw_path", "length", "status", "code"),
    [
        (b"/ofrep/v1/evaluate/flags/../a", 0, 400, "GENERAL"),
        (b"/ofrep/v1/evaluate/flags/%ff", 0, 400, "GENERAL"),
        (b"/ofrep/v1/evaluate/flags", MAX_BODY_BYTES + 1, 413, "INVALID_CONTEXT"),
        (b"/ofrep/v1/evaluate/flags/a", MAX_BODY_BYTES + 1, 413, "INVALID_CONTEXT"),
    ],
)
async def test_what_openfeature_asks_is_refused_in_its_form_as_well(
    raw_path: bytes, length: int, status: int, code: str
) -> None:
    headers = [(b"content-length", b"%d" % length)]

    refused = await exchange(
        RequestBoundary(echo, OFREP), method="POST", raw_path=raw_path, headers=headers
    )

    assert refused.status == status
    assert refused.document["errorCode"] == code
    assert refused.document["errorDetails"]
    assert refused.document["code"] == ("too_large" if length else "bad_path")
    if raw_path.endswith(b"flags/a"):
        assert refused.document["key"] == "a"


async def test_other_refusals_say_nothing_of_openfeature() -> None:
    refused = await exchange(RequestBoundary(echo, OFREP), raw_path=b"/api/v1/config/../tokens")

    assert "errorCode" not in refused.document


@pytest.mark.parametrize("query", [b"name=%00", b"name=%ff", b"name=%ed%a0%80", b"name=\xe4"])
async def test_a_query_that_could_only_be_repaired_is_refused(query: bytes) -> None:
    refused = await exchange(RequestBoundary(echo), query=query)

    assert refused.status == 400
    assert refused.document["code"] == "bad_query"


@pytest.mark.parametrize("query", [b"name=%C3%A4", b"100%", b"name=%zz", b"name=a%0Ab"])
async def test_other_queries_pass(query: bytes) -> None:
    assert (await exchange(RequestBoundary(echo), query=query)).status == 200


@pytest.mark.parametrize(
    "headers", [[(b"x-a", b"x" * MAX_HEADER_BYTES)], [(b"x-a", b"x" * 10)] * 10_000]
)
async def test_too_many_bytes_of_headers_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    refused = await exchange(RequestBoundary(echo), headers=headers)

    assert refused.status == 431
    assert refused.document["code"] == "headers_too_large"


async def test_a_body_announced_too_large_is_not_read_at_all() -> None:
    refused = await exchange(
        RequestBoundary(echo),
        method="POST",
        headers=[(b"content-length", str(MAX_BODY_BYTES + 1).encode())],
        messages=[part(b"x")],
    )

    assert refused.status == 413
    assert refused.document["code"] == "too_large"
    assert refused.document["limit_bytes"] == MAX_BODY_BYTES
    assert refused.headers["connection"] == "close"
    assert len(refused.unread) == 1


async def test_a_body_that_grows_too_large_is_read_no_further() -> None:
    half = b"x" * (MAX_BODY_BYTES // 2)

    refused = await exchange(
        RequestBoundary(echo),
        method="PUT",
        messages=[part(half), part(half), part(b"x"), part(b"y")],
    )

    assert refused.status == 413
    assert refused.headers["connection"] == "close"
    assert refused.unread == [part(b"y")]


async def test_a_body_at_the_limit_arrives_whole() -> None:
    half = b"x" * (MAX_BODY_BYTES // 2)

    answered = await exchange(
        RequestBoundary(echo),
        method="PATCH",
        headers=[(b"content-length", str(MAX_BODY_BYTES).encode())],
        messages=[part(half), part(half, last=True)],
    )

    assert answered.document == {"path": "/echo", "bytes": MAX_BODY_BYTES, "more": False}


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"", b"1, 2", "²".encode("latin-1")])
async def test_a_content_length_that_is_no_number_is_refused(length: bytes) -> None:
    refused = await exchange(
        RequestBoundary(echo), method="POST", headers=[(b"content-length", length)]
    )

    assert refused.status == 400
    assert refused.document["code"] == "bad_content_length"


async def test_two_content_lengths_are_refused() -> None:
    lengths = [(b"content-length", b"1"), (b"content-length", b"2")]

    assert (await exchange(RequestBoundary(echo), method="POST", headers=lengths)).status == 400


async def test_an_endless_content_length_is_too_large() -> None:
    length = [(b"content-length", b"9" * 5000)]

    assert (await exchange(RequestBoundary(echo), method="POST", headers=length)).status == 413


async def test_a_body_on_get_is_ignored() -> None:
    answered = await exchange(RequestBoundary(echo), messages=[part(b"ignored", last=True)])

    assert answered.document["bytes"] == 0


async def test_a_caller_who_leaves_while_sending_is_dropped_quietly() -> None:
    with capture_logs() as lines:
        left = await exchange(RequestBoundary(echo), method="POST", messages=[part(b"x")])

    assert left.sent == []
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]


async def test_a_stream_can_tell_that_its_caller_left() -> None:
    seen: list[str] = []

    async def listen(_: Scope, receive: Receive, send: Send) -> None:
        seen.extend([(await receive())["type"], (await receive())["type"]])

    await exchange(RequestBoundary(listen), messages=[{"type": "http.disconnect"}])

    assert seen == ["http.request", "http.disconnect"]


async def test_an_exception_is_answered_with_a_problem() -> None:
    async def crash(_: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("hunter2")

    crashed = await exchange(RequestBoundary(crash))

    assert crashed.status == 500
    assert crashed.document["code"] == "internal_error"
    assert crashed.document["request_id"] == crashed.headers["x-request-id"]
    assert "hunter2" not in str(crashed.document)


async def test_an_answer_that_began_is_cut_off() -> None:
    with capture_logs() as lines, pytest.raises(RuntimeError, match="after the answer began"):
        await exchange(RequestBoundary(break_off))

    assert [(line["event"], line["status"]) for line in lines] == [("request", 200)]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_scopes_pass_untouched(kind: str) -> None:
    passed: list[Scope] = []

    async def remember(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None:
        return

    scope = {"type": kind}
    await RequestBoundary(remember)(scope, receive, send)

    assert passed[0] is scope


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/api/things/hunter2?token=hunter2", "/api/things/{name}", 200),
        ("GET", "/api/things/a/stream", "/api/things/{name}/stream", 200),
        ("PUT", "/api/things/hunter2", "/api/things/{name}", 405),
        ("GET", "/hunter2", "unmatched", 404),
        ("GET", "/hunter2%2f", "unmatched", 400),
        ("BREW", "/hunter2", "unmatched", 404),
    ],
)
async def test_a_request_is_logged_and_counted_by_its_route(
    client: httpx.AsyncClient, method: str, path: str, route: str, status: int
) -> None:
    labels = {"method": "OTHER" if method == "BREW" else method, "route": route}
    before = _requests_counted(labels, status)

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = await client.request(method, path)

    (line,) = lines
    assert line["event"] == "request"
    assert line["request_id"] == answer.headers["x-request-id"]
    assert {name: line[name] for name in labels} == labels
    assert line["status"] == status == answer.status_code
    assert line["duration_ms"] >= 0
    assert "hunter2" not in str(line)
    assert _requests_counted(labels, status) == before + 1
    assert REGISTRY.get_sample_value("pilothouse_http_requests_in_progress") == 0


async def test_the_log_line_of_a_refusal_names_its_code(client: httpx.AsyncClient) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await client.get(f"/{uuid4()}")

    assert lines[0]["problem"] == "no_such_route"


def _requests_counted(labels: dict[str, str], status: int) -> float:
    series = {**labels, "status": str(status)}
    return REGISTRY.get_sample_value("pilothouse_http_requests_total", series) or 0


async def test_an_answer_is_no_page(client: httpx.AsyncClient) -> None:
    for path in ("/api/things", "/ghost"):
        headers = (await client.get(path)).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'none'")
