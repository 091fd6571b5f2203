"""Values as people type them and as they are shown: JSON where it is JSON, else text."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import typer

from pilothouse.cli.exit_codes import usage
from pilothouse_core import strict_json

SECRET = "$secret"  # noqa: S105 - the member's name, not a secret
STDIN = "-"


def _no_number(name: str) -> Any:
    raise ValueError(name)


def read(text: str) -> Any:
    """Return `text` as JSON, else as it is; `NaN` and `Infinity` are not JSON and stay text.

    Raises Failure (usage) for JSON that would not be stored as it was typed: a repeated member,
    a number that a double cannot represent.
    """
    if not _is_json(text):
        return text
    try:
        return strict_json.loads(text, exact=True)
    except strict_json.BadJson as error:
        raise usage(f"this JSON value cannot be sent: {error}") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return False
    return True


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def indented_json(document: Any) -> str:
    """Return a JSON document in the form that is printed and written to files."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def is_masked(value: Any) -> bool:
    return isinstance(value, dict) and SECRET in value


def display_text(value: Any) -> str:
    """Return a value as one line that `read` parses to the same value; secrets are hidden."""
    if is_masked(value):
        return "(secret)"
    if isinstance(value, str) and value and value.isprintable() and not _is_json(value):
        return value
    return json_text(value)


def visible(text: str) -> str:
    """Return text with control characters escaped, so that it cannot control a terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def read_argument(text: str | None, *, name: str, is_secret: bool = False) -> str:
    """Return `text`, standard input for `-`, or the answer to a prompt if `text` is None.

    Raises Failure (usage) where a prompt is needed and there is no terminal.
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
    members = {}
    for text in texts:
        member, separator, value = text.partition("=")
        if not separator or not member:
            raise usage(f"{name} needs the form NAME=VALUE")
        members[member] = value
    return members
