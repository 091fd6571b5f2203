"""Lists in pages: `limit`, an opaque `cursor`, and the envelope they come in."""

import base64
import json
from typing import Annotated, Any, Generic, TypeVar, overload

from fastapi import Query
from pydantic import BaseModel, Field

from app.errors import Unparsable
from pilothouse_core import strict_json

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
_LONGEST_CURSOR = 2048
_LARGEST_NUMBER = 2**63 - 1

Item = TypeVar("Item")
A = TypeVar("A", str, int)
B = TypeVar("B", str, int)
C = TypeVar("C", str, int)


class BadCursor(Unparsable):
    code = "bad_cursor"

    def __init__(self) -> None:
        super().__init__("this cursor is not one that a list of this kind has given out")


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = Field(None, description="The cursor of the next page; null on the last.")


Limit = Annotated[
    int, Query(ge=1, le=LARGEST_LIMIT, description="How many items a page has at most.")
]
Cursor = Annotated[
    str | None,
    Query(max_length=_LONGEST_CURSOR, description="`next` of the page before; opaque."),
]


def encode_cursor(*parts: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@overload
def decode_cursor(text: str, first: type[A], /) -> tuple[A]: ...
@overload
def decode_cursor(text: str, first: type[A], second: type[B], /) -> tuple[A, B]: ...
@overload
def decode_cursor(
    text: str, first: type[A], second: type[B], third: type[C], /
) -> tuple[A, B, C]: ...
def decode_cursor(text: str, /, *types: type[Any]) -> tuple[Any, ...]:
    """Return the parts `encode_cursor` was given, or raise `BadCursor` (also for other types)."""
    parts = _parts(text)
    # Not isinstance: to Python, `true` is an integer.
    if [type(part) for part in parts] != list(types):
        raise BadCursor
    if not all(0 <= part <= _LARGEST_NUMBER for part in parts if isinstance(part, int)):
        raise BadCursor
    return tuple(parts)


def _parts(text: str) -> list[str | int]:
    try:
        padded = text + "=" * (-len(text) % 4)
        parts = strict_json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError as error:
        raise BadCursor from error
    if not isinstance(parts, list):
        raise BadCursor
    return parts
