"""How bodies are read: JSON through the one strict parser, and raw text for imports."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.params import Form
from fastapi.routing import APIRoute

from app.errors import Unparsable
from app.web.problem import UnsupportedMediaType
from pilothouse_core import strict_json

Doorkeeper = Callable[[Request], Awaitable[object]]
DOORKEEPER = "doorkeeper"  # where the state has who raises for a caller who is not known

# What `curl -d` sends unless it is told otherwise.
_FORM = "application/x-www-form-urlencoded"


class BadBody(Unparsable):
    code = "bad_json"


class BadText(Unparsable):
    code = "bad_text"


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `strict_json` instead of FastAPI.

    For `APIRouter(route_class=StrictRoute)`. FastAPI turns whatever its own reading raises into
    a vague 400, so the body is judged before FastAPI asks for it. Who is not known is refused
    before that: of a body of 1 MiB, reading takes as long as hundreds of requests.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None or isinstance(self.body_field.field_info, Form):
            return handle

        async def handle_strictly(request: Request) -> Response:
            doorkeeper: Doorkeeper | None = getattr(request.state, DOORKEEPER, None)
            if doorkeeper is not None:
                await doorkeeper(request)
            body = await request.body()
            # An empty body is FastAPI's to judge: only it knows whether one is required.
            return await handle(
                _Parsed(request, body, _document(request, body)) if body else request
            )

        return handle_strictly


class _Parsed(Request):
    """A request whose body has been read, and which FastAPI takes for JSON whatever it said."""

    def __init__(self, request: Request, body: bytes, document: object) -> None:
        others = [header for header in request.scope["headers"] if header[0] != b"content-type"]
        headers = [*others, (b"content-type", b"application/json")]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._body = body
        self._document = document

    async def json(self) -> Any:
        return self._document


def _document(request: Request, body: bytes) -> object:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = _is_json(media_type)
    if not is_json and not _may_be_json(media_type, request):
        raise UnsupportedMediaType("a body here is JSON: send `Content-Type: application/json`")
    try:
        return strict_json.loads(body)
    except strict_json.BadJson as error:
        if media_type == _FORM:
            raise UnsupportedMediaType(
                f"a form is not understood here, and read as JSON it fails: {error}"
            ) from error
        raise BadBody(f"the body is not JSON that can be accepted: {error}") from error


def _is_json(media_type: str) -> bool:
    kind, _, subtype = media_type.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _may_be_json(media_type: str, request: Request) -> bool:
    # Lenient towards people with a shell, not towards browsers: these two are what a foreign page
    # may send without asking first, and a browser always says `Origin` then.
    return media_type in {"", _FORM} and "origin" not in request.headers


async def _raw_text(request: Request) -> str:
    try:
        text = (await request.body()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadText(f"the body is not UTF-8: byte {error.start} fits nothing") from error
    if "\0" in text:
        raise BadText("the body has a NUL character")
    return text


RawText = Annotated[str, Depends(_raw_text)]
