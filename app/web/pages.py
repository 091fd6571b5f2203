"""The two HTML pages: the start page and the API documentation.

All of their files are in `assets`, so that they work offline.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from app.web.conditional import etag, matches
from app.web.problem import NoSuchRoute

_FOLDER = Path(__file__).parent / "assets"
_ASSETS: Mapping[str, tuple[str, str]] = {
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css"),
    "docs.js": ("docs.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_RESTRICTIONS = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_POLICY_OF_ROOT = f"default-src 'none'; style-src 'self'; img-src 'self'; {_RESTRICTIONS}"
# The icons of Swagger UI are data URLs in its style sheet.
_POLICY_OF_DOCS = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    f"connect-src 'self'; {_RESTRICTIONS}"
)
_LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "health": "/health",
    "ready": "/ready",
    "metrics": "/metrics",
}

router = APIRouter(include_in_schema=False)


class _Asset(NamedTuple):
    content: bytes
    media_type: str
    tag: str
    integrity: str


@cache
def _asset(name: str) -> _Asset:
    path, media_type = _ASSETS[name]
    content = (_FOLDER / path).read_bytes()
    digest = hashlib.sha384(content).digest()
    integrity = "sha384-" + b64encode(digest).decode()
    return _Asset(content, media_type, etag(digest.hex()[:24]), integrity)


@router.get("/")
async def root(request: Request) -> Response:
    """Return the start page for browsers, and links for programs."""
    if _prefers_html(request.headers.get("accept", "")):
        return _page("root.html", request, _POLICY_OF_ROOT, {"Vary": "Accept"})
    app, base = request.app, _base(request)
    links = {name: base + path for name, path in _LINKS.items()}
    members = {"name": app.title, "version": app.version, **links}
    return JSONResponse(members, headers={"Vary": "Accept", "Cache-Control": "no-cache"})


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Return the API documentation (Swagger UI)."""
    return _page("docs.html", request, _POLICY_OF_DOCS)


@router.get("/docs/{name}")
async def asset(name: str, request: Request) -> Response:
    """Return a file of the two pages."""
    if name not in _ASSETS:
        raise NoSuchRoute("no such route")
    file = _asset(name)
    # Revalidated on each use, and sent again only after an update of the service.
    headers = {"Cache-Control": "no-cache", "ETag": file.tag}
    if matches(request.headers.get("if-none-match"), file.tag):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _page(
    name: str, request: Request, policy: str, headers: Mapping[str, str] | None = None
) -> Response:
    app = request.app
    facts = {
        "base": _base(request),
        "title": app.title,
        "version": app.version,
        "description": app.description,
        **{re.sub(r"\W", "_", name): _asset(name).integrity for name in _ASSETS},
    }
    text = _template(name).substitute({name: escape(fact) for name, fact in facts.items()})
    always = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
    return HTMLResponse(text, headers={**always, **(headers or {})})


@cache
def _template(name: str) -> Template:
    return Template((_FOLDER / name).read_text(encoding="utf-8"))


def _base(request: Request) -> str:
    """Return the prefix of all paths if this service is mounted below another."""
    base: str = request.scope.get("root_path", "")
    return base.rstrip("/")


def _prefers_html(accept: str) -> bool:
    """Whether HTML is accepted, and JSON is not preferred."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for element in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in element.split(";"))
        if media_type in weights:
            weights[media_type] = _weight(parameters)
    return weights["text/html"] > 0 and weights["text/html"] >= weights["application/json"]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
