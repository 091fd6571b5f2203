"""YAML 1.1 scalars as Spring (SnakeYAML) and PyYAML read them, except for their surprises.

Where the two differ it is Spring's: `1e3` is a number. A date stays text, and so does 12:30, which
YAML 1.1 takes for a number in base 60.
"""

import re
from typing import Final

from yaml import ScalarEvent

from app.configs.formats.errors import BadFile
from pilothouse_core.numbers import INEXACT, is_exact

TAGS: Final = "tag:yaml.org,2002:"

_TYPES: Final = {"null": type(None), "bool": bool, "int": int, "float": float}
_HUGE: Final = 10**4300  # CPython refuses to print such an integer
_SPELLINGS: Final[dict[str, bool | None]] = {
    "null": None,
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}
_WORDS: Final = {"": None, "~": None} | {
    spelling: value
    for word, value in _SPELLINGS.items()
    for spelling in (word, word.capitalize(), word.upper())
}
_INTEGER: Final = re.compile(
    r"[-+]?(?:0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]+|0|[1-9][0-9_]*)"
)
_FLOAT: Final = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def scalar_value(event: ScalarEvent, line: int) -> object:
    """The value of a scalar; raises BadFile."""
    if event.tag is None:
        return _plain(event.value, line) if event.implicit[0] else event.value
    name = scalar_tag(event, line)
    return event.value if name == "str" else _convert_tagged(name, event.value, line)


def scalar_tag(event: ScalarEvent, line: int) -> str:
    """The name of its explicit tag, `str` for none; raises BadFile for any that JSON lacks."""
    if event.tag is None or event.tag == "!":
        return "str"
    name = event.tag.removeprefix(TAGS)
    if name == event.tag or name not in {"str", *_TYPES}:
        raise BadFile("a tag other than !!str, !!int, !!float, !!bool and !!null", line)
    return name


def _plain(text: str, line: int) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text, line)
    if _FLOAT.fullmatch(text):
        return _finite(text.replace("_", ""), line)
    if _NOT_FINITE.fullmatch(text):
        raise BadFile("infinity and not-a-number cannot be stored", line)
    return text


def _integer(text: str, line: int) -> int:
    digits = text.lstrip("+-").replace("_", "")
    base = {"0x": 16, "0b": 2}.get(digits[:2], 8 if digits[0] == "0" else 10)
    try:
        number = int(digits, base)
    except ValueError:  # more digits than CPython converts
        number = _HUGE
    if number >= _HUGE:
        raise BadFile("an integer of more than 4300 digits", line)
    return -number if text[0] == "-" else number


def _finite(number: str | int, line: int) -> float:
    """Return the number as a double, which it has to equal; raises BadFile."""
    try:
        value = float(number)
    except OverflowError:
        value = float("inf")
    if value in {float("inf"), float("-inf")}:
        raise BadFile("a number beyond every double", line)
    if not (is_exact(number) if isinstance(number, str) else value == number):
        raise BadFile(INEXACT, line)
    return value


def _convert_tagged(name: str, text: str, line: int) -> object:
    value = _plain(text, line)
    if name == "float" and type(value) is int:
        return _finite(value, line)
    if type(value) is not _TYPES[name]:
        raise BadFile(f"the value does not match its tag !!{name}", line)
    return value
