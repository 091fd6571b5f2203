"""NAME=value as dotenv libraries and shells read it, except that no variable is ever expanded.

What is written is read alike by node's dotenv, python-dotenv (and so pydantic-settings) and Docker
Compose; what they would read differently is refused.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from pilothouse_core.config_files.comments import (
    Notes,
    holds_mask,
    key_note,
    omission_note,
    revealed_secret,
    type_note,
    with_revealed_values,
)
from pilothouse_core.config_files.errors import BadFile, NameClash, NotExpressible, quoted_name
from pilothouse_core.config_files.patterns import compile_pattern
from pilothouse_core.keys import names_of
from pilothouse_core.trees import is_secret, leaves

_ASSIGNMENT: Final = r"[ \t]*+(?:export[ \t]++)?(?P<name>[A-Za-z0-9_.-]++)[ \t]*+="
_LINE: Final = compile_pattern(
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
_STARTED: Final = compile_pattern(_ASSIGNMENT)
_COMMENT: Final = re.compile(r"[ \t]\#.*", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_MEANT: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$", "`": "`"}

_COMMENT_LINE: Final = compile_pattern(r"[ \t]*+#[^\n]*+")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9_]")
_NEEDS_NO_QUOTES: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
# python-dotenv, and with it pydantic-settings, expands these in quotes as well.
_EXPANDED: Final = re.compile(r"\$\{[^}:]*(?::-[^}]*)?\}")
# Between double quotes readers agree on \n and \r alone; between single ones python-dotenv takes
# \\ and \' for escapes, and others a backslash at the end for one.
_FITS_DOUBLE_QUOTES: Final = re.compile(r'[^"\\$`]*')
_FITS_SINGLE_QUOTES: Final = re.compile(r"(?:[^'\r\\]|\\(?![\\']|\Z))*")
# Harmless in shells, and plain text to all other readers.
_FITS_WITHOUT_QUOTES: Final = re.compile(r"[A-Za-z0-9_./:@%+,=^?\[\]{}\\-]+")
_SPECIAL: Final = re.compile(r"[\n\r]")
_WRITTEN: Final = {"\n": "\\n", "\r": "\\r"}
_IN_JSON: Final = re.compile(r"\\(.)|'|\$(?=\{)")


def read(text: str, *, types: bool = False) -> dict[str, object]:
    """The variables of a file; with `types`, comments say which keys they are, and their types."""
    text = text.replace("\r\n", "\n")
    notes = Notes()
    members: dict[str, object] = {}
    lines: dict[str, int] = {}
    position, line = 0, 1
    while position < len(text):
        entry = _LINE.match(text, position)
        if entry is None:
            raise _syntax_error(text, position, line)
        if name := entry["name"]:
            if name in lines:
                raise BadFile(
                    f"the name {quoted_name(name)} is already set in line {lines[name]}", line
                )
            key = name if notes.key is None else notes.key
            if key in members:
                raise BadFile(f"the key {quoted_name(key)} is given twice", line)
            lines[name], members[key] = line, notes.value_of(_value(entry), line)
            notes = Notes()
        elif types and (comment := _COMMENT_LINE.match(text, position)):
            notes.take(comment[0], line)
            if notes.type == "null" and notes.key is not None:  # has no line of its own
                members[notes.key] = notes.value_of("", line)
                notes = Notes()
        line += text.count("\n", position, entry.end())
        position = entry.end()
    return members


def _syntax_error(text: str, position: int, line: int) -> BadFile:
    if _STARTED.match(text, position):
        return BadFile("a quoted value is not closed, or something follows it", line)
    return BadFile("neither NAME=value nor a comment", line)


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return _ESCAPE.sub(lambda escape: _MEANT.get(escape[1], escape[0]), entry["double"])
    return _COMMENT.sub("", entry["bare"]).strip(" \t")


def write(data: Mapping[str, object], *, types: bool = False) -> str:
    """The leaves as variables that node's dotenv, python-dotenv and Docker Compose read alike.

    Raises NameClash and NotExpressible.
    """
    lines: list[str] = []
    keys: dict[str, str] = {}
    unwritable: list[str] = []
    for key, leaf in leaves(data):
        is_shown, value = revealed_secret(leaf)
        if is_secret(value) or holds_mask(value):
            lines.append(
                omission_note(key, "a secret" if is_secret(value) else "a list with a secret")
            )
            continue
        value = value if types else with_revealed_values(value)
        name = _name(key)
        if name in keys:
            raise NameClash(keys[name], key, name)
        keys[name] = key
        if types and (name != key or value is None):
            lines.append(key_note(key))
        if types:
            lines.extend(type_note(value, is_secret=is_shown))
        elif value is None:
            lines.append(omission_note(key, "null"))
        if value is not None:
            quoted = _quote(value if isinstance(value, str) else _json(value))
            if quoted is None:
                unwritable.append(key)
            lines.append(f"{name}={quoted}")
    if unwritable:
        raise NotExpressible(unwritable)
    return "".join(f"{line}\n" for line in lines)


def _name(key: str) -> str:
    names = (
        name[1:-1] if name.startswith("[") and name.endswith("]") else name
        for name in names_of(key)
    )
    return _NOT_IN_NAMES.sub("_", "_".join(names).upper())


def _json(value: object) -> str:
    """JSON text that fits between single quotes whatever it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _IN_JSON.sub(_escape_in_json, text)


def _escape_in_json(match: re.Match[str]) -> str:
    character = match[1] or match[0]
    return match[0] if match[1] not in {None, "\\"} else f"\\u{ord(character):04x}"


def _quote(text: str) -> str | None:
    """The text so that all readers read it alike, None if there is no such way."""
    if _NEEDS_NO_QUOTES.fullmatch(text):
        return text
    if _EXPANDED.search(text):
        return None
    is_several_lines = _SPECIAL.search(text) is not None
    # One line a value where it can be: a reader that knows no quotes must not find further entries.
    if _FITS_SINGLE_QUOTES.fullmatch(text) and not is_several_lines:
        return f"'{text}'"
    if _FITS_DOUBLE_QUOTES.fullmatch(text):
        return f'"{_SPECIAL.sub(lambda special: _WRITTEN[special[0]], text)}"'
    if _FITS_SINGLE_QUOTES.fullmatch(text):
        return f"'{text}'"
    return text if _FITS_WITHOUT_QUOTES.fullmatch(text) else None
