"""YAML as the service reads it, with the errors of commands."""

from typing import Any

from pilothouse.cli.exit_codes import ExitCode, failure


class NotYaml(ValueError):
    """The text cannot be read; the message names line and column, and quotes no value."""


def parse_yaml(text: str) -> Any:
    """Return the content of one YAML document; raises NotYaml, and Failure without PyYAML."""
    strict_yaml = load_yaml()
    try:
        return strict_yaml.loads(text, exact=True)
    except strict_yaml.BadYaml as error:
        raise NotYaml(str(error)) from None


def parsed_documents(text: str) -> list[Any]:
    """Return the content of each YAML document of a text; raises as `parse_yaml` does."""
    strict_yaml = load_yaml()
    try:
        documents = strict_yaml.load_documents(text, exact=True)
    except strict_yaml.BadYaml as error:
        raise NotYaml(str(error)) from None
    return [one.value for one in documents if one.value is not None]


def load_yaml() -> Any:
    """Return `pilothouse_core.strict_yaml`; raises Failure without PyYAML."""
    try:
        from pilothouse_core import strict_yaml  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError:
        sentence = "YAML needs `pip install 'pilothouse-client[yaml]'`"
        raise failure("yaml_missing", sentence, ExitCode.FAILED) from None
    return strict_yaml
