"""JSON read strictly: what other parsers repair or let pass quietly is an error here."""

import contextlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pilothouse_core.numbers import INEXACT, is_exact
from pilothouse_core.trees import truncated_text

_LONGEST_INTEGER = 4300  # digits; CPython refuses to print a longer one

# The only ways a string can come to hold NUL or half of a surrogate pair in valid UTF-8.
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(
    r'(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")(?P<colon>[ \t\n\r]*:)?'
    r'|(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)|(?P<word>[^\s"\[\]{},:]+)',
    re.DOTALL,
)


class BadJson(ValueError):
    """The text is not JSON, or is JSON that no two parsers read alike.

    `place` has the members and indexes that lead to a number that no double holds, else nothing.
    """

    def __init__(self, reason: str, place: Sequence[str | int] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = tuple(place)


class _Suspect(ValueError):
    """A hook of the decoder found a flaw; `_inspect` finds its position."""


def loads(
    text: str | bytes, *, max_depth: int = 64, any_text: bool = False, exact: bool = False
) -> object:
    """The value of one JSON text; bytes are UTF-8 without a byte order mark.

    Raises `BadJson` for bad syntax, a member that occurs twice in one object, NaN and infinity
    (also spelled 1e400), integers of more than 4,300 digits, NUL and lone surrogates in strings,
    and more than `max_depth` objects and arrays inside each other. Its message holds the reason
    and the position, and of the content at most the beginning of a member's name. With `any_text`,
    strings may hold what an escape can spell: NUL and lone surrogates as well. With `exact`, a
    decimal that would be answered as another number is refused too, see `numbers.is_exact`.
    """
    source = _decode_text(text)
    try:
        value = (_EXACT_DECODER if exact else _DECODER).decode(source)
    except json.JSONDecodeError as error:
        raise BadJson(f"{_decoder_message(error.msg)}{_position(source, error.pos)}") from None
    except (RecursionError, ValueError):
        _inspect(source, max_depth, exact=exact)
        raise BadJson("beyond what can be read") from None
    brackets = source.count("[") + source.count("{")
    is_odd = not any_text and _ODD_ESCAPE.search(source)
    if is_odd or (brackets > max_depth and _is_deeper(value, max_depth)):
        _inspect(source, max_depth, exact=exact)
    return value


def _decode_text(text: str | bytes) -> str:
    try:
        source = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from None
    if source.startswith("\ufeff"):
        raise BadJson("the JSON text begins with a byte order mark")
    if not source.isascii() and (half := _SURROGATE.search(source)):
        raise BadJson(f"half of a surrogate pair{_position(source, half.start())}")
    return source


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Suspect
    return members


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER + text.startswith("-"):
        raise _Suspect
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Suspect
    return number


def _exact_float(text: str) -> float:
    number = _float(text)
    if not is_exact(text):
        raise _Suspect
    return number


def _constant(_: str) -> NoReturn:
    raise _Suspect


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
_EXACT_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=_exact_float,
    parse_constant=_constant,
)


def _is_deeper(value: object, levels: int) -> bool:
    nodes: list[Any] = [value] if isinstance(value, (dict, list)) else []
    while nodes:
        if levels == 0:
            return True
        levels -= 1
        nodes = [
            child
            for node in nodes
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
    return False


def _inspect(source: str, max_depth: int, *, exact: bool) -> None:
    """Raise the first flaw with its position: slow, and only for a text under suspicion."""
    inspection = _Inspection(max_depth, exact=exact)
    # Beyond the interpreter's own limits the rest of the text was never read and may be broken.
    with contextlib.suppress(json.JSONDecodeError, IndexError):
        for token in _TOKEN.finditer(source):
            if flaw := inspection.flaw(token):
                raise BadJson(f"{flaw}{_position(source, token.start())}", inspection.place)


class _Inspection:
    """Inspects tokens in order, and keeps the open objects and arrays."""

    def __init__(self, max_depth: int, *, exact: bool) -> None:
        self._max_depth, self._exact = max_depth, exact
        self._names: list[set[str]] = []  # of the members seen in each open object
        self._steps: list[str | int] = []  # the last member or index in each of what is open
        self.place: tuple[str | int, ...] = ()

    def flaw(self, token: re.Match[str]) -> str | None:
        if token["word"]:
            return self._flaw_of_word(token["word"])
        if token["text"]:
            return self._flaw_of_text(token)
        if token["comma"]:
            last = self._steps[-1]
            self._steps[-1] = last + 1 if isinstance(last, int) else last
        elif token["close"]:
            self._names.pop()
            self._steps.pop()
        elif len(self._names) == self._max_depth:
            return f"nested more than {self._max_depth} levels deep"
        else:
            self._names.append(set())
            self._steps.append(0)
        return None

    def _flaw_of_word(self, word: str) -> str | None:
        if word.lstrip("-") in {"NaN", "Infinity"}:
            return f"{word} is not JSON"
        digits = word.lstrip("-")
        if digits.isdigit():
            too_long = len(digits) > _LONGEST_INTEGER
            return f"an integer of more than {_LONGEST_INTEGER} digits" if too_long else None
        if not digits[0].isdigit():
            return None
        if math.isinf(float(digits)):
            self.place = tuple(self._steps)
            return "a number beyond every double"
        if self._exact and not is_exact(word):
            self.place = tuple(self._steps)
            return INEXACT
        return None

    def _flaw_of_text(self, token: re.Match[str]) -> str | None:
        text: str = json.loads(token["text"])
        if "\0" in text:
            return "a NUL character in a string"
        if _SURROGATE.search(text):
            return "half of a surrogate pair in a string"
        if not token["colon"]:
            return None
        if text in self._names[-1]:
            return f"the member {truncated_text(text)!r} occurs twice in one object"
        self._names[-1].add(text)
        self._steps[-1] = text
        return None


def _decoder_message(message: str) -> str:
    """The decoder's phrase without the dangling words that lead to its own position."""
    phrase = message.rstrip(": ")
    return phrase.removesuffix(" at").removesuffix(" starting")


def _position(source: str, position: int) -> str:
    line = source.count("\n", 0, position) + 1
    column = position - source.rfind("\n", 0, position)
    return f" at line {line}, column {column}"
