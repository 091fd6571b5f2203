"""What a proposal is to change, as options and files of the command line say it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import usage
from pilothouse.cli.files import read_document, read_object
from pilothouse.cli.values import pairs, read

_MEMBERS = frozenset({"title", "description", "on_failure", "items"})


@dataclass(frozen=True)
class StatedChanges:
    """The options as typed. `secrets` are keys, whose values are read without an echo."""

    file: Path | None = None
    config: str | None = None
    settings: Sequence[str] = ()
    unset: Sequence[str] = ()
    secrets: Sequence[str] = ()
    flags: Sequence[str] = ()
    members: dict[str, Any] = field(default_factory=dict)

    def body(self, session: Session) -> dict[str, Any]:
        """Return the body of a request: the members that were stated, and all items.

        Raises Failure (usage).
        """
        of_file = {} if self.file is None else _file_members(self.file)
        items = [*of_file.pop("items", ()), *self._items(session)]
        if not items:
            raise usage("nothing to propose: give KEY=VALUE, --unset, --secret, --flag or --file")
        stated = {name: value for name, value in self.members.items() if value is not None}
        return {**of_file, **stated, "items": items}

    def _items(self, session: Session) -> list[dict[str, Any]]:
        service, separator, environment = (self.config or session.service).partition("@")
        environment = environment if separator else session.environment
        items = []
        if self.settings or self.unset or self.secrets:
            layer = {"kind": "config", "environment": environment, "service_name": service}
            if session.options.user is not None:
                layer["user"] = session.options.user
            items.append({**layer, **self._patch()})
        elif self.config is not None:
            raise usage("--config needs KEY=VALUE, --unset or --secret")
        for name, path in pairs(self.flags, name="--flag").items():
            flag = {"kind": "flag", "environment": environment, "name": name}
            items.append({**flag, "definition": read_object(Path(path))})
        return items

    def _patch(self) -> dict[str, Any]:
        settings = pairs(self.settings, name="a key")
        values = {key: read(text) for key, text in settings.items()}
        values |= {key: _secret_value(key) for key in self.secrets}
        patch = {"set": values, "unset": list(self.unset), "encrypt": list(self.secrets)}
        return {member: stated for member, stated in patch.items() if stated}


def _file_members(file: Path) -> dict[str, Any]:
    """Return what a file says: a list of items, or an object with `items`; raises Failure."""
    content = read_document(file)
    if isinstance(content, list):
        return {"items": content}
    if not isinstance(content.get("items"), list) or not content.keys() <= _MEMBERS:
        raise usage(f"{file} is neither a list of items nor an object with `items`")
    return dict(content)


def _secret_value(key: str) -> str:
    """Ask for a secret at a terminal; elsewhere, it is the next line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt(key, hide_input=True, err=True))
    line = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not line:
        raise usage(f"the secret {key} is missing: standard input has one line for each --secret")
    return line
