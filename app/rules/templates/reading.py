"""Reading of a template as a caller sends it, with every flaw at its place."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.rules.definitions.model import Scope
from app.rules.errors import SchemaInvalid, SecretInTemplate, TemplateInvalid
from app.rules.schemas.compiled import CompiledSchema
from pilothouse_core.credentials import find_credential
from pilothouse_core.json_schema import JsonSchema
from pilothouse_core.keys import canonical_key, is_key, names_of
from pilothouse_core.name_patterns import matches
from pilothouse_core.names import is_name
from pilothouse_core.rendering import (
    BadTemplate,
    check_template,
    is_parameter_name,
    used_parameters,
)
from pilothouse_core.schema_index import BadSchema, join_pointer
from pilothouse_core.trees import (
    OWN_VALUE,
    SECRET,
    BadKey,
    DuplicateKey,
    KeysConflict,
    nested_tree,
)

MOST_TEMPLATE_BYTES: Final = 256 * 1024
_MOST_APPLICATIONS: Final = 20
_MOST_PATTERNS: Final = 100
_ANYWHERE: Final[Sequence[Mapping[str, Any]]] = ({"environments": ["*"], "services": ["*"]},)


@dataclass(frozen=True, slots=True)
class Template:
    """A template that is ready to be rendered below the key `at`, "" for the top of a document.

    `defaults` has the values of parameters that a use does not give.
    """

    parameters: JsonSchema = field(repr=False)
    costs: CompiledSchema = field(repr=False)  # of the same schema, which bounds its work
    declared: frozenset[str]
    defaults: Mapping[str, Any] = field(repr=False)
    at: str
    data: Mapping[str, Any] = field(repr=False)
    applies_to: tuple[Scope, ...]

    def applies_in(self, environment: str, service: str) -> bool:
        """Tell whether the template may be used for a document there."""
        return any(
            _is_matched(scope.environments, environment) and _is_matched(scope.services, service)
            for scope in self.applies_to
        )

    def parameters_at(self, key: str) -> frozenset[str]:
        """Return the parameters from which a key of the rendering gets its value."""
        names = names_of(key)[len(names_of(self.at)) if self.at else 0 :]
        node: Any = nested_tree(self.data)
        for name in names:
            if not isinstance(node, Mapping) or name not in node:
                break
            node = node[name]
        return used_parameters(node, self.declared)


def template_text(body: Mapping[str, Any]) -> str:
    """Return the text that is stored of a template, with defaults for what it leaves out."""
    return json.dumps(
        {
            "description": body.get("description", ""),
            "applies_to": body.get("applies_to") or list(_ANYWHERE),
            "parameters": body.get("parameters", {}),
            "at": body.get("at", ""),
            "data": body.get("data"),
        },
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    )


def read_template(text: str) -> Template:
    """Read a stored text; raises TemplateInvalid and SecretInTemplate with the place in it."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST_TEMPLATE_BYTES:
        raise TemplateInvalid("", f"more than {MOST_TEMPLATE_BYTES} bytes")
    stored = json.loads(text)
    applies_to = _read_applications(stored["applies_to"])
    schema, costs = _read_parameters(stored["parameters"])
    properties = stored["parameters"].get("properties", {})
    defaults = {
        name: member["default"]
        for name, member in properties.items()
        if isinstance(member, dict) and "default" in member
    }
    _check_defaults(schema, defaults)
    at = _read_at(stored["at"])
    _check_data(stored["data"], at, frozenset(properties))
    return Template(schema, costs, frozenset(properties), defaults, at, stored["data"], applies_to)


def _read_applications(listed: Any) -> tuple[Scope, ...]:
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_APPLICATIONS:
        raise TemplateInvalid("/applies_to", f"must be a list of 1 to {_MOST_APPLICATIONS}")
    return tuple(_read_application(index, entry) for index, entry in enumerate(listed))


def _read_application(index: int, entry: Any) -> Scope:
    place = f"/applies_to/{index}"
    if not isinstance(entry, dict) or not entry.keys() <= {"environments", "services"}:
        raise TemplateInvalid(place, "must be an object with `environments` and `services`")
    return Scope(
        _read_patterns(f"{place}/environments", entry.get("environments", ["*"])),
        _read_patterns(f"{place}/services", entry.get("services", ["*"])),
    )


