"""What a configuration must be like: a schema, rules between fields, no passwords in the open."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

from pilothouse_core.keys import join_key

FlawKind = Literal["schema", "rule", "credential"]
Check = Callable[[Mapping[str, Any]], str | Iterable[str] | None]
Schema = Mapping[str, Any] | Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong at a path; its words hold no value.

    Of a JSON schema, `pointer` is the place as a JSON pointer, and `keyword` is what it breaks.
    """

    path: str
    message: str
    kind: FlawKind
    pointer: str = ""
    keyword: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True, slots=True)
class Rules:
    """What a configuration is held against.

    `schema` is a JSON schema, which needs the extra `schema`, or anything callable that raises
    ValueError (a Pydantic model's `model_validate`). `checks` look at several fields at once; each
    returns what is wrong, as one text or many, or None. `credentials` says what a load does about
    passwords and tokens in a file; looking for them takes about as long as reading the file.
    """

    schema: Schema | None = None
    checks: Sequence[Check] = ()
    credentials: Literal["ignore", "warn", "refuse"] = "ignore"
    _compiled: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid schema, and ImportError without the extra."""
        if isinstance(self.schema, Mapping):
            object.__setattr__(self, "_compiled", _compile(self.schema))

    def flaws(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return everything wrong with `config`, except credentials in it."""
        flaws: list[Flaw] = []
        if self._compiled is not None:
            flaws += _schema_flaws(self._compiled, config)
        elif callable(self.schema):
            flaws += _run_schema(self.schema, config)
        if not flaws:  # a check may rely on the schema
            for check in self.checks:
                flaws += _run_check(check, config)
        return flaws

    def all_flaws(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return everything wrong with `config`, and every credential that is written in it."""
        return [*self.flaws(config), *hard_coded(config)]


def hard_coded(
    config: Mapping[str, Any], written_elsewhere: AbstractSet[tuple[str, str]] = frozenset()
) -> Iterator[Flaw]:
    """Yield every text that is a credential by its name or by its look.

    `written_elsewhere` are paths with their texts that come from variables.
    """
    # Its many patterns take a tenth of a second to compile, and few programs look for credentials.
    from pilothouse_core.credentials import RULES, find_credential  # noqa: PLC0415

    for path, text in texts_of(config):
        if (path, text) not in written_elsewhere and (
            rule := find_credential(path, text)
        ) is not None:
            yield Flaw(path, f"{RULES[rule]} is stored here as plain text", "credential")


def texts_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the path of its member; the items of a list have the list's."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item, path)
    elif isinstance(value, Mapping) and not any(name.startswith("$") for name in value):
        for name, member in value.items():  # names with $: a secret, or encrypted
            yield from texts_of(member, join_key(path, name))


def _run_check(check: Check, config: Mapping[str, Any]) -> Iterator[Flaw]:
    try:
        said = check(config)
    except Exception as error:  # noqa: BLE001 - a check that breaks on a configuration refuses it
        said = f"{getattr(check, '__name__', 'a check')} failed with {type(error).__name__}"
    for message in [said] if isinstance(said, str) else said or ():
        yield Flaw("", message, "rule")


def _run_schema(
    schema: Callable[[Mapping[str, Any]], object], config: Mapping[str, Any]
) -> list[Flaw]:
    try:
        schema(config)
    except ValueError as error:
        errors = getattr(error, "errors", None)
        if not callable(errors):
            return [Flaw("", str(error), "schema")]
        # Pydantic's own text shows what was given.
        return [
            Flaw(".".join(map(str, one["loc"])), one["msg"], "schema")
            for one in errors(include_input=False, include_url=False)
        ]
    return []


def _compile(schema: Mapping[str, Any]) -> Any:
    try:
        from pilothouse_core.json_schema import JsonSchema  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise ImportError(
            "a JSON schema needs jsonschema-rs: pip install 'pilothouse-client[schema]'"
        ) from error
    return JsonSchema(schema)


def _schema_flaws(schema: Any, config: Mapping[str, Any]) -> Iterator[Flaw]:
    for violation in schema.violations(config):
        path = ""
        for step in violation.place:
            path = join_key(path, str(step))
        message = f"{violation.message} ({violation.keyword})"
        yield Flaw(path, message, "schema", violation.pointer, violation.keyword)
