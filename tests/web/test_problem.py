"""Every failure leaves as an RFC 9457 problem, and none tells more than it should."""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Header
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

import app as service
from app.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    OutcomeUnknown,
    PilothouseError,
    PreconditionFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unparsable,
)
from app.web import problem
from app.web.boundary import RequestBoundary

pytestmark = pytest.mark.anyio

SECRET = "hunter2"


class Sealed(Unavailable):
    code = "sealed"
    retry_after = 7


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


def _must_be_a_date(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _must_be_short(text: str) -> str:
    if len(text) > 3:
        raise PydanticCustomError("not_short", "a name has at most {most} letters", {"most": 3})
    return text


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    weight: int = 0
    sizes: dict[str, int | list[int]] = {}
    since: Annotated[str, AfterValidator(_must_be_a_date)] = "2026-01-01"
    name: Annotated[str, AfterValidator(_must_be_short)] = "a"
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None


KINDS: dict[str, PilothouseError] = {
    "invalid": Invalid("it breaks a rule"),
    "facts": Conflict(
        "it exists",
        key="database.host",
        status="overwritten",
        at=datetime(2026, 11, 21, tzinfo=UTC),
        layers=[("default", "_shared"), {"service": None}],
        number=float("nan"),
    ),
    "long": NotFound(f"no key is called {'k' * 400!r}", key="k" * 400),
    "half": NotFound("no key is called '\ud800'", key="\ud800"),
    "sealed": Sealed("Vault is sealed"),
    "nobody": Unauthenticated("say who you are"),
}


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter(prefix="/v1", responses=problem.PROBLEMS)

    @router.get("/kinds/{name}")
    async def fail(name: str) -> None:
        raise KINDS[name]

    @router.get("/statuses/{status}")
    async def refuse(status: int) -> None:
        raise HTTPException(status, headers={"X-Why": "because"})

    @router.post("/orders")
    async def order(body: Order) -> Order:
        return body

    @router.get("/orders")
    async def orders(limit: int = 1, since: Annotated[int, Header()] = 0) -> int:
        return limit + since

    @router.put("/orders")
    async def replace(body: list[int]) -> int:
        return len(body)

    @router.get("/broken")
    async def raise_secret() -> int:
        raise RuntimeError(SECRET)

    @router.get("/misshapen", response_model=Cat)
    async def misshapen() -> dict[str, str]:
        return {"kind": SECRET}

    app = FastAPI(redirect_slashes=False)
    problem.install(app)
    app.add_middleware(RequestBoundary)
    app.include_router(router, prefix="/api")
    return app


def _members(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    members: dict[str, Any] = answer.json()
    assert members["status"] == answer.status_code
    assert members["type"] == f"urn:pilothouse:{members['code']}"
    assert members["request_id"] == answer.headers["x-request-id"]
    return members


def _import_every_module() -> None:
    root = Path(service.__path__[0])
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        if path.name not in {"__main__.py", "__init__.py"}:
            import_module(name)


def _error_types(kind: type[PilothouseError]) -> Iterator[type[PilothouseError]]:
    if hasattr(kind, "code"):
        yield kind
    for below in kind.__subclasses__():
        yield from _error_types(below)


def test_every_named_error_has_a_status_and_a_code_of_its_form() -> None:
    _import_every_module()

    for error in _error_types(PilothouseError):
        assert problem.status_of(error) in problem.STATUS.values()
        assert error.code.replace("_", "").isalnum()
        assert error.code == error.code.lower()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Unparsable, 400),
        (Unauthenticated, 401),
        (Forbidden, 403),
        (NotFound, 404),
        (Conflict, 409),
        (Gone, 410),
        (PreconditionFailed, 412),
        (TooLarge, 413),
        (Invalid, 422),
        (Unavailable, 503),
        (Sealed, 503),
        (OutcomeUnknown, 504),
    ],
)
def test_a_kind_has_its_status(kind: type[PilothouseError], status: int) -> None:
    assert problem.status_of(kind) == status


