"""Files of variables (.env) read as environment variables are, into a tree."""

import re
from typing import Any

from pilothouse.reload.errors import BadConfig
from pilothouse.reload.expansion import read_variable
from pilothouse.reload.names import path_of_variable
from pilothouse_core.trees import KeysConflict, Tree, set_in

_LINE = re.compile(
    r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*"
    r"(?:\'(?P<literal>[^\']*)\'|\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<plain>[^\n]*?))"
    r"[ \t]*(?:(?<=\s)#[^\n]*)?(?:\n|\Z)",
    re.DOTALL | re.ASCII,
)
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def loads(text: str) -> Tree:
    """Return the tree of all variables.

    In single quotes everything is literal, in double quotes escapes are read; both are text. A
    value without quotes ends before ` #`, and is read like a variable. References (`${NAME}`) are
    kept; in single quotes they are escaped. Raises BadConfig, which names the line.
    """
    tree: Tree = {}
    seen: dict[str, str] = {}
    text, position = text.replace("\r\n", "\n"), 0
    while position < len(text):
        blank = _BLANK.match(text, position)
        line = blank or _LINE.match(text, position)
        number = text.count("\n", 0, position) + 1
        if line is None:
            raise BadConfig(f"line {number} is not of the form NAME=value")
        position = line.end()
        if blank is not None:
            continue
        name = line["name"]
        path = path_of_variable(name, f"_{name}")
        if path in seen:
            raise BadConfig(f"line {number}: {seen[path]} and {name} both set {path}")
        seen[path] = name
        try:
            set_in(tree, path, _value(line))
        except KeysConflict as error:
            raise BadConfig(f"line {number}: {name}: {error}") from None
    return tree


def _value(line: re.Match[str]) -> Any:
    if (literal := line["literal"]) is not None:
        return literal.replace("${", "$${")
    if (quoted := line["quoted"]) is not None:
        return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted)
    return read_variable(line["plain"])
