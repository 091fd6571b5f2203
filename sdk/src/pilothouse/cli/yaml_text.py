"""YAML as the service reads it: JSON-like values; a date stays text, and so does 12:30."""

from typing import Any

from pilothouse.cli.exits import ExitCode, failure


class NotYaml(ValueError):
    """The text cannot be read; the message names the line and quotes nothing."""


def parsed(text: str) -> Any:
    """Return what one YAML document holds; raises NotYaml, and Failure without PyYAML."""
    yaml = _library()
    try:
        return _loader(yaml)(text).get_single_data()
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
    """Return a loader of PyYAML's that resolves less, and takes no member twice."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is adjusted in no other way
        yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
            first: [
                (tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"
            ]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002
            self.flatten_mapping(node)
            members: dict[str, Any] = {}
            for name, value in node.value:
                if not isinstance(name, yaml.ScalarNode):
                    raise _problem(yaml, "a name that is no text", name)
                if name.value in members:
                    raise _problem(yaml, "a name that stands twice", name)
                members[name.value] = self.construct_object(value, deep=True)
            return members

        def construct_yaml_number(self, node: Any) -> Any:
            text = self.construct_scalar(node)
            if ":" in text:
                return text
            is_integer = node.tag.endswith(":int")
            return (self.construct_yaml_int if is_integer else self.construct_yaml_float)(node)

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_yaml_number)
    return Loader


def _problem(yaml: Any, what: str, node: Any) -> Exception:
    error: Exception = yaml.constructor.ConstructorError(None, None, what, node.start_mark)
    return error
