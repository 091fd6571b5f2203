"""Query parameters that no one knows: refused where something is written.

Passed over, `?service=billing` instead of `?service_name=billing` would write the layer that all
services share. A read only answers more than was asked for.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from app.web.middleware import route_of

_READS = frozenset({"GET", "HEAD"})
_known: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()  # by endpoint


async def _knows_all(request: Request) -> None:
    """Raise what an unknown member of a body raises for each unknown parameter of a write."""
    if request.method in _READS or not request.query_params:
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
            "msg": "Extra inputs are not permitted",
        }
        for name in request.query_params
        if name not in known
    ]
    if flaws:
        raise RequestValidationError(flaws)


def _names(call: Any) -> Iterator[str]:
    """Yield the parameters of a route or dependency, as FastAPI sees them, and of what it needs."""
    for parameter in call.query_params:
        yield parameter.alias
    for needed in call.dependencies:
        yield from _names(needed)


knows_parameters = Depends(_knows_all)
