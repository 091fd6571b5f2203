"""What OFREP says in JSON, read and written without any framework (OpenFeature's OFREP 0.3)."""

import json
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from app.flags.evaluating import Evaluator, Refusal
from app.web import quick_json
from app.web.conditional import etag, matches
from pilothouse_core import strict_json
from pilothouse_core.names import is_name

TICKET = "ticket"
BASE = "default"
FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
PARSE_ERROR = "PARSE_ERROR"
INVALID_CONTEXT = "INVALID_CONTEXT"
GENERAL = "GENERAL"


class Told(NamedTuple):
    status: int
    body: bytes
    tag: str | None = None


class Stream(NamedTuple):
    """Where changes can be heard of: what is told of it, and the ticket that is needed there."""

    told: bytes
    ticket: str | None


class Refused(Exception):
    """A request that OFREP cannot answer."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


def read_context(body: bytes) -> dict[str, Any]:
    """Return the context of a request; members beside it are for others. Raises Refused."""
    try:
        request = quick_json.loads(body or b"{}")
    except strict_json.BadJson as error:
        raise Refused(PARSE_ERROR, f"the body is not JSON that can be accepted: {error}") from error
    if not isinstance(request, dict):
        raise Refused(PARSE_ERROR, "the body is not an object")
    context = request.get("context")
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise Refused(INVALID_CONTEXT, "the context is not an object")
    key = context.get("targetingKey")
    if key is not None and type(key) not in (str, int):
        raise Refused(INVALID_CONTEXT, "the targeting key is not a string")
    return context


def read_environment(header: str | None) -> str:
    if header is None:
        return BASE
    if not is_name(header):
        raise Refused(GENERAL, "X-Environment names no environment")
    return header


def revision_of(query: str) -> int | None:
    """Return the revision that a refetch shall reflect at least, as an event had told it."""
    stated = parse_qs(query).get("flagConfigEtag", [""])[0].strip('"').removeprefix("W/")
    stated = stated.strip('"').removeprefix("r")
    return int(stated) if stated.isdigit() and len(stated) < 19 else None  # noqa: PLR2004


def one(evaluator: Evaluator, environment: str, key: str, body: bytes) -> Told:
    found = evaluator.ofrep(environment, key, read_context(body))
    if isinstance(found, Refusal):
        status = 404 if found.code == FLAG_NOT_FOUND else 400
        return Told(status, refusal(found.code, found.details, key))
    return Told(200, found)


def every(
    evaluator: Evaluator, environment: str, body: bytes, known: str | None, stream: Stream
) -> Told:
    """Answer all flags, or 304 without evaluating one if the client has these answers.

    With a new ticket the tag is another one: after 304, clients would go on with a ticket that has
    run out, and ask again every second.
    """
    context = read_context(body)
    tag = etag(evaluator.tag(environment, stream.ticket or "open", context))
    if matches(known, tag):
        return Told(304, b"", tag)
    flags = evaluator.ofrep_all(environment, context)
    revision = evaluator.sets.environment(environment).revision
    members = b'{"flags":[%b],"eventStreams":[%b],"metadata":{"revision":%d}}'
    return Told(200, members % (flags, stream.told, revision), tag)


def refusal(code: str, details: str, key: str | None = None) -> bytes:
    members = {} if key is None else {"key": key}
    return _json({**members, "errorCode": code, "errorDetails": details})


def stream_of(scheme: str, host: str, environment: str, ticket: str | None) -> Stream:
    """Tell where changes can be heard of, with a ticket where one is needed."""
    url = f"{scheme}://{host}/ofrep/v1/stream?environment={environment}"
    if ticket is not None:
        url += f"&{TICKET}={ticket}"
    return Stream(_json({"type": "sse", "url": url}), ticket)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
