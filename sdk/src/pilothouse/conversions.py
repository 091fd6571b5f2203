"""Values of a configuration read as the type that is asked for, or UNREADABLE."""

import math
from typing import Any

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}
UNREADABLE: Any = object()


def read_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else UNREADABLE


def read_integer(value: Any) -> Any:
    number = read_number(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return UNREADABLE
    is_whole = number is not UNREADABLE and number == int(number)
    return int(value) if is_whole else UNREADABLE


def read_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return UNREADABLE
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return UNREADABLE
    return number if math.isfinite(number) else UNREADABLE


def read_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, str)):
        return _WORDS.get(str(value).strip().lower(), UNREADABLE)
    return UNREADABLE


def read_list(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list) else UNREADABLE
