"""YAML as the service reads it: JSON-like values; a date stays text, and so does 12:30."""

import re
from collections.abc import Callable
from math import isfinite
from typing import Any

from pilothouse.cli.exit_codes import ExitCode, failure
from pilothouse_core.numbers import INEXACT, is_exact

_NUMERIC = frozenset("+-.0123456789")
# Numbers for the service and for Spring, text for PyYAML.
_EXPONENT = re.compile(r"(?:[-+]?[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+\Z")


class NotYaml(ValueError):
    """The text cannot be read; the message names the line and quotes nothing."""


def parse_yaml(text: str) -> Any:
    """Return the content of one YAML document; raises NotYaml, and Failure without PyYAML."""
    return _read(text, lambda loader: loader.get_single_data())


def parsed_documents(text: str) -> list[Any]:
    """Return the content of each YAML document of a text; raises as `parse_yaml` does."""
    return [one for one in _read(text, _all_of) if one is not None]


def _all_of(loader: Any) -> list[Any]:
    found = []
    while loader.check_data():
        found.append(loader.get_data())
    return found


def _read(text: str, read: Callable[[Any], Any]) -> Any:
    yaml = _library()
    try:
        return read(_loader(yaml)(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise NotYaml(f"{place}{error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise NotYaml(f"not YAML: {type(error).__name__}") from None


def _library() -> Any:
    try:
        import yaml  # noqa: PLC0415 - an extra, and 20 ms for all other commands
    except ModuleNotFoundError:
        sentence = "YAML needs `pip install 'pilothouse-client[yaml]'`"
        raise failure("yaml_missing", sentence, ExitCode.FAILED) from None
    return yaml


def _loader(yaml: Any) -> Any:
    """Return a PyYAML loader that resolves fewer types and refuses repeated members."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is adjusted in no other way
        yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
            first: [
                (tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"
            ]
            + ([("tag:yaml.org,2002:float", _EXPONENT)] if first in _NUMERIC else [])
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002
            self.flatten_mapping(node)
            members: dict[str, Any] = {}
            for name, value in node.value:
                if not isinstance(name, yaml.ScalarNode):
                    raise _problem(yaml, "a name that is not text", name)
                if name.value in members:
                    raise _problem(yaml, "a repeated name", name)
                members[name.value] = self.construct_object(value, deep=True)
            return members

        def construct_yaml_number(self, node: Any) -> Any:
            text = self.construct_scalar(node)
            if ":" in text:
                return text
            is_integer = node.tag.endswith(":int")
            if is_integer:
                return self.construct_yaml_int(node)
            value = self.construct_yaml_float(node)
            if not isfinite(value) or not is_exact(text.replace("_", "")):
                raise _problem(yaml, INEXACT, node)
            return value

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_yaml_number)
    return Loader


def _problem(yaml: Any, what: str, node: Any) -> Exception:
    error: Exception = yaml.constructor.ConstructorError(None, None, what, node.start_mark)
    return error
