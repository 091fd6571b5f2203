"""Reads request bodies: JSON with the strict parser, YAML, and text of imports."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.params import Form
from fastapi.routing import APIRoute

from app.errors import Unparsable
from app.web.last_good import mark_last_good
from app.web.problem import UnsupportedMediaType, pointer_to
from app.workers import LARGE_BODY, note_request, run_apart
from pilothouse_core import strict_json

Authenticate = Callable[[Request], Awaitable[object]]
AUTHENTICATE = "authenticate"  # state key of the function that raises for an unknown caller

READ_YAML = "read_yaml"  # state key of the YAML reader
YAML_TYPES = frozenset(
    # The later ones are from before its media type was registered.
    ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"]
)

# The default of `curl -d`.
_FORM = "application/x-www-form-urlencoded"
OCTETS = "application/octet-stream"
_WITHOUT_BODY = frozenset({"GET", "HEAD"})


class BadBody(Unparsable):
    code = "bad_json"

    def __init__(self, error: strict_json.BadJson) -> None:
        super().__init__(f"the body is not valid JSON: {error}")
        if error.place:
            pointer = pointer_to(error.place)
            self.flaws = [{"pointer": pointer, "detail": str(error), "code": "inexact_number"}]


class BadText(Unparsable):
    code = "bad_text"


class StrictRoute(APIRoute):
    """A route whose JSON body is parsed by `strict_json` instead of FastAPI.

    For `APIRouter(route_class=StrictRoute)`. FastAPI would report parse errors as a vague 400, so
    the body is parsed before. Unknown callers are rejected first: parsing 1 MiB takes as long as
    hundreds of requests. A body sent to a route without one is not parsed but still has to be
    declared as JSON: pages of other sites can send all other types without a preflight.
    """

    keeps_numbers = True  # the body is stored: inexact decimals are rejected
    takes_yaml = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = partial(mark_last_good, super().get_route_handler())
        if (self.methods or set()) <= _WITHOUT_BODY:
            return handle
        if self.body_field is not None and isinstance(self.body_field.field_info, Form):
            return handle

        async def handle_strictly(request: Request) -> Response:
            authenticate: Authenticate | None = getattr(request.state, AUTHENTICATE, None)
            if authenticate is not None:
                await authenticate(request)
            body = await request.body()
            if not body:  # FastAPI knows whether a body is required
                return await handle(request)
            if self.takes_yaml and _stated_type(request) in YAML_TYPES:
                return await handle(_ParsedRequest(request, body, await _read_yaml(request)))
            check_json_type(request)
            if self.body_field is None:
                return await handle(request)
            note_request(body)
            document = await run_apart(
                len(body) > LARGE_BODY, _parse_document, request, body, exact=self.keeps_numbers
            )
            return await handle(_ParsedRequest(request, body, document))

        return handle_strictly


class ContextRoute(StrictRoute):
    """A strict route whose body is not stored: decimals may be rounded."""

    keeps_numbers = False


class StrictOrYamlRoute(StrictRoute):
    """A strict route that also accepts YAML; several documents become a list."""

    takes_yaml = True


async def _read_yaml(request: Request) -> object:
    text = await read_text(request)
    read: Callable[[str], list[Any]] = getattr(request.state, READ_YAML)
    documents = await run_apart(len(text) > LARGE_BODY, read, text)
    if not documents:
        raise BadText("the body has no YAML document")
    return documents[0] if len(documents) == 1 else documents


class _ParsedRequest(Request):
    """A request with a parsed body, presented to FastAPI as JSON."""

    def __init__(self, request: Request, body: bytes, document: object) -> None:
        others = [header for header in request.scope["headers"] if header[0] != b"content-type"]
        headers = [*others, (b"content-type", b"application/json")]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._body = body
        self._document = document

    async def json(self) -> Any:
        return self._document


def check_json_type(request: Request) -> None:
    """Raise UnsupportedMediaType unless a body is declared as JSON, or sent without a browser.

    Types that a page of another site can send without a preflight are not accepted from browsers.
    """
    media_type = _stated_type(request)
    if not _is_json(media_type) and not _may_be_json(media_type, request):
        raise UnsupportedMediaType("the body has to be JSON: send `Content-Type: application/json`")


def check_file_type(request: Request, own: str, *others: str) -> None:
    """Raise UnsupportedMediaType unless a body is declared as a file of its `own` type."""
    media_type = _stated_type(request)
    if media_type in {own, OCTETS, *others}:
        return
    if media_type == "" and "origin" not in request.headers:
        return
    if _is_json(own) and _may_be_json(media_type, request):
        return
    reason = f"send this file with `Content-Type: {own}` or `{OCTETS}`"
    if media_type == _FORM:
        reason += "; curl declares it as a form by default"
    raise UnsupportedMediaType(reason)


def is_json(request: Request, other: str) -> bool:
    """Whether a body is JSON and not text of the `other` type; raises UnsupportedMediaType."""
    media_type = _stated_type(request)
    if _is_json(media_type) or _may_be_json(media_type, request):
        return True
    # A page of another site can send text without a preflight.
    if media_type == OCTETS or (media_type == other and "origin" not in request.headers):
        return False
    raise UnsupportedMediaType(
        f"send JSON with `Content-Type: application/json`, or text with `{other}` or `{OCTETS}`"
    )


async def read_json(request: Request) -> Any:
    """Parse a JSON body; raises BadBody."""
    body = await request.body()
    note_request(body)
    return await run_apart(len(body) > LARGE_BODY, _parse_document, request, body, exact=False)


def _stated_type(request: Request) -> str:
    stated = request.headers.getlist("content-type")
    if len(stated) > 1:
        raise UnsupportedMediaType("a body may have only one `Content-Type`")
    return _media_type(stated[0]) if stated else ""


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _parse_document(request: Request, body: bytes, *, exact: bool) -> object:
    try:
        return strict_json.loads(body, exact=exact)
    except strict_json.BadJson as error:
        stated = _media_type(request.headers.get("content-type", ""))
        if stated == _FORM and body.lstrip()[:1] not in (b"{", b"["):
            raise UnsupportedMediaType(
                f"forms are not supported, and the body is not valid JSON: {error}"
            ) from error
        raise BadBody(error) from error


def _is_json(media_type: str) -> bool:
    kind, _, subtype = media_type.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _may_be_json(media_type: str, request: Request) -> bool:
    # Lenient for command line tools, not for browsers: a page of another site can send these two
    # types without a preflight, and a browser then always sends `Origin`.
    return media_type in {"", _FORM} and "origin" not in request.headers


async def read_text(
    request: Request, charset: str | None = None, *, otherwise: str | None = None
) -> str:
    """Return a body as text; raises BadText.

    Without `charset` it is decoded as UTF-8, and if that fails as `otherwise`.
    """
    body = await request.body()
    note_request(body)
    try:
        text = body.decode("utf-8-sig" if charset in {None, "utf-8"} else str(charset))
    except UnicodeDecodeError as error:
        if charset is None and otherwise is not None:
            return await read_text(request, otherwise)
        raise BadText(f"the body is not UTF-8: invalid byte at position {error.start}") from error
    if "\0" in text:
        raise BadText("the body has a NUL character")
    return text
