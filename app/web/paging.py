"""Paging of lists: `limit`, an opaque `cursor`, and the response envelope."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar, overload

from fastapi import Query
from pydantic import BaseModel, Field

from app.errors import Unparsable
from pilothouse_core import strict_json

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
MAX_PAGE_CHARACTERS = 2 * 1024 * 1024  # a page of large definitions has fewer items than `limit`
_LONGEST_CURSOR = 2048
_LARGEST_NUMBER = 2**63 - 1

Item = TypeVar("Item")
A = TypeVar("A", str, int)
B = TypeVar("B", str, int)
C = TypeVar("C", str, int)
D = TypeVar("D", str, int)


class BadCursor(Unparsable):
    code = "bad_cursor"

    def __init__(self) -> None:
        super().__init__("the cursor is not valid for this list")


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = Field(
        None, description="The cursor of the next page; null on the last page."
    )


Limit = Annotated[
    int, Query(ge=1, le=LARGEST_LIMIT, description="Maximum number of items in a page.")
]
Cursor = Annotated[
    str | None,
    Query(max_length=_LONGEST_CURSOR, description="`next` of the previous page; opaque."),
]


def fitting_items(items: Sequence[Item], characters_of: Callable[[Item], int]) -> Sequence[Item]:
    """Return as many of the first items as fit into a page, but at least one."""
    left = MAX_PAGE_CHARACTERS
    for number, item in enumerate(items):
        left -= characters_of(item)
        if left < 0:
            return items[: max(number, 1)]
    return items


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
@overload
def decode_cursor(
    text: str, first: type[A], second: type[B], third: type[C], fourth: type[D], /
) -> tuple[A, B, C, D]: ...
def decode_cursor(text: str, /, *types: type[Any]) -> tuple[Any, ...]:
    """Return the parts of a cursor; raises `BadCursor`, also for other types."""
    parts = _parts(text)
    # Not isinstance: to Python, `true` is an integer.
    if [type(part) for part in parts] != list(types):
        raise BadCursor
    if not all(map(_is_storable, parts)):
        raise BadCursor
    return tuple(parts)


def _is_storable(part: str | int) -> bool:
    """Whether every store can compare with this value."""
    if isinstance(part, int):
        return 0 <= part <= _LARGEST_NUMBER
    return "\0" not in part and not any("\ud800" <= character <= "\udfff" for character in part)


def _parts(text: str) -> list[str | int]:
    try:
        padded = text + "=" * (-len(text) % 4)
        parts = strict_json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError as error:
        raise BadCursor from error
    if not isinstance(parts, list):
        raise BadCursor
    return parts
