"""YAML as most configuration files are written, read line by line: faster than by the parser.

Mappings and lists in block style, with scalars of one line in printable ASCII. Whatever else there
is, also whatever is wrong, is left to the parser: this reads a document as the parser does, or not
at all.
"""

import re
from typing import Any, Final

from pilothouse.reload.errors import BadConfig
from pilothouse.reload.yaml_scalars import TYPED, plain
from pilothouse_core.trees import Tree

_MOST_LINES: Final = 250_000  # of at most three values and keys: below the parser's own bounds
_DEEPEST: Final = 50
_LONGEST_KEY: Final = 200
_OTHER: Final = re.compile(r"[^ -~\n]")
_KEY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# How a plain scalar may begin; what begins otherwise may be the beginning of anything.
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_FIRST: Final = frozenset(_LETTERS + _LETTERS.upper() + "0123456789_./~+$(")
_NEGATIVE: Final = re.compile(r"-[A-Za-z0-9.]")
_QUOTES: Final = frozenset("\"'")
_QUOTED: Final = re.compile(r"""(?:"([^"\\]*)"|'([^']*)')(?: +#.*| *)""")


class _Unusual(Exception):
    """A line that is for the parser."""


def read(text: str) -> Tree | None:
    """Return the mapping that `text` holds, None where the parser has to look."""
    if _OTHER.search(text) or text.count("\n") > _MOST_LINES:
        return None
    try:
        return _read(text.removeprefix("---\n")) or None  # an empty document is no mapping
    except (_Unusual, BadConfig):
        return None


def _read(text: str) -> Tree:  # noqa: C901 - one flat loop, because it is hot
    root: Tree = {}
    target: Any = root
    column, is_list = 0, False
    around: list[tuple[int, Any, bool]] = []
    waiting = ""  # the key whose value the next line may begin
    for line in text.split("\n"):
        content = line.lstrip(" ")
        if not content or content[0] == "#":
            continue
        indent = len(line) - len(content)
        item = content[1:].lstrip(" ") if content.startswith("- ") else ""
        below: Any
        if waiting or item or is_list or indent != column:  # else it goes on as before
            if waiting and (indent > column or (item and indent == column)):
                around.append((column, target, is_list))
                target[waiting] = below = [] if item else {}
                column, target, is_list = indent, below, bool(item)
            while indent < column or (is_list and not item and around):
                column, target, is_list = around.pop()
            if indent != column or is_list != bool(item) or len(around) > _DEEPEST:
                raise _Unusual
            waiting = ""
        key, colon, rest = (item or content).partition(":")
        if not colon or (rest and rest[0] != " ") or item[:1] in _QUOTES:
            if not item:
                raise _Unusual
            target.append(_scalar(item))
            continue
        if item:
            around.append((column, target, is_list))
            target.append(below := {})
            column, target, is_list = indent + len(content) - len(item), below, False
        if key in target or not _is_key(key):
            raise _Unusual
        rest = rest.lstrip(" ")
        if rest and rest[0] != "#":
            target[key] = _scalar(rest)
        else:
            target[key], waiting = None, key
    return root


def _is_key(text: str) -> bool:
    return (text.isidentifier() or bool(_KEY.fullmatch(text))) and len(text) < _LONGEST_KEY


def _scalar(text: str) -> Any:
    first = text[0]
    if first not in _FIRST and not _NEGATIVE.match(text):
        quoted = _QUOTED.fullmatch(text)
        if quoted is None:
            raise _Unusual
        return quoted[1] if quoted[2] is None else quoted[2]
    if " " in text:
        text = text.partition(" #")[0].rstrip(" ")
        if ": " in text:
            raise _Unusual
    if text[-1] == ":":
        raise _Unusual
    return plain(text) if first in TYPED else text
