"""The one place where a failure becomes an HTTP answer: an RFC 9457 problem document.

No answer made here holds a traceback or quotes a value that was sent.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from app.errors import (
    Conflict,
    Forbidden,
    Gone,
    InDoubt,
    Invalid,
    NotFound,
    OutcomeUnknown,
    PilothouseError,
    PreconditionFailed,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unparsable,
)
from app.web import openapi

MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger()


class NoSuchRoute(NotFound):
    code = "no_such_route"


class MethodNotAllowed(PilothouseError):
    code = "method_not_allowed"


class UnsupportedMediaType(PilothouseError):
    code = "unsupported_media_type"


class HeadersTooLarge(TooLarge):
    code = "headers_too_large"


class Refused(PilothouseError):
    """The framework refused a request for a reason that has no kind of its own."""

    code = "refused"


class InternalError(PilothouseError):
    code = "internal_error"


STATUS: dict[type[PilothouseError], int] = {
    Unparsable: 400,
    Refused: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    Gone: 410,
    PreconditionFailed: 412,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    Invalid: 422,
    TooMany: 429,
    HeadersTooLarge: 431,
    InternalError: 500,
    Unavailable: 503,
    InDoubt: 500,
    OutcomeUnknown: 504,
}

_BY_FRAMEWORK: dict[int, PilothouseError] = {
    400: Unparsable("the request cannot be read"),
    401: Unauthenticated("the caller is not known"),
    403: Forbidden("the caller may not do this"),
    404: NoSuchRoute("there is nothing at this address"),
    405: MethodNotAllowed("this address does not answer to this method"),
    413: TooLarge("the body is too large"),
    415: UnsupportedMediaType("this media type is not understood here"),
    503: Unavailable("the service cannot answer now"),
}

_LONGEST_ECHO = 120
_LONGEST_DETAIL = 600
_MOST_ERRORS = 50
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_ECHO + 1},}}")
# Parts of Pydantic's messages that repeat or describe what was sent.
_QUOTING = frozenset({"error", "tag", "encoding_error", "tz_actual"})


class ProblemDetail(BaseModel):
    """One thing that is wrong: in the body (`pointer`) or beside it (`parameter`)."""

    detail: str
    code: str
    pointer: str | None = Field(None, description="A JSON pointer into the body, as a fragment.")
    parameter: str | None = Field(None, description="A query, path, header or cookie parameter.")


class Problem(BaseModel):
    """An RFC 9457 problem; members beyond these are facts of the particular `code`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:pilothouse:not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; made for programs, as `detail` is for people.")
    request_id: str | None = None
    errors: list[ProblemDetail] | None = None


_STANDARD = frozenset({*Problem.model_fields, "instance"})
_REFERENCE: dict[str, Any] = {
    MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
}
# To be handed to routers as `responses=PROBLEMS`; `install` defines the schema referred to.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request was refused.", "content": _REFERENCE},
    "5XX": {"description": "The request could not be served.", "content": _REFERENCE},
    503: {
        "description": "A server behind a port, or the log up to `min_revision`, is away.",
        "content": _REFERENCE,
        "headers": openapi.headers("Retry-After"),
    },
}


def status_of(error: type[PilothouseError]) -> int:
    return next(STATUS[kind] for kind in error.__mro__ if kind in STATUS)


