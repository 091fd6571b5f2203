"""NAME=value as dotenv libraries and shells read it, except that no variable is ever expanded."""

import json
import re
from collections.abc import Mapping
from typing import Final

from app.configs.formats.errors import BadFile, NameClash, shown
from app.configs.formats.flat import left_out
from pilothouse_core.trees import is_secret, leaves

_ASSIGNMENT: Final = r"[ \t]*+(?:export[ \t]++)?(?P<name>[A-Za-z0-9_.-]++)[ \t]*+="
_LINE: Final = re.compile(
    rf"""
      [ \t]*+ (?:\#[^\n]*+)? (?:\n|\Z)
    | {_ASSIGNMENT}
      (?: [ \t]*+ (?: '(?P<single>[^']*+)' | "(?P<double>[^"\\]*+(?:\\.[^"\\]*+)*+)" )
          (?: [ \t]++\#[^\n]*+ | [ \t]*+ )
        | (?![ \t]*+["']) (?P<bare>[^\n]*+)
      ) (?:\n|\Z)
    """,
    re.DOTALL | re.VERBOSE,
)
_STARTED: Final = re.compile(_ASSIGNMENT)
_COMMENT: Final = re.compile(r"[ \t]\#.*", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_MEANT: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$", "`": "`"}

_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9_]")
_NEEDS_NO_QUOTES: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_EXPANDED_ELSEWHERE: Final = re.compile(r"[$`]")
_FITS_SINGLE_QUOTES: Final = re.compile(r"[^'\r\n]*")
_SPECIAL: Final = re.compile(r'[\\"$`\n\r]')
_WRITTEN: Final = {"\n": "\\n", "\r": "\\r"}


def read(text: str) -> dict[str, object]:
    text = text.replace("\r\n", "\n")
    members: dict[str, object] = {}
    lines: dict[str, int] = {}
    position, line = 0, 1
    while position < len(text):
        entry = _LINE.match(text, position)
        if entry is None:
            raise _misread(text, position, line)
        if name := entry["name"]:
            if name in lines:
                raise BadFile(f"the name {shown(name)} stands in line {lines[name]} already", line)
            lines[name], members[name] = line, _value(entry)
        line += text.count("\n", position, entry.end())
        position = entry.end()
    return members


def _misread(text: str, position: int, line: int) -> BadFile:
    if _STARTED.match(text, position):
        return BadFile("a quoted value is not closed, or something follows it", line)
    return BadFile("neither NAME=value nor a comment", line)


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return _ESCAPE.sub(lambda escape: _MEANT.get(escape[1], escape[0]), entry["double"])
    return _COMMENT.sub("", entry["bare"]).strip(" \t")


def write(data: Mapping[str, object]) -> str:
    lines: list[str] = []
    keys: dict[str, str] = {}
    for key, value in leaves(data):
        if is_secret(value):
            lines.append(left_out(key))
            continue
        name = _NOT_IN_NAMES.sub("_", key.upper())
        if name in keys:
            raise NameClash(keys[name], key, name)
        keys[name] = key
        lines.append(f"{name}={_quoted(_text(value))}")
    return "".join(f"{line}\n" for line in lines)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _quoted(text: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(text):
        return text
    if _EXPANDED_ELSEWHERE.search(text) and _FITS_SINGLE_QUOTES.fullmatch(text):
        return f"'{text}'"
    # One line a value: a reader that knows no quotes must not find further entries in it.
    return f'"{_SPECIAL.sub(_escaped, text)}"'


def _escaped(special: re.Match[str]) -> str:
    return _WRITTEN.get(special[0], f"\\{special[0]}")
