"""Additions to FastAPI's OpenAPI document: grammars, headers, access and examples.

Nothing here is enforced: `pilothouse_core.names` validates names, and the routes set the headers.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from app.web.descriptions import TAGS, describe
from pilothouse_core.keys import MAX_KEY_LENGTH

_EXAMPLES = Path(__file__).with_name("examples.json")  # recorded by `make docs`
_PATH_EXAMPLES = {
    "instance_id": "billing-1",
    "intent": "0123456789abcdef0123456789abcdef",
    "key": "database.host",
    "name": "new-checkout",
    "proposal_id": "p-7k2m9x4qd1",
    "release_id": "r-7k2m9p4x5q",
    "service": "billing",
    "token_id": "XIpqpoVdUegVADZf",
}
_EXAMPLES_OF_TAGS = {
    "segments": "testers",
    "templates": "http-service",
    "webhooks": "releases",
    "policies": "production",
}  # instead of them
# Either one, or none while `PILOTHOUSE_ACCESS` is `open`.
SECURITY_SCHEMES: dict[str, Any] = {
    "Bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of this service, or of a person from the OpenID Connect issuer.",
    },
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A token of this service.",
    },
}
NAME: dict[str, Any] = {
    "maxLength": 63,
    "pattern": r"^[A-Za-z0-9_](\.?(-\.?)*[A-Za-z0-9_])*$",
}
INSTANCE_ID: dict[str, Any] = {
    "maxLength": 128,
    "pattern": r"^[A-Za-z0-9_]([A-Za-z0-9._:@-]{0,126}[A-Za-z0-9_])?$",
}
USER: dict[str, Any] = {
    "maxLength": 63,
    "pattern": r"^[A-Za-z0-9_](\.?([@+-]\.?)*[A-Za-z0-9_])*$",
}
KEY: dict[str, Any] = {
    "minLength": 1,
    "maxLength": MAX_KEY_LENGTH,
    "pattern": "^[^\\u0000-\\u001f\\u007f]+$",
}
PROPOSAL_NEEDED: Any = Field(
    description="The policy that asks for a proposal for this change; null: none does."
)
KEYED: dict[str, Any] = {"propertyNames": {"type": "string", **KEY}}

REQUEST_ID = "X-Request-Id"
_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {
        "description": "For `If-Match` and `If-None-Match`.",
        "schema": {"type": "string", "pattern": '^"[!-~]+"$'},
    },
    "Location": {
        "description": "URL of the created resource.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-Flagd-Hash": {
        "description": "The hash of flagd by which the rollouts of the document assign buckets.",
        "schema": {"type": "string", "enum": ["v2", "v3"]},
    },
    "X-Revision": {
        "description": "The revision that a read reflects or a write has created.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-Stale": {
        "description": "Seconds for which a backend of this response has been unavailable.",
        "schema": {"type": "integer", "minimum": 0},
    },
    REQUEST_ID: {
        "description": "The id sent by the caller if it is valid; part of every log line.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
}


_BYPASS_REASON: dict[str, Any] = {
    "name": "Bypass-Reason",
    "in": "header",
    "required": False,
    "description": "In an emergency: why the change is made without the proposal that a policy "
    "asks for. Needs `change:bypass`; audited.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 500},
}


def headers(*always: str, sometimes: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the `headers` member of a response."""
    named = {name: {**_HEADERS[name], "required": True} for name in always}
    return named | {name: _HEADERS[name] for name in sometimes}


def with_headers(
    *always: str, sometimes: Iterable[str] = (), status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route with these headers."""
    return {status: {"headers": headers(*always, sometimes=sometimes)}}


def with_model(
    model: type[BaseModel], responses: Mapping[int | str, Mapping[str, Any]]
) -> dict[int | str, dict[str, Any]]:
    """Return responses with a body, for statuses other than the usual one of a route."""
    return {status: {"model": model, **response} for status, response in responses.items()}


# Every read may be stale; a read that reveals secrets has no tag.
READ = with_headers("X-Revision", sometimes=["X-Stale"])
TAGGED = with_headers("ETag", "X-Revision", sometimes=["X-Stale"])
TAGGED_UNLESS_REVEALED = with_headers("X-Revision", sometimes=["ETag", "X-Stale"])
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {
        "description": "Not modified.",
        "headers": headers("ETag", "X-Revision", sometimes=["X-Stale"]),
    }
}
CREATED = with_headers("ETag", "Location", "X-Revision", status=201)
WRITTEN = with_headers("ETag", "X-Revision")
# A dry run has neither.
WRITTEN_UNLESS_DRY = with_headers(sometimes=["ETag", "X-Revision"])
DELETED = with_headers("X-Revision", status=204)


def complete_document(document: dict[str, Any]) -> None:
    """Add access, descriptions, an example and the request id to every operation."""
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    document["security"] = [{}, *({name: []} for name in SECURITY_SCHEMES)]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    describe(document)
    examples = json.loads(_EXAMPLES.read_text(encoding="utf-8"))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation.get("tags") == ["health"]:
                operation["security"] = []
            name = f"{method.upper()} {path}"
            _add_example(operation, examples.get(name, {}))
            for response in operation["responses"].values():
                response["headers"] = headers(REQUEST_ID) | response.get("headers", {})


def add_bypass_header(document: Mapping[str, Any]) -> None:
    """Add the header that passes a policy to every operation that one may refuse."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "proposal_needed" in operation["x-problem-codes"]:
                operation.setdefault("parameters", []).append(_BYPASS_REASON)


def _add_example(operation: dict[str, Any], example: Mapping[str, Any]) -> None:
    if "request" in example:
        for name, media in operation["requestBody"]["content"].items():
            if not _is_text(name):
                media.setdefault("example", example["request"])
    if "response" in example:
        is_text = isinstance(example["response"], str)
        for name, media in operation["responses"][str(example["status"])]["content"].items():
            if _is_text(name) == is_text:
                media.setdefault("example", example["response"])
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path" and parameter["name"] in _PATH_EXAMPLES:
            tags = operation.get("tags", [""])
            text = _EXAMPLES_OF_TAGS.get(tags[0], _PATH_EXAMPLES[parameter["name"]])
            parameter.setdefault("example", text)


def _is_text(media_type: str) -> bool:
    return media_type == "application/x-ndjson" or not media_type.endswith(("json", "yaml"))
