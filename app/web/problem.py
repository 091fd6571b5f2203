"""Turns errors into RFC 9457 problem documents, the only form of an error response.

No problem contains a traceback or quotes a value that was sent.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

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
from app.web.known_members import known_members
from app.web.path_rules import NO_RULES, PathRules
from app.web.problem_codes import CodeRules, add_codes
from app.web.routes import allowed_methods, body_annotation, nearest_path
from pilothouse_core.suggestions import did_you_mean

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


class RequestTooSlow(PilothouseError):
    code = "request_too_slow"


class Refused(PilothouseError):
    """The framework rejected a request for a reason without a code of its own."""

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
    RequestTooSlow: 408,
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

_HTTP_EXCEPTIONS: dict[int, PilothouseError] = {
    400: Unparsable("the request cannot be read"),
    401: Unauthenticated("the caller is not authenticated"),
    403: Forbidden("the caller may not do this"),
    404: NoSuchRoute("no such route"),
    405: MethodNotAllowed("this method is not allowed here"),
    413: TooLarge("the body is too large"),
    415: UnsupportedMediaType("this media type is not supported here"),
    503: Unavailable("the service is unavailable"),
}

_LONGEST_ECHO = 120
_LONGEST_DETAIL = 600
_MOST_ERRORS = 50
_QUOTED = re.compile(r"'([^']*)'")
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_ECHO + 1},}}")
# Parts of Pydantic's messages that quote or describe the value sent.
_QUOTING = frozenset({"error", "tag", "encoding_error", "tz_actual"})


class ProblemDetail(BaseModel):
    """One error: in the body (`pointer`) or in a parameter (`parameter`)."""

    detail: str
    code: str
    pointer: str | None = Field(None, description="A JSON pointer into the body, as a fragment.")
    parameter: str | None = Field(None, description="A query, path, header or cookie parameter.")


class Problem(BaseModel):
    """An RFC 9457 problem; additional members are facts of the `code`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:pilothouse:not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable, for programs; `detail` is for people.")
    request_id: str | None = None
    errors: list[ProblemDetail] | None = None


