"""Java properties as Spring reads them: several documents, and `a[0].b` for a member of a list.

Values stay text unless comments say their types, and names stay dotted; only an index opens a list.
Inside a list, dots lead to members of members, and brackets name one member whatever it is called.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pilothouse_core.config_files.comments import (
    Notes,
    holds_mask,
    omission_note,
    revealed_secret,
    type_note,
    with_revealed_values,
)
from pilothouse_core.config_files.errors import BadFile, quoted_name
from pilothouse_core.config_files.patterns import compile_pattern
from pilothouse_core.trees import is_secret, leaves

MAX_DEPTH: Final = 64

_BLANKS: Final = " \t\f"
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_SEPARATOR: Final = re.compile(r"([#!])---[ \t\f]*")
_ENTRY: Final = compile_pattern(r"((?:[^\\=: \t\f]|\\.)*+)[ \t\f]*+[=:]?[ \t\f]*+(.*)", re.DOTALL)

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPED_CONTROLS: Final = {control: f"\\{letter}" for letter, control in _CONTROLS.items()}
_SPECIAL_IN_VALUE: Final = re.compile(r"\A |[^ -~]|\\")
_SPECIAL_IN_KEY: Final = re.compile(r"[^!-~]|[\\=:#!]")

# At most 6 digits: no list is longer, and CPython refuses to read an integer of 5,000 digits.
_INDEX: Final = re.compile(r"\[(0|[1-9][0-9]{0,5})\](?=[.\[]|\Z)")
_MALFORMED_INDEX: Final = re.compile(r"\[[0-9]+\]")
# Below an item of a list; any other name extends to the next index.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STEP: Final = re.compile(
    r"\[(?P<index>0|[1-9][0-9]{0,5})\](?=[.\[]|\Z)"
    r"|\.(?P<plain>[A-Za-z0-9_-]{1,64})(?=[.\[]|\Z)"
    r"|\.?\[(?P<member>(?![0-9]{1,64}\])(?:[^\]\\]|\\[\]\\])*)\](?=[.\[]|\Z)"
    r"|\.(?P<other>[^\[\]]+)(?=\[|\Z)",
    re.DOTALL,
)
_IN_BRACKETS: Final = re.compile(r"[\]\\]")
_ESCAPED: Final = re.compile(r"\\([\]\\])")


@dataclass(frozen=True, slots=True)
class _Entry:
    line: int
    text: str
    notes: Notes


@dataclass(frozen=True, slots=True)
class _Leaf:
    value: object


# A list or an object on its way: items have numbers, members have names.
_Node = dict[str | int, "_Node | _Leaf"]


def read(text: str, *, types: bool = False) -> list[dict[str, object]]:
    """The documents that hold an entry, each with its members as written.

    With `types`, a comment such as `# type: number` says what the next value is.
    """
    return [_document(entries) for entries in _documents(text, types=types) if entries]


def _documents(text: str, *, types: bool) -> Iterator[list[_Entry]]:
    entries: list[_Entry] = []
    notes = Notes()
    for number, line in _logical_lines(text):
        if line is None:
            yield entries
            entries = []
        elif line[:1] in {"#", "!"}:
            if types:
                notes.take(line, number)
        elif line:
            entries.append(_Entry(number, line, notes))
            notes = Notes()
    yield entries


def _logical_lines(text: str) -> Iterator[tuple[int, str | None]]:
    """Every entry and comment with the number of its first line, None where a document ends."""
    lines = _NEWLINE.split(text)
    following = enumerate(lines, 1)
    for number, line in following:
        start = line.lstrip(_BLANKS)
        if _is_separator(lines, number - 1):
            yield number, None
        elif start and start[0] in "#!":
            yield number, start
        elif start:
            yield number, "".join(_continued_lines(start, following))


def _continued_lines(line: str, following: Iterator[tuple[int, str]]) -> Iterator[str]:
    while (len(line) - len(line.rstrip("\\"))) % 2:
        yield line[:-1]
        line = next(following, (0, ""))[1].lstrip(_BLANKS)
    yield line


def _is_separator(lines: list[str], at: int) -> bool:
    """Spring takes `#---` next to a comment of its kind for a part of a banner."""
    separator = _SEPARATOR.fullmatch(lines[at])
    if separator is None:
        return False
    neighbours = lines[max(at - 1, 0) : at] + lines[at + 1 : at + 2]
    return not any(line.startswith(separator[1]) for line in neighbours)


def _document(entries: list[_Entry]) -> dict[str, object]:
    root: _Node = {}
    lines: dict[str, int] = {}
    for entry in entries:
        line = entry.line
        key, value = _parts(entry.text, line)
        if key in lines:
            raise BadFile(f"the key {quoted_name(key)} is already set in line {lines[key]}", line)
        lines[key] = line
        if not _insert(root, _steps(key, line), _Leaf(entry.notes.value_of(value, line))):
            raise BadFile(f"the key {quoted_name(key)} conflicts with an earlier key", line)
    return {str(name): _build_value(below, str(name)) for name, below in root.items()}


def _parts(entry: str, line: int) -> tuple[str, str]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise BadFile("neither a comment nor an entry", line)
    return _unescape(match[1], line), _unescape(match[2], line)


def _unescape(text: str, line: int) -> str:
    if "\\" not in text:
        return text
    if any(escape[2] == "u" for escape in _ESCAPE.finditer(text)):
        raise BadFile("fewer than four hexadecimal digits after \\u", line)
    plain = _ESCAPE.sub(_escape_meaning, text)
    if "\0" in plain:
        raise BadFile("a NUL character", line)
    try:
        return plain.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        # Not chained: the cause holds the text.
        raise BadFile("half of a surrogate pair", line) from None


def _escape_meaning(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _CONTROLS.get(escape[2], escape[2])


def _steps(key: str, line: int) -> list[str | int]:
    """`a.b[0].c` is the member `c` of the first item of the member `a.b`.

    Other text in brackets names a member, see `pilothouse_core.keys`.
    """
    if _MALFORMED_INDEX.search(key) is None:
        return [key]
    first = _INDEX.search(key)
    name = key[: first.start()] if first else ""
    steps: list[str | int] = [name]
    position = len(name)
    if not name or _MALFORMED_INDEX.search(name):
        raise BadFile(f"the key {quoted_name(key)} has an index without meaning", line)
    while position < len(key):
        step = _STEP.match(key, position)
        if step is None:
            raise BadFile(f"the key {quoted_name(key)} has an index without meaning", line)
        steps.append(_step(step))
        position = step.end()
    if len(steps) > MAX_DEPTH:
        raise BadFile(f"nested more than {MAX_DEPTH} levels deep", line)
    return steps


def _step(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    if match["member"] is not None:
        return _ESCAPED.sub(r"\1", match["member"])
    return match["plain"] or match["other"]


def _insert(node: _Node, steps: list[str | int], value: _Leaf) -> bool:
    """Tell whether there was a place for `value`."""
    for step, after in pairwise(steps):
        below = node.setdefault(step, {})
        if not isinstance(below, dict) or type(next(iter(below), after)) is not type(after):
            return False
        node = below
    if steps[-1] in node:
        return False
    node[steps[-1]] = value
    return True


def _build_value(node: _Node | _Leaf, key: str) -> object:
    if isinstance(node, _Leaf):
        return node.value
    if isinstance(next(iter(node)), str):
        return {str(name): _build_value(below, f"{key}.{name}") for name, below in node.items()}
    for index in range(len(node)):
        if index not in node:
            raise BadFile(f"the list {quoted_name(key)} has no item [{index}]")
    return [_build_value(node[index], f"{key}[{index}]") for index in range(len(node))]


def write(data: Mapping[str, object], *, types: bool = False) -> str:
    """One line a leaf and a line a list's item; with `types`, comments before what is not text."""
    lines = (line for key, leaf in leaves(data) for line in _leaf_lines(key, leaf, types=types))
    return "".join(f"{line}\n" for line in lines)


