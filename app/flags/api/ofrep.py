"""Requests and responses of OpenFeature's OFREP 0.3 as JSON, without a framework."""

import json
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from app.flags.errors import ContextTooLarge
from app.flags.evaluation.evaluator import FlagEvaluator, OfrepRefusal
from app.web import fast_json as quick_json
from app.web.conditional import etag, matches
from app.workers import LARGE_BODY, note_request, run_apart
from pilothouse_core import strict_json
from pilothouse_core.contexts import is_too_large
from pilothouse_core.names import NAME_GRAMMAR, is_name

TICKET = "ticket"
BASE = "default"
FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
PARSE_ERROR = "PARSE_ERROR"
INVALID_CONTEXT = "INVALID_CONTEXT"
GENERAL = "GENERAL"


class OfrepResponse(NamedTuple):
    status: int
    body: bytes
    tag: str | None = None


class StreamAddress(NamedTuple):
    """The address of the event stream as JSON, and the ticket it needs."""

    address_json: bytes
    ticket: str | None


class OfrepError(Exception):
    """A request that OFREP cannot answer."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


def read_context(body: bytes) -> dict[str, Any]:
    """Return the context of a request; other members are ignored. Raises OfrepError.

    An attribute may contain NUL or half a surrogate pair: to the rules it is a text like any other,
    as in the client library, and no reason to refuse all flags.
    """
    try:
        request = quick_json.loads(body or b"{}", any_text=True)
    except strict_json.BadJson as error:
        raise OfrepError(
            PARSE_ERROR, f"the body is not JSON that can be accepted: {error}"
        ) from error
    if not isinstance(request, dict):
        raise OfrepError(PARSE_ERROR, "the body is not an object")
    context = request.get("context")
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise OfrepError(INVALID_CONTEXT, "the context is not an object")
    key = context.get("targetingKey")
    if key is not None and type(key) not in (str, int):
        raise OfrepError(INVALID_CONTEXT, "the targeting key is not a string")
    return context


def _read_small_context(body: bytes) -> dict[str, Any]:
    context = read_context(body)
    if is_too_large(context):
        raise OfrepError(INVALID_CONTEXT, str(ContextTooLarge()))
    return context


def read_environment(header: str | None) -> str:
    if header is None:
        return BASE
    if not is_name(header):
        raise OfrepError(
            GENERAL, f"X-Environment is not a valid name of an environment: {NAME_GRAMMAR}"
        )
    return header


def revision_of(query: str) -> int | None:
    """Return the minimum revision for a refetch, which an event of the stream stated."""
    stated = parse_qs(query).get("flagConfigEtag", [""])[0].strip('"').removeprefix("W/")
    stated = stated.strip('"').removeprefix("r")
    return int(stated) if stated.isdigit() and len(stated) < 19 else None  # noqa: PLR2004


def evaluate_one(
    evaluator: FlagEvaluator, environment: str, key: str, body: bytes
) -> OfrepResponse:
    return _response_of(
        key, evaluator.evaluate_ofrep(environment, key, read_context(body), len(body))
    )


async def evaluate_one_apart(
    evaluator: FlagEvaluator, environment: str, key: str, body: bytes
) -> OfrepResponse:
    """`evaluate_one` for a flag of any cost; raises OfrepError and EvaluationTooLong."""
    note_request(body)
    context = await run_apart(len(body) > LARGE_BODY, read_context, body)
    try:
        return _response_of(key, await evaluator.evaluate_ofrep_apart(environment, key, context))
    except ContextTooLarge as error:
        raise OfrepError(INVALID_CONTEXT, str(error)) from error


def _response_of(key: str, answer: bytes | OfrepRefusal) -> OfrepResponse:
    if isinstance(answer, OfrepRefusal):
        status = 404 if answer.code == FLAG_NOT_FOUND else 400
        return OfrepResponse(status, refusal(answer.code, answer.details, key))
    return OfrepResponse(200, answer)


def evaluate_every(
    evaluator: FlagEvaluator,
    environment: str,
    body: bytes,
    known: str | None,
    stream: StreamAddress,
) -> OfrepResponse:
    """Answer all flags, or 304 without evaluating one if the client has these answers.

    A new ticket changes the tag: after 304, clients would keep a ticket that has expired, and send
    the request again every second.
    """
    context = read_context(body)
    tag = _bulk_etag(evaluator, environment, context, stream)
    if matches(known, tag):
        return OfrepResponse(304, b"", tag)
    revision = evaluator.sets.environment(environment).revision
    return _bulk_response(
        evaluator.evaluate_all_ofrep(environment, context, len(body)), revision, tag, stream
    )


async def evaluate_every_apart(
    evaluator: FlagEvaluator,
    environment: str,
    body: bytes,
    known: str | None,
    stream: StreamAddress,
) -> OfrepResponse:
    """`evaluate_every` for flags of any cost; raises OfrepError and EvaluationTooLong."""
    note_request(body)
    context = await run_apart(len(body) > LARGE_BODY, _read_small_context, body)
    tag = _bulk_etag(evaluator, environment, context, stream)
    if matches(known, tag):
        return OfrepResponse(304, b"", tag)
    # Of the set that is evaluated: it may be another one when the answers are there.
    revision = evaluator.sets.environment(environment).revision
    try:
        flags = await evaluator.evaluate_all_ofrep_apart(environment, context)
    except ContextTooLarge as error:
        raise OfrepError(INVALID_CONTEXT, str(error)) from error
    return _bulk_response(flags, revision, tag, stream)


def _bulk_etag(
    evaluator: FlagEvaluator, environment: str, context: dict[str, Any], stream: StreamAddress
) -> str:
    return etag(evaluator.evaluation_tag(environment, stream.ticket or "open", context))


def _bulk_response(flags: bytes, revision: int, tag: str, stream: StreamAddress) -> OfrepResponse:
    members = b'{"flags":[%b],"eventStreams":[%b],"metadata":{"revision":%d}}'
    return OfrepResponse(200, members % (flags, stream.address_json, revision), tag)


def refusal(code: str, details: str, key: str | None = None) -> bytes:
    members = {} if key is None else {"key": key}
    return _json({**members, "errorCode": code, "errorDetails": details})


def stream_address(scheme: str, host: str, environment: str, ticket: str | None) -> StreamAddress:
    """Return the address of the event stream, with a ticket if one is needed."""
    url = f"{scheme}://{host}/ofrep/v1/stream?environment={environment}"
    if ticket is not None:
        url += f"&{TICKET}={ticket}"
    return StreamAddress(_json({"type": "sse", "url": url}), ticket)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
