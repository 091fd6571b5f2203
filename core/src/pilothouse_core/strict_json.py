"""JSON read strictly: what other parsers repair or let pass quietly is an error here."""

import contextlib
import json
import math
import re
from typing import Any, NoReturn

from pilothouse_core.trees import shortened

_LONGEST_INTEGER = 4300  # digits; CPython refuses to print a longer one

# The only ways a string can come to hold NUL or half of a surrogate pair in valid UTF-8.
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(
    r'(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")(?P<colon>[ \t\n\r]*:)?'
    r'|(?P<open>[\[{])|(?P<close>[\]}])|(?P<word>[^\s"\[\]{},:]+)',
    re.DOTALL,
)


class BadJson(ValueError):
    """The text is not JSON, or is JSON that no two parsers read alike."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Suspect(ValueError):
    """A hook of the decoder saw a flaw; hooks are not told where, so `_inspect` looks again."""


def loads(text: str | bytes, *, max_depth: int = 64) -> object:
    """The value of one JSON text; bytes are UTF-8 without a byte order mark.

    Raises `BadJson` for bad syntax, a member that stands twice in one object, NaN and infinity
    (also spelled 1e400), integers of more than 4,300 digits, NUL and lone surrogates in strings,
    and more than `max_depth` objects and arrays inside each other. Its message holds the reason
    and the position, and of the content at most the beginning of a member's name.
    """
    source = _decoded(text)
    try:
        value = _DECODER.decode(source)
    except json.JSONDecodeError as error:
        raise BadJson(f"{_worded(error.msg)}{_at(source, error.pos)}") from None
    except (RecursionError, ValueError):
        _inspect(source, max_depth)
        raise BadJson("beyond what can be read") from None
    brackets = source.count("[") + source.count("{")
    if _ODD_ESCAPE.search(source) or (brackets > max_depth and _is_deeper(value, max_depth)):
        _inspect(source, max_depth)
    return value


def _decoded(text: str | bytes) -> str:
    try:
        source = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from None
    if source.startswith("\ufeff"):
        raise BadJson("a byte order mark stands before the JSON text")
    if not source.isascii() and (half := _SURROGATE.search(source)):
        raise BadJson(f"half of a surrogate pair{_at(source, half.start())}")
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


def _constant(_: str) -> NoReturn:
    raise _Suspect


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_float, parse_constant=_constant
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


def _inspect(source: str, max_depth: int) -> None:
    """Raise the first flaw with its position: slow, and only for a text under suspicion."""
    names: list[set[str]] = []  # of the members seen in each open object
    # Beyond the interpreter's own limits the rest of the text was never read and may be broken.
    with contextlib.suppress(json.JSONDecodeError, IndexError):
        for token in _TOKEN.finditer(source):
            if flaw := _flaw(token, names, max_depth):
                raise BadJson(f"{flaw}{_at(source, token.start())}")


def _flaw(token: re.Match[str], names: list[set[str]], max_depth: int) -> str | None:
    if token["word"]:
        return _flaw_of_word(token["word"])
    if token["text"]:
        return _flaw_of_text(token, names)
    if token["close"]:
        names.pop()
    elif len(names) == max_depth:
        return f"nested more than {max_depth} levels deep"
    else:
        names.append(set())
    return None


def _flaw_of_word(word: str) -> str | None:
    if word.lstrip("-") in {"NaN", "Infinity"}:
        return f"{word} is not JSON"
    digits = word.lstrip("-")
    if digits.isdigit():
        too_long = len(digits) > _LONGEST_INTEGER
        return f"an integer of more than {_LONGEST_INTEGER} digits" if too_long else None
    is_number = digits[0].isdigit()
    return "a number beyond every double" if is_number and math.isinf(float(digits)) else None


def _flaw_of_text(token: re.Match[str], names: list[set[str]]) -> str | None:
    text: str = json.loads(token["text"])
    if "\0" in text:
        return "a NUL character in a string"
    if _SURROGATE.search(text):
        return "half of a surrogate pair in a string"
    if not token["colon"]:
        return None
    if text in names[-1]:
        return f"the member {shortened(text)!r} stands twice in one object"
    names[-1].add(text)
    return None


def _worded(message: str) -> str:
    """The decoder's phrase without the dangling words that lead to its own position."""
    phrase = message.rstrip(": ")
    return phrase.removesuffix(" at").removesuffix(" starting")


def _at(source: str, position: int) -> str:
    line = source.count("\n", 0, position) + 1
    column = position - source.rfind("\n", 0, position)
    return f" at line {line}, column {column}"