def _leaf_lines(key: str, leaf: object, *, types: bool) -> Iterator[str]:
    if is_secret(leaf) and not revealed_secret(leaf)[0]:
        yield omission_note(key)
    elif holds_mask(leaf):
        yield omission_note(key, "a list with a secret")
    else:
        yield from _lines(key, leaf if types else with_revealed_values(leaf), types=types)


def _lines(key: str, value: object, *, types: bool) -> Iterator[str]:
    is_shown, secret = revealed_secret(value)
    if is_shown:
        yield from type_note(secret, is_secret=True)
        yield _line(key, secret if isinstance(secret, str) else json.dumps(secret))
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _lines(key + _below(name), inner, types=types)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _lines(f"{key}[{index}]", item, types=types)
    else:
        if types:
            yield from type_note(value, is_secret=False)
        yield _line(key, _text(value))


def _below(name: str) -> str:
    """The rest of a key that leads from an item of a list to its member."""
    if _PLAIN_NAME.fullmatch(name):
        return f".{name}"
    return f"[{_IN_BRACKETS.sub(_with_backslash, name)}]"


def _with_backslash(special: re.Match[str]) -> str:
    return f"\\{special[0]}"


def _line(key: str, text: str) -> str:
    return f"{_SPECIAL_IN_KEY.sub(_escape, key)}={_SPECIAL_IN_VALUE.sub(_escape, text)}"


def _text(value: object) -> str:
    """Java has no word for null, and Spring reads an empty list from an empty value."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int | float) else ""


def _escape(special: re.Match[str]) -> str:
    character = special[0]
    if character in _ESCAPED_CONTROLS:
        return _ESCAPED_CONTROLS[character]
    if " " <= character <= "~":
        return f"\\{character}"
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
