"""Rejects unknown query parameters.

If ignored, `?service=billing` instead of `?service_name=billing` would write or read the layer that
all services share.
"""

from collections.abc import Collection, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from app.web.routes import route_of
from pilothouse_core.suggestions import did_you_mean

_known: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()  # by endpoint


async def _reject_unknown(request: Request) -> None:
    """Raise a validation error for each unknown parameter."""
    if not request.query_params:
        return
    endpoint = request.scope["endpoint"]
    known = _known.get(endpoint)
    if known is None:
        route = route_of(request.scope)
        known = _known[endpoint] = frozenset(_names(route.dependant))  # codespell:ignore
    flaws = [
        {
            "type": "extra_forbidden",
            "loc": ("query", name),
            "msg": unknown_parameter(name, known),
        }
        for name in request.query_params
        if name not in known
    ]
    if flaws:
        raise RequestValidationError(flaws)


def unknown_parameter(name: str, known: Collection[str]) -> str:
    """Return the message for a query parameter that is not in `known`."""
    suggestion = did_you_mean(name, sorted(known))
    return f"Unknown parameter{suggestion or _list_of_known(known)}"


def _list_of_known(known: Collection[str]) -> str:
    return f"; known parameters: {', '.join(sorted(known))}" if known else "; this route has none"


def _names(call: Any) -> Iterator[str]:
    """Yield the query parameters of a route or dependency, including nested dependencies."""
    for parameter in call.query_params:
        yield parameter.alias
    for needed in call.dependencies:
        yield from _names(needed)


rejects_unknown_parameters = Depends(_reject_unknown)
