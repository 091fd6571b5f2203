"""YAML 1.1 scalars as Spring (SnakeYAML) and PyYAML read them, except for their surprises.

Where the two differ it is Spring's: `1e3` is a number. A date stays text, and so does 12:30, which
YAML 1.1 takes for a number in base 60.
"""

import re
from math import isinf
from typing import Any, Final

from pilothouse_core.numbers import INEXACT, is_exact
from pilothouse_core.strict_yaml.errors import BadYaml

TAGS: Final = "tag:yaml.org,2002:"

_TYPES: Final = {"null": type(None), "bool": bool, "int": int, "float": float}
_MOST_DIGITS: Final = 4300  # CPython refuses to convert a longer integer
_HUGE: Final = 10**_MOST_DIGITS
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
_FIRST_OF_TYPED: Final = frozenset({word[:1] for word in _WORDS} | _NUMERIC)
_INTEGER: Final = re.compile(
    r"[-+]?(?:0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]+|0|[1-9][0-9_]*)"
)
_FLOAT: Final = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def bad_at(event: Any, reason: str) -> BadYaml:
    """The error for a flaw at an event of the parser."""
    mark = event.start_mark
    return BadYaml(reason, mark.line + 1, mark.column + 1)


def scalar_value(event: Any, *, exact: bool) -> Any:
    """The value of the event of a scalar; raises BadYaml."""
    text = event.value
    if event.tag is None:
        is_text = text[:1] not in _FIRST_OF_TYPED or not event.implicit[0]
        return text if is_text else _plain(text, event, exact=exact)
    name = scalar_tag(event)
    return text if name == "str" else _tagged_value(name, event, exact=exact)


def scalar_tag(event: Any) -> str:
    """The name of its explicit tag, `str` for none; raises BadYaml for any that JSON lacks."""
    if event.tag is None or event.tag == "!":
        return "str"
    name: str = event.tag.removeprefix(TAGS)
    if name == event.tag or name not in {"str", *_TYPES}:
        raise bad_at(event, "a tag other than !!str, !!int, !!float, !!bool and !!null")
    return name


def _plain(text: str, event: Any, *, exact: bool) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    if text.isascii() and text.isdecimal() and text[0] != "0" and len(text) <= _MOST_DIGITS:
        return int(text)
    if _INTEGER.fullmatch(text):
        return _integer(text, event)
    if _FLOAT.fullmatch(text):
        return _float(text.replace("_", ""), event, exact=exact)
    if _NOT_FINITE.fullmatch(text):
        raise bad_at(event, "infinity and NaN are not numbers of JSON")
    return text


def _integer(text: str, event: Any) -> int:
    digits = text.lstrip("+-").replace("_", "")
    base = {"0x": 16, "0b": 2}.get(digits[:2], 8 if digits[0] == "0" else 10)
    try:
        number = int(digits, base)
    except ValueError:  # more digits than CPython converts
        number = _HUGE
    if number >= _HUGE:
        raise bad_at(event, f"an integer of more than {_MOST_DIGITS} digits")
    return -number if text[0] == "-" else number


def _float(number: str | int, event: Any, *, exact: bool) -> float:
    try:
        value = float(number)
    except OverflowError:
        value = float("inf")
    if isinf(value):
        raise bad_at(event, "a number beyond every double")
    if exact and not (is_exact(number) if isinstance(number, str) else value == number):
        raise bad_at(event, INEXACT)
    return value


def _tagged_value(name: str, event: Any, *, exact: bool) -> Any:
    value = _plain(event.value, event, exact=exact)
    if name == "float" and type(value) is int:
        return _float(value, event, exact=exact)
    if type(value) is not _TYPES[name]:
        raise bad_at(event, f"the value does not match its tag !!{name}")
    return value