def problem_response(
    error: PilothouseError,
    *,
    status: int | None = None,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Build the answer for a failure; the status is that of its kind unless stated."""
    status = status or status_of(type(error))
    context = structlog.contextvars.get_contextvars()
    document: dict[str, Any] = {
        "type": f"urn:pilothouse:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": status,
        "detail": _sentence(str(error)),
        "code": error.code,
    }
    if "request_id" in context:
        document["request_id"] = context["request_id"]
    if errors:
        document["errors"] = list(errors)
    facts = {name: fact for name, fact in error.facts.items() if name not in _STANDARD}
    # So that the access line says not only that a request failed, but why.
    structlog.contextvars.bind_contextvars(problem=error.code)
    return JSONResponse(
        {**document, **_plain(facts)},
        status_code=status,
        headers={**_headers(error), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def answer_crash(error: Exception) -> JSONResponse:
    """Log a failure nobody expected, and build an answer that says nothing about it."""
    _log.error("request_failed", exc_info=error)
    return problem_response(InternalError("the service failed to answer this request"))


def install(app: FastAPI) -> None:
    """Answer every failure of `app` with a problem, and define the problem in its OpenAPI."""
    app.add_exception_handler(PilothouseError, _on_named)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_refused)
    app.add_exception_handler(Exception, _on_crash)
    _define_schema(app)


async def _on_named(_: Request, error: Exception) -> Response:
    assert isinstance(error, PilothouseError)
    return problem_response(error, errors=error.flaws if isinstance(error, Invalid) else ())


async def _on_crash(_: Request, error: Exception) -> Response:
    return answer_crash(error)


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code < HTTPStatus.BAD_REQUEST:
        return Response(status_code=error.status_code, headers=error.headers)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_allowed(request)))
    named = _BY_FRAMEWORK.get(error.status_code) or _unnamed(error.status_code)
    return problem_response(named, status=error.status_code, headers=headers)


def _unnamed(status: int) -> PilothouseError:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return InternalError("the service failed to answer this request")
    return Refused("the request was refused")


def _allowed(request: Request) -> Iterable[str]:
    """Collect the methods of all routes at this address: the framework names those of the first."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    methods = {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.methods and route.path_regex.match(path)
        for method in route.methods
    }
    return methods | {"HEAD"} if "GET" in methods else methods  # see app.web.head


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    told = [_told(flaw, error.body) for flaw in found[:_MOST_ERRORS]]
    detail = "the request breaks a rule of its shape"
    if len(found) > len(told):
        detail += f"; the first {len(told)} of {len(found)} errors are listed"
    return problem_response(Invalid(detail), errors=told)


def _told(flaw: Mapping[str, Any], body: object) -> dict[str, str]:
    where, *path = flaw["loc"]
    if where == "body":
        is_absent = flaw["type"] == "missing"
        place = {"pointer": _pointer(path, body, is_absent=is_absent)}
    else:
        place = {"parameter": _shortened(str(path[0])) if path else where}
    return {**place, "detail": _message(flaw), "code": flaw["type"]}


def _message(flaw: Mapping[str, Any]) -> str:
    # A rule of ours that wants to be heard raises PydanticCustomError; the text of a ValueError
    # often comes from a library and quotes the value (`invalid literal for int(): 'hunter2'`).
    if _QUOTING & flaw.get("ctx", {}).keys():
        return "The value is not valid here"
    return _sentence(flaw["msg"])


def _pointer(path: Sequence[str | int], body: Any, *, is_absent: bool) -> str:
    """Point into what was sent; Pydantic's own path also names branches of unions."""
    steps: list[str | int] = []
    for position, step in enumerate(path, start=1):
        if _holds(body, step):
            body = body[step]
        elif not (is_absent and position == len(path)):
            continue
        steps.append(step)
    return "#" + "".join(f"/{_escaped(step)}" for step in steps)


def _holds(body: Any, step: str | int) -> bool:
    if isinstance(body, list):
        return isinstance(step, int) and step < len(body)
    return isinstance(body, dict) and step in body


def _escaped(step: str | int) -> str:
    pointed = _shortened(str(step)).replace("~", "~0").replace("/", "~1")
    return quote(pointed, safe="!$&'()*+,;=:@~")


def _headers(error: PilothouseError) -> dict[str, str]:
    # A stored 404 or 410 would outlive what it says.
    headers = {"Cache-Control": "no-store"}
    match error:
        case Unavailable() | TooMany():
            headers["Retry-After"] = str(error.retry_after)
        case Unauthenticated():
            headers["WWW-Authenticate"] = "Bearer"
    return headers


def _plain(fact: object) -> Any:
    """Turn a fact into JSON that any parser takes, whatever a feature put into it."""
    match fact:
        case None | bool() | int():
            return fact
        case Mapping():
            return {_shortened(str(name)): _plain(value) for name, value in fact.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(value) for value in fact]
        case datetime():
            return fact.isoformat()
        case _:
            return _shortened(str(fact))


def _sentence(text: str) -> str:
    words = _LONG_WORD.sub(lambda word: _shortened(word[0]), text)
    return _shortened(words, _LONGEST_DETAIL)


def _shortened(text: str, longest: int = _LONGEST_ECHO) -> str:
    # Half of a surrogate pair cannot be encoded, and the answer would become a 500.
    text = text.encode(errors="replace").decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _define_schema(app: FastAPI) -> None:
    # Named as a `model` of each response, FastAPI would add it under application/json as well.
    generate = app.openapi
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = {**schema.pop("$defs"), Problem.__name__: schema}

    def described() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions)
        openapi.complete(document)
        return document

    app.openapi = described  # type: ignore[method-assign]
