"""The bound on an evaluation context: how it is counted, wherever a flag is evaluated."""

import json
from collections.abc import Mapping
from typing import Any, Final

# As JSON in UTF-8, without spaces between its parts and without escapes where none are needed; a
# subject counts under both of its names.
MAX_CONTEXT_BYTES: Final = 64 * 1024
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
# A request of so many bytes cannot hold a context that is too large: a subject is counted twice,
# and such JSON is at most five times as long as any other (1e15 has 18 characters).
SURELY_SMALL_BYTES: Final = MAX_CONTEXT_BYTES // 10
# Bytes: of a letter as \\u0000, of a member's other signs and of what is as short as a float.
_MOST_OF_LETTER: Final = 6
_MOST_OF_MEMBER: Final = 40
_MOST_MEMBERS: Final = MAX_CONTEXT_BYTES // 5  # "":0,
_LONG: Final = 2**63
_TEXT: Final = frozenset({str})
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def is_too_large(context: Mapping[str, Any]) -> bool:
    """Tell whether a context has more than MAX_CONTEXT_BYTES."""
    if len(context) > _MOST_MEMBERS:
        return True
    values = context.values()
    kinds = set(map(type, values))
    if kinds <= _PLAIN:
        texts = values if kinds == _TEXT else [value for value in values if type(value) is str]
        letters = sum(map(len, context)) + sum(map(len, texts))
        is_short = _MOST_OF_LETTER * letters + _MOST_OF_MEMBER * len(context) <= MAX_CONTEXT_BYTES
        if is_short and (int not in kinds or not any(map(_is_long, values))):
            return False
    return len(_encode(context).encode("utf-8", "surrogatepass")) > MAX_CONTEXT_BYTES


def _is_long(value: object) -> bool:
    return type(value) is int and not -_LONG < value < _LONG
