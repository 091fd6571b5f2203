"""What a plain scalar of YAML stands for: null, a switch, a number, or its text."""

import re
from math import isinf
from typing import Any, Final

from pilothouse.reload.errors import BadConfig

_SHORT: Final = 4300  # digits; CPython refuses to convert more
_SPELLINGS: Final[dict[str, bool | None]] = {
    "null": None,
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}
_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    **{
        spelling: value
        for word, value in _SPELLINGS.items()
        for spelling in (word, word.capitalize(), word.upper())
    },
}
_NUMERIC: Final = frozenset("+-.0123456789")
_INTEGER: Final = re.compile(
    r"[-+]?(?:0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]+|0|[1-9][0-9_]*)"
)
_FLOAT: Final = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

TYPED: Final = frozenset({word[:1] for word in _WORDS} | _NUMERIC)
"""How a scalar begins that may be something else than its text."""


def plain(text: str) -> Any:
    """Return the value. Raises BadConfig for infinity, NaN and what is as good as infinite."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    if text.isascii() and text.isdecimal() and text[0] != "0" and len(text) < _SHORT:
        return int(text)
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        if isinf(number):
            raise BadConfig("a number beyond every double")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise BadConfig("infinity and NaN are no values of a configuration")
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-").replace("_", "")
    base = {"0x": 16, "0b": 2}.get(digits[:2], 8 if digits[0] == "0" else 10)
    try:
        number = int(digits, base)
    except ValueError:
        raise BadConfig("an integer of more than 4300 digits") from None
    return -number if text[0] == "-" else number