def _read_patterns(place: str, listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_PATTERNS:
        raise TemplateInvalid(place, f"must be a list of 1 to {_MOST_PATTERNS} patterns")
    for index, pattern in enumerate(listed):
        if not isinstance(pattern, str) or not is_name(pattern.replace("*", "x")):
            raise TemplateInvalid(f"{place}/{index}", "must be a name, in which `*` may stand")
    return tuple(listed)


def _read_parameters(schema: Any) -> tuple[JsonSchema, CompiledSchema]:
    place = "/parameters"
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise TemplateInvalid(place, "must be a JSON Schema of an object")
    properties = schema.get("properties", {})
    for name in properties if isinstance(properties, dict) else ():
        if not is_parameter_name(name):
            raise TemplateInvalid(
                join_pointer(place, "properties", name),
                "a parameter has 1 to 64 letters, digits, `_` and `-`, first a letter or `_`",
            )
    try:
        costs = CompiledSchema(schema)
        _refuse_secret_parameters(costs, place)
        return JsonSchema(schema), costs
    except (SchemaInvalid, BadSchema) as error:
        raise TemplateInvalid(place + error.pointer, error.reason) from error


def _refuse_secret_parameters(schema: CompiledSchema, place: str) -> None:
    if not schema.walk.has_secrets:
        return
    secret = (pointer for pointer in sorted(schema.walk.index.at) if _is_secret(schema, pointer))
    raise SecretInTemplate("parameters", place + next(secret, ""))


def _is_secret(schema: CompiledSchema, pointer: str) -> bool:
    members = schema.walk.index.members(pointer)
    return members.get("secret") is True or members.get("writeOnly") is True


def _read_at(at: Any) -> str:
    if not isinstance(at, str) or (at and (not is_key(at) or "[" in at)):
        raise TemplateInvalid("/at", "must be a dotted key, or empty for the top of a document")
    return canonical_key(at) if at else ""


def _check_data(data: Any, at: str, declared: frozenset[str]) -> None:
    if not isinstance(data, dict):
        raise TemplateInvalid("/data", "must be an object")
    try:
        check_template(data, declared)
    except BadTemplate as error:
        raise TemplateInvalid("/data" + error.pointer, error.reason) from error
    if data.keys() == {"$param"}:
        raise TemplateInvalid("/data", "must be an object with keys, and no parameter")
    for key, pointer, value in _values(data):
        if value is SECRET or _holds_credential(key, value):
            raise SecretInTemplate(key, "/data" + pointer)
    try:
        nested_tree({at: data} if at and data else data)
    except (BadKey, DuplicateKey, KeysConflict) as error:
        raise TemplateInvalid("/data", str(error)) from None


def _values(data: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (key, pointer, value) of every value in data, and SECRET for an object that is one."""
    waiting: list[tuple[str, str, Any]] = [("", "", data)]
    while waiting:
        key, pointer, value = waiting.pop()
        if isinstance(value, dict) and SECRET in value:
            yield key, pointer, SECRET
        elif isinstance(value, dict):
            waiting += [
                (_inner_key(key, name), join_pointer(pointer, name), inner)
                for name, inner in value.items()
            ]
        elif isinstance(value, list):
            waiting += [
                (f"{key}[{index}]", join_pointer(pointer, index), inner)
                for index, inner in enumerate(value)
            ]
        else:
            yield key, pointer, value


def _inner_key(key: str, name: str) -> str:
    if name == OWN_VALUE:
        return key
    return f"{key}.{name}" if key else name


def _holds_credential(key: str, value: Any) -> bool:
    return isinstance(value, str) and find_credential(key, value) is not None


def _check_defaults(schema: JsonSchema, defaults: Mapping[str, Any]) -> None:
    for name, value in defaults.items():
        place = join_pointer("/parameters/properties", name, "default")
        for key, pointer, inner in _values({name: value}):
            if inner is SECRET or _holds_credential(key, inner):
                raise SecretInTemplate(key, place + pointer.removeprefix(join_pointer("", name)))
    for violation in schema.violations(dict(defaults)):
        if violation.place and violation.place[0] in defaults:
            name, *rest = map(str, violation.place)
            place = join_pointer("/parameters/properties", name, "default", *rest)
            raise TemplateInvalid(place, violation.message)


def _is_matched(patterns: Sequence[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)
