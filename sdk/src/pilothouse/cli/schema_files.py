"""Files with a schema: a bare JSON Schema, or a whole body of the service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.cli.exit_codes import ExitCode, failure, usage
from pilothouse.cli.files import read_object

if TYPE_CHECKING:
    from pilothouse.judging.definitions import Definition


def is_body(document: Mapping[str, Any]) -> bool:
    """Tell whether a document is a body of the service: `schema` is no keyword of JSON Schema."""
    return "schema" in document


@dataclass(frozen=True)
class SchemaFile:
    """A schema in a file, mounted at one or several keys."""

    path: Path
    definitions: Sequence["Definition"]
    refuses_plain_secrets: bool


def read_schema_file(path: Path, at: str | None) -> SchemaFile:
    """Read and compile a schema; `at` wins over the keys in the file. Raises Failure (usage)."""
    document = read_object(path)
    body: Mapping[str, Any] = document if is_body(document) else {"schema": document}
    mode, plain_secret = body.get("mode", "enforce"), body.get("plain_secret", "seal")
    if mode not in {"warn", "enforce"} or plain_secret not in {"seal", "refuse"}:
        raise usage(f"{path}: mode is warn or enforce, plain_secret is seal or refuse")
    name = str(body.get("name") or path.stem)
    mounts = [at] if at is not None else _mounts(body)
    definitions = _compile(path, body["schema"], name, mounts, is_enforced=mode == "enforce")
    return SchemaFile(path, definitions, plain_secret == "refuse")  # noqa: S105 - a mode


def _mounts(body: Mapping[str, Any]) -> list[str]:
    if isinstance(body.get("at"), str):
        return [body["at"]]
    applies_to = body.get("applies_to")
    listed = applies_to if isinstance(applies_to, list) else []
    mounts = [str(each.get("at") or "") for each in listed if isinstance(each, Mapping)]
    return list(dict.fromkeys(mounts)) or [""]


def _compile(
    path: Path, schema: Any, name: str, mounts: Sequence[str], *, is_enforced: bool
) -> "list[Definition]":
    try:
        from pilothouse.judging.definitions import read_definition  # noqa: PLC0415 - an extra
        from pilothouse.judging.rules import RulesNotJudged, flaws_of  # noqa: PLC0415
    except ModuleNotFoundError:
        sentence = "schemas need `pip install 'pilothouse-client[schema]'`"
        raise failure("schema_missing", sentence, ExitCode.FAILED) from None
    try:
        first = read_definition(schema, name=name, is_enforced=is_enforced, at=mounts[0])
        definitions = [first, *(first.at_key(at) for at in mounts[1:])]
    except ValueError as error:
        raise usage(f"{path}: the schema cannot be used: {error}") from None
    try:
        flaws = flaws_of([rule.expression for rule in first.rules])
    except RulesNotJudged:
        return definitions
    for rule, flaw in zip(first.rules, flaws, strict=True):
        if flaw is not None:
            place = f"{rule.pointer}/rule, column {flaw.column}"
            raise usage(f"{path}: the rule {rule.id!r} cannot be used: at {place}: {flaw.reason}")
    return definitions
