"""What OpenAPI is told beyond what FastAPI finds out: the grammar of names, headers of answers.

Nothing here is enforced: `pilothouse_core.names` judges names, and the routes set the headers.
"""

from collections.abc import Iterable
from typing import Any

_SEGMENT = "[A-Za-z0-9_-]{1,64}"
NAME: dict[str, Any] = {
    "maxLength": 63,
    "pattern": r"^[A-Za-z0-9_](\.?(-\.?)*[A-Za-z0-9_])*$",
}
USER: dict[str, Any] = {
    "maxLength": 63,
    "pattern": r"^[A-Za-z0-9_](\.?([@+-]\.?)*[A-Za-z0-9_])*$",
}
KEY: dict[str, Any] = {"maxLength": 256, "pattern": rf"^{_SEGMENT}(\.{_SEGMENT})*$"}
KEYED: dict[str, Any] = {"propertyNames": {"type": "string", **KEY}}

REQUEST_ID = "X-Request-Id"
_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {
        "description": "For `If-Match` and `If-None-Match`.",
        "schema": {"type": "string", "pattern": '^"[!-~]+"$'},
    },
    "Location": {
        "description": "Where it can be read.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-Revision": {
        "description": "The revision a read reflects, or the one a write became.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-Stale": {
        "description": "Seconds for which a server this answer relies on has been away.",
        "schema": {"type": "integer", "minimum": 0},
    },
    REQUEST_ID: {
        "description": "The caller's if it sent one of its form; stands in every line of the log.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
}


def headers(*always: str, sometimes: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the `headers` member of a response."""
    named = {name: {**_HEADERS[name], "required": True} for name in always}
    return named | {name: _HEADERS[name] for name in sometimes}


def carrying(
    *always: str, sometimes: Iterable[str] = (), status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route whose answer has these headers."""
    return {status: {"headers": headers(*always, sometimes=sometimes)}}


# Every read may say that it is stale; a revealed one has no tag.
READ = carrying("X-Revision", sometimes=["X-Stale"])
TAGGED = carrying("ETag", "X-Revision", sometimes=["X-Stale"])
TAGGED_UNLESS_REVEALED = carrying("X-Revision", sometimes=["ETag", "X-Stale"])
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {
        "description": "As the client knows it.",
        "headers": headers("ETag", "X-Revision", sometimes=["X-Stale"]),
    }
}
CREATED = carrying("ETag", "Location", "X-Revision", status=201)
WRITTEN = carrying("ETag", "X-Revision")
DELETED = carrying("X-Revision", status=204)


def complete(document: dict[str, Any]) -> None:
    """Add to every answer of an OpenAPI document what the edge adds to every answer."""
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                response["headers"] = headers(REQUEST_ID) | response.get("headers", {})
