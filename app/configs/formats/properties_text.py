"""Java properties as Spring reads them: several documents, and `a[0].b` for a member of a list.

Values stay text, and names stay dotted; only an index opens a list.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from app.configs.formats.errors import BadFile, shown
from app.configs.formats.flat import left_out
from pilothouse_core.trees import is_secret, is_section, leaves

MAX_DEPTH: Final = 64

_BLANKS: Final = " \t\f"
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_SEPARATOR: Final = re.compile(r"([#!])---[ \t\f]*")
_ENTRY: Final = re.compile(r"((?:[^\\=: \t\f]|\\.)*+)[ \t\f]*+[=:]?[ \t\f]*+(.*)", re.DOTALL)

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPED_CONTROLS: Final = {control: f"\\{letter}" for letter, control in _CONTROLS.items()}
_SPECIAL_IN_VALUE: Final = re.compile(r"\A |[^ -~]|\\")
_SPECIAL_IN_KEY: Final = re.compile(r"[^!-~]|[\\=:#!]")

_INDEX: Final = re.compile(r"\[[0-9]+\]")
# At most 6 digits: no list is longer, and CPython refuses to read an integer of 5,000 digits.
_INDEXED_KEY: Final = re.compile(r"[^\[\]]++(?:\[(?:0|[1-9][0-9]{0,5})\](?:\.[^\[\]]++)?)*+")
_STEP: Final = re.compile(r"\[([0-9]+)\]\.?|([^\[\]]+)")

# A list or an object on its way: items have numbers, members have names, leaves are text.
_Node = dict[str | int, "_Node | str"]


def read(text: str) -> list[dict[str, object]]:
    """The documents that hold an entry, each with its members as written."""
    return [_document(entries) for entries in _documents(text) if entries]


def _documents(text: str) -> Iterator[list[tuple[int, str]]]:
    entries: list[tuple[int, str]] = []
    for number, line in _logical_lines(text):
        if line is None:
            yield entries
            entries = []
        elif line:
            entries.append((number, line))
    yield entries


def _logical_lines(text: str) -> Iterator[tuple[int, str | None]]:
    """Every entry with the number of its first line, and None where a document ends."""
    lines = _NEWLINE.split(text)
    following = enumerate(lines, 1)
    for number, line in following:
        start = line.lstrip(_BLANKS)
        if _is_separator(lines, number - 1):
            yield number, None
        elif start and start[0] not in "#!":
            yield number, "".join(_continued(start, following))


def _continued(line: str, following: Iterator[tuple[int, str]]) -> Iterator[str]:
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


def _document(entries: list[tuple[int, str]]) -> dict[str, object]:
    root: _Node = {}
    lines: dict[str, int] = {}
    for line, entry in entries:
        key, value = _parts(entry, line)
        if key in lines:
            raise BadFile(f"the key {shown(key)} stands in line {lines[key]} already", line)
        lines[key] = line
        if not _insert(root, _steps(key, line), value):
            raise BadFile(f"the key {shown(key)} lies where an earlier one has its value", line)
    return {str(name): _finished(below, str(name)) for name, below in root.items()}


def _parts(entry: str, line: int) -> tuple[str, str]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise BadFile("neither a comment nor an entry", line)
    return _unescaped(match[1], line), _unescaped(match[2], line)


def _unescaped(text: str, line: int) -> str:
    if "\\" not in text:
        return text
    if any(escape[2] == "u" for escape in _ESCAPE.finditer(text)):
        raise BadFile("fewer than four hexadecimal digits after \\u", line)
    plain = _ESCAPE.sub(_meant, text)
    if "\0" in plain:
        raise BadFile("a NUL character", line)
    try:
        return plain.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        # Not chained: the cause holds the text.
        raise BadFile("half of a surrogate pair", line) from None


def _meant(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _CONTROLS.get(escape[2], escape[2])


def _steps(key: str, line: int) -> list[str | int]:
    """`a.b[0].c` is the member `c` of the first item of the member `a.b`."""
    if _INDEX.search(key) is None:
        return [key]
    if _INDEXED_KEY.fullmatch(key) is None:
        raise BadFile(f"the key {shown(key)} has an index without meaning", line)
    steps = [int(step[1]) if step[1] else step[2] for step in _STEP.finditer(key)]
    if len(steps) > MAX_DEPTH:
        raise BadFile(f"nested more than {MAX_DEPTH} levels deep", line)
    return steps


def _insert(node: _Node, steps: list[str | int], value: str) -> bool:
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


def _finished(node: _Node | str, key: str) -> object:
    if isinstance(node, str):
        return node
    if isinstance(next(iter(node)), str):
        return {str(name): _finished(below, f"{key}.{name}") for name, below in node.items()}
    for index in range(len(node)):
        if index not in node:
            raise BadFile(f"the list {shown(key)} has items, but none at [{index}]")
    return [_finished(node[index], f"{key}[{index}]") for index in range(len(node))]


def write(data: Mapping[str, object]) -> str:
    return "".join(f"{line}\n" for key, value in leaves(data) for line in _lines(key, value))


def _lines(key: str, value: object) -> Iterator[str]:
    if is_secret(value):
        yield left_out(key)
    elif isinstance(value, dict) and is_section(value):
        for inner, leaf in leaves(value, key):
            yield from _lines(inner, leaf)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _lines(f"{key}[{index}]", item)
    else:
        yield f"{_SPECIAL_IN_KEY.sub(_escape, key)}={_SPECIAL_IN_VALUE.sub(_escape, _text(value))}"


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
