"""Looks up routes of the application for error messages."""

from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.routing import iter_route_contexts
from starlette.types import Scope

from app.web.path_rules import PathRules
from pilothouse_core.suggestions import nearest_name

# Prefixes of routes; those of single features follow.
_PREFIXES = ("/api/v1", "/api")


def route_of(scope: Scope) -> Any:
    """Return the matched route including what its routers add; None if none matched.

    `route` in the scope lacks the prefixes and dependencies of routers; FastAPI keeps the complete
    one under this undocumented name.
    """
    return scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")


def body_annotation(request: Request) -> Any:
    """Return the body type of the matched route, None without one."""
    field = getattr(route_of(request.scope), "body_field", None)
    return None if field is None else field.field_info.annotation


def allowed_methods(request: Request) -> set[str]:
    """Return the methods of all routes with this path; the framework names those of the first."""
    methods = set(_methods_at(request, _path(request)))
    return methods | {"HEAD"} if "GET" in methods else methods  # see app.web.head_requests


def nearest_path(request: Request, rules: PathRules) -> str | None:
    """Return the route path that the caller most likely meant, None if none is similar."""
    first, *rest = _path_segments(_path(request))
    for name in (
        first,
        rules.foreign_segments.get(first),
        nearest_name(first, _first_segments(request)),
    ):
        if name is None:
            continue
        for prefix in (*_PREFIXES, *rules.prefixes, ""):
            path = "/".join([prefix, name, *rest])
            if any(_methods_at(request, path)):
                return path
            if name != first and any(_methods_at(request, f"{prefix}/{name}")):
                return f"{prefix}/{name}"
    return None


def _path(request: Request) -> str:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def _path_segments(path: str) -> list[str]:
    segments = [segment for segment in path.split("/") if segment]
    while segments[1:] and segments[0] in {"api", "v1", "v2", "v3"}:
        del segments[0]
    return segments or [""]


def _first_segments(request: Request) -> Iterator[str]:
    for route in iter_route_contexts(request.app.routes):
        yield _path_segments(route.path_format or "")[0]


def _methods_at(request: Request, path: str) -> Iterator[str]:
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.path_regex.match(path):
            yield from route.methods
