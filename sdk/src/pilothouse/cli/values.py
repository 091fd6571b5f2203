"""Values as people type them and as they are shown: JSON where it is JSON, else text."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import typer

from pilothouse.cli.exits import usage

SECRET = "$secret"  # noqa: S105 - the member's name, not a secret
STDIN = "-"


def _no_number(name: str) -> Any:
    raise ValueError(name)


def read(text: str) -> Any:
    """Return `text` as JSON, else as it is; `NaN` and `Infinity` are no JSON and stay text."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return value


def written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def indented(document: Any) -> str:
    """Return one JSON document as it is printed and put into files."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def is_masked(value: Any) -> bool:
    return isinstance(value, dict) and SECRET in value


def shown(value: Any) -> str:
    """Return what `read` turns into the same value again, in one line; a secret stays hidden."""
    if is_masked(value):
        return "(secret)"
    if isinstance(value, str) and value and value.isprintable() and read(value) == value:
        return value
    return written(value)


def visible(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are spelt out."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else _spelt(character)
        for character in text
    )


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode()


def typed(text: str | None, *, name: str, is_secret: bool = False) -> str:
    """Return `text`, or what stands on stdin for `-`, or what is asked for at a terminal.

    Raises Failure (usage) where nobody can be asked.
    """
    if text == STDIN:
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if text is not None:
        return text
    if not sys.stdin.isatty():
        raise usage(f"{name} is missing; `{STDIN}` reads it from standard input")
    return str(typer.prompt(name.lower(), hide_input=is_secret, err=True))


def pairs(texts: Iterable[str], *, name: str) -> dict[str, str]:
    """Split `a=b` texts; raises Failure (usage)."""
    found = {}
    for text in texts:
        member, separator, value = text.partition("=")
        if not separator or not member:
            raise usage(f"{name} is written as NAME=VALUE")
        found[member] = value
    return found