_STANDARD = frozenset({*Problem.model_fields, "instance"})
_REFERENCE: dict[str, Any] = {
    MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
}
# For routers as `responses=PROBLEMS`; `install` defines the referenced schema.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request was refused.", "content": _REFERENCE},
    "5XX": {"description": "The request could not be served.", "content": _REFERENCE},
    503: {
        "description": "A backend, or the log up to `min_revision`, is unavailable.",
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
    errors: Sequence[Mapping[str, object]] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """Return the response for an error; the status is that of its kind by default.

    `members` are those of another protocol: see `PathRules.error_members`.
    """
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
    # So that the access log contains the reason of a failure.
    structlog.contextvars.bind_contextvars(problem=error.code)
    return JSONResponse(
        {**document, **_plain_value(facts), **(members or {})},
        status_code=status,
        headers={**_headers(error), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def crash_response(error: Exception, scope: Scope, rules: PathRules) -> JSONResponse:
    """Log an unexpected error, and return a response without details."""
    _log.error("request_failed", exc_info=error)
    failure = InternalError("the service failed to answer this request")
    return problem_response(failure, members=rules.error_members(scope, failure))


def install(app: FastAPI, rules: PathRules = NO_RULES, codes: CodeRules = ()) -> None:
    """Make `app` answer every error with a problem, and describe problems in its OpenAPI document.

    `codes` are the problem codes of its operations.
    """
    app.add_exception_handler(PilothouseError, partial(_on_error, rules))
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, partial(_on_http_exception, rules))
    app.add_exception_handler(Exception, partial(_on_crash, rules))
    _define_schema(app, codes)


async def _on_error(rules: PathRules, request: Request, error: Exception) -> Response:
    assert isinstance(error, PilothouseError)
    flaws = error.flaws if isinstance(error, Invalid) else ()
    members = rules.error_members(request.scope, error)
    return problem_response(error, errors=flaws, members=members)


async def _on_crash(rules: PathRules, request: Request, error: Exception) -> Response:
    return crash_response(error, request.scope, rules)


async def _on_http_exception(rules: PathRules, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code < HTTPStatus.BAD_REQUEST:
        return Response(status_code=error.status_code, headers=error.headers)
    headers = dict(error.headers or {})
    problem = _HTTP_EXCEPTIONS.get(error.status_code) or _error_for_status(error.status_code)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = sorted(allowed_methods(request))
        headers["Allow"] = ", ".join(allowed)
        problem = MethodNotAllowed(f"allowed here: {headers['Allow']}", allowed=allowed)
    elif (
        error.status_code == HTTPStatus.NOT_FOUND
        and (near := nearest_path(request, rules)) is not None
    ):
        problem = NoSuchRoute(f"no such route; did you mean {near}?", suggestion=near)
    members = rules.error_members(request.scope, problem)
    return problem_response(problem, status=error.status_code, headers=headers, members=members)


def _error_for_status(status: int) -> PilothouseError:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return InternalError("the service failed to answer this request")
    return Refused("the request was refused")


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    flaws = error.errors()
    body_type = body_annotation(request)
    details = [_problem_detail(flaw, error.body, body_type) for flaw in flaws[:_MOST_ERRORS]]
    summary = "the request is invalid"
    if len(flaws) > len(details):
        summary += f"; the first {len(details)} of {len(flaws)} errors are listed"
    return problem_response(Invalid(summary), errors=details)


def _problem_detail(flaw: Mapping[str, Any], body: object, body_type: Any) -> dict[str, str]:
    where, *path = flaw["loc"]
    if where == "body":
        is_absent = flaw["type"] == "missing"
        place = {"pointer": _pointer(path, body, is_absent=is_absent)}
    else:
        place = {"parameter": shorten(str(path[0])) if path else where}
    return {**place, "detail": _message(flaw, body_type), "code": flaw["type"]}


def _message(flaw: Mapping[str, Any], body_type: Any) -> str:
    where, *path = flaw["loc"]
    if where == "body" and not path and flaw["type"] == "missing":
        return "The request has no body: send JSON"
    if where == "body" and path and flaw["type"] == "extra_forbidden":
        known = known_members(body_type, path[:-1])
        return f"Unknown member{did_you_mean(str(path[-1]), known)}"
    if flaw["type"] == "literal_error" and isinstance(flaw.get("input"), str):
        allowed = _QUOTED.findall(flaw["ctx"]["expected"])
        return f"{_sentence(flaw['msg'])}{did_you_mean(flaw['input'], allowed)}"
    # Our own rules raise PydanticCustomError; the text of a ValueError often comes from a library
    # and quotes the value (`invalid literal for int(): 'hunter2'`).
    if _QUOTING & flaw.get("ctx", {}).keys():
        return "The value is invalid"
    return _sentence(flaw["msg"])


def _pointer(path: Sequence[str | int], body: Any, *, is_absent: bool) -> str:
    """Return a JSON pointer into the body; Pydantic's path also names branches of unions."""
    steps: list[str | int] = []
    for position, step in enumerate(path, start=1):
        if _contains(body, step):
            body = body[step]
        elif not (is_absent and position == len(path)):
            continue
        steps.append(step)
    return pointer_to(steps)


def pointer_to(steps: Sequence[str | int]) -> str:
    """Return the JSON pointer of these members and indexes, as a fragment."""
    return "#" + "".join(f"/{_escape(step)}" for step in steps)


def _contains(body: Any, step: str | int) -> bool:
    if isinstance(body, list):
        return isinstance(step, int) and step < len(body)
    return isinstance(body, dict) and step in body


def _escape(step: str | int) -> str:
    pointed = shorten(str(step)).replace("~", "~0").replace("/", "~1")
    return quote(pointed, safe="!$&'()*+,;=:@~")


def _headers(error: PilothouseError) -> dict[str, str]:
    # A cached 404 or 410 would become wrong.
    headers = {"Cache-Control": "no-store"}
    match error:
        case Unavailable() | TooMany():
            headers["Retry-After"] = str(error.retry_after)
        case Unauthenticated():
            headers["WWW-Authenticate"] = "Bearer"
    return headers


def _plain_value(fact: object) -> Any:
    """Turn a fact of any type into plain JSON."""
    match fact:
        case None | bool() | int():
            return fact
        case Mapping():
            return {shorten(str(name)): _plain_value(value) for name, value in fact.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain_value(value) for value in fact]
        case datetime():
            return fact.isoformat()
        case _:
            return shorten(str(fact))


def _sentence(text: str) -> str:
    words = _LONG_WORD.sub(lambda word: shorten(word[0]), text)
    return shorten(words, _LONGEST_DETAIL)


def shorten(text: str, longest: int = _LONGEST_ECHO) -> str:
    """Return a text of a request as it may be repeated in a response."""
    # A lone surrogate cannot be encoded, and the response would become a 500.
    text = text.encode(errors="replace").decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _statuses() -> dict[str, int]:
    """Return the HTTP status of every problem code, of all loaded features."""
    waiting, statuses = [PilothouseError], {}
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        if error is not PilothouseError:
            statuses[error.code] = status_of(error)
    return statuses


def _define_schema(app: FastAPI, codes: CodeRules) -> None:
    # As a `model` of each response, FastAPI would also add it as application/json.
    generate = app.openapi
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = {**schema.pop("$defs"), Problem.__name__: schema}

    def generate_with_problems() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions)
        openapi.complete_document(document)
        add_codes(document, codes, _statuses())
        openapi.add_bypass_header(document)
        return document

    app.openapi = generate_with_problems  # type: ignore[method-assign]
