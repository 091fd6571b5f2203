"""`${VAR:default}` in the texts of a configuration."""

import re
from collections.abc import Mapping
from typing import Any

from pilothouse.reload.errors import BadConfig, MissingVariable
from pilothouse_core.strict_json import BadJson, loads
from pilothouse_core.trees import Tree, joined

_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<default>[^{}]*))?\}|(?P<bad>\$\{)",
    re.ASCII,
)


def read_value(text: str) -> Any:
    """Return `text` read as JSON, or itself where it is none."""
    try:
        return loads(text)
    except BadJson:
        return text


def expanded(tree: Tree, environment: Mapping[str, str]) -> Tree:
    """Return the tree with every reference replaced; parts without any are shared with it.

    `${NAME}` is a variable of `environment`, `${NAME:default}` one that may be absent; everything
    between the colon and the brace is the default, also nothing. A text that is one reference and
    nothing else is read as JSON (`${PORT:8080}` is a number), or else as text. `$${` stands for
    `${`. What a variable holds is not expanded again. Names of members are left alone.

    Raises MissingVariable, which names every absent variable at once, and BadConfig for `${` that
    begins no reference.
    """
    missing: dict[str, None] = {}
    result = _expanded_section(tree, environment, missing, "")
    if missing:
        raise MissingVariable(list(missing))
    return result


def _expanded_section(
    tree: Tree, environment: Mapping[str, str], missing: dict[str, None], path: str
) -> Tree:
    """Copy only what differs: few texts of a large file are references."""
    result = tree
    for name, value in tree.items():
        kind = type(value)
        if (kind is str and "${" in value) or kind is dict or kind is list:
            new = _expanded(value, environment, missing, joined(path, name))
            if new is not value:
                if result is tree:
                    result = dict(tree)
                result[name] = new
    return result


def _expanded(
    value: Any, environment: Mapping[str, str], missing: dict[str, None], path: str
) -> Any:
    if isinstance(value, str):
        return _text(value, environment, missing, path) if "${" in value else value
    if isinstance(value, dict):
        return _expanded_section(value, environment, missing, path)
    if isinstance(value, list):
        items = [_expanded(item, environment, missing, path) for item in value]
        is_same = all(new is item for new, item in zip(items, value, strict=True))
        return value if is_same else items
    return value


def _text(text: str, environment: Mapping[str, str], missing: dict[str, None], path: str) -> Any:
    def replaced(reference: re.Match[str]) -> str:
        name, default = reference["name"], reference["default"]
        if reference["bad"]:
            raise BadConfig(f"{path}: '${{' begins no ${{NAME}} or ${{NAME:default}}; write $${{")
        if name is None:
            return "${"
        if name not in environment and default is None:
            missing[name] = None
        return environment.get(name, default or "")

    whole = _REFERENCE.fullmatch(text)
    result = _REFERENCE.sub(replaced, text)
    return read_value(result) if whole is not None and whole["name"] else result