async def test_a_named_error_is_told_with_its_code_and_sentence(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/kinds/invalid", headers={"X-Request-Id": "mine"})

    assert answer.status_code == 422
    assert _members(answer) == {
        "type": "urn:pilothouse:invalid",
        "title": "Invalid",
        "status": 422,
        "detail": "it breaks a rule",
        "code": "invalid",
        "request_id": "mine",
    }


async def test_facts_become_members_and_override_none(client: httpx.AsyncClient) -> None:
    members = _members(await client.get("/api/v1/kinds/facts"))

    assert members["status"] == 409
    assert members["key"] == "database.host"
    assert members["at"] == "2026-11-21T00:00:00+00:00"
    assert members["layers"] == [["default", "_shared"], {"service": None}]
    assert members["number"] == "nan"


async def test_long_names_are_shortened(client: httpx.AsyncClient) -> None:
    members = _members(await client.get("/api/v1/kinds/long"))

    assert members["key"] == "k" * 119 + "…"
    assert len(members["detail"]) < 160


async def test_half_a_surrogate_pair_does_not_break_the_answer(client: httpx.AsyncClient) -> None:
    assert _members(await client.get("/api/v1/kinds/half"))["key"] == "?"


async def test_unavailable_says_when_to_retry(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/kinds/sealed")

    assert _members(answer)["code"] == "sealed"
    assert answer.headers["retry-after"] == "7"


async def test_an_unknown_caller_is_told_how_to_say_who_they_are(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/kinds/nobody")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_no_cache_keeps_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/kinds/long")

    assert answer.headers["cache-control"] == "no-store"


async def test_an_unknown_address_is_no_such_route(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/ghost")

    assert answer.status_code == 404
    assert _members(answer)["code"] == "no_such_route"


async def test_a_wrong_method_is_told_all_right_ones(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/api/v1/orders")

    assert answer.status_code == 405
    assert _members(answer)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD, POST, PUT"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "unparsable"),
        (415, "unsupported_media_type"),
        (418, "refused"),
        (502, "internal_error"),
    ],
)
async def test_what_the_framework_refuses_is_a_problem_too(
    client: httpx.AsyncClient, status: int, code: str
) -> None:
    answer = await client.get(f"/api/v1/statuses/{status}")

    assert answer.status_code == status
    assert _members(answer)["code"] == code
    assert answer.headers["x-why"] == "because"


async def test_what_is_no_failure_stays_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/statuses/304")

    assert answer.status_code == 304
    assert answer.content == b""


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"weight": SECRET}, "#/weight", "int_parsing"),
        ({"sizes": {"a/b ~c": SECRET}}, "#/sizes/a~1b%20~0c", "int_parsing"),
        ({"sizes": {"a": [1, SECRET]}}, "#/sizes/a/1", "int_parsing"),
        ({"since": SECRET}, "#/since", "value_error"),
        ({"name": SECRET}, "#/name", "not_short"),
        ({"pet": {"kind": SECRET}}, "#/pet", "union_tag_invalid"),
        ({"pet": {"kind": "cat"}}, "#/pet/lives", "missing"),
        ({"unknown": SECRET}, "#/unknown", "extra_forbidden"),
        (SECRET, "#", "model_attributes_type"),
    ],
)
async def test_a_misshapen_body_is_pointed_at_and_never_quoted(
    client: httpx.AsyncClient, body: object, pointer: str, code: str
) -> None:
    answer = await client.post("/api/v1/orders", json=body)

    members = _members(answer)
    assert answer.status_code == 422
    assert (pointer, code) in {(error["pointer"], error["code"]) for error in members["errors"]}
    assert SECRET not in answer.text


async def test_a_rule_of_ours_is_told_in_its_own_words(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/orders", json={"name": SECRET})

    assert answer.json()["errors"][0]["detail"] == "a name has at most 3 letters"


@pytest.mark.parametrize(
    ("query", "headers", "parameter"),
    [(f"?limit={SECRET}", {}, "limit"), ("", {"since": SECRET}, "since")],
)
async def test_a_bad_parameter_is_named_and_never_quoted(
    client: httpx.AsyncClient, query: str, headers: dict[str, str], parameter: str
) -> None:
    answer = await client.get(f"/api/v1/orders{query}", headers=headers)

    (error,) = _members(answer)["errors"]
    assert answer.status_code == 422
    assert error["parameter"] == parameter
    assert "pointer" not in error
    assert SECRET not in answer.text


async def test_a_bad_part_of_the_path_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/statuses/teapot")

    assert _members(answer)["errors"][0]["parameter"] == "status"


async def test_a_long_list_of_errors_is_cut(client: httpx.AsyncClient) -> None:
    members = _members(await client.put("/api/v1/orders", json=["x"] * 1000))

    assert len(members["errors"]) == 50
    assert "the first 50 of 1000 errors" in members["detail"]


@pytest.mark.parametrize("path", ["/api/v1/broken", "/api/v1/misshapen"])
async def test_a_crash_is_logged_and_says_nothing(client: httpx.AsyncClient, path: str) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = await client.get(path)

    assert answer.status_code == 500
    assert _members(answer)["code"] == "internal_error"
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    assert [line["event"] for line in lines] == ["request_failed", "request"]
    assert {line["request_id"] for line in lines} == {answer.headers["x-request-id"]}
    assert isinstance(lines[0]["exc_info"], Exception)


@pytest.mark.slow
async def test_a_crash_outside_the_middleware_is_a_problem_too() -> None:
    bare = FastAPI()
    problem.install(bare)
    bare.add_api_route("/broken", _raise_secret)
    transport = httpx.ASGITransport(bare, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/broken")

    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"


async def _raise_secret() -> None:
    raise RuntimeError(SECRET)


def test_the_openapi_document_refers_to_one_schema(app: FastAPI) -> None:
    document = app.openapi()

    responses = document["paths"]["/api/v1/orders"]["post"]["responses"]
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    assert responses["4XX"]["content"] == {"application/problem+json": reference}
    assert responses["5XX"]["content"] == {"application/problem+json": reference}
    assert "422" not in responses
    assert {"Problem", "ProblemDetail"} <= document["components"]["schemas"].keys()
    assert "HTTPValidationError" not in document["components"]["schemas"]
