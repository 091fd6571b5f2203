"""Reading of a schema as a caller sends it: where it applies, and what it demands there."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from app.rules.cel.model import Rule, read_rules
from app.rules.definitions.model import Scope
from app.rules.errors import RuleInvalid, SchemaInvalid
from app.rules.schemas.compiled import CompiledSchema
from pilothouse_core.keys import canonical_key, is_key
from pilothouse_core.name_patterns import matches
from pilothouse_core.names import is_name
from pilothouse_core.schema_defaults import BadDefault, schema_defaults
from pilothouse_core.schema_index import BadSchema, TooCostly, join_pointer
from pilothouse_core.trees import Tree

Mode = Literal["warn", "enforce"]
PlainSecret = Literal["seal", "refuse"]
SHARED: Final = "_shared"
BASE: Final = "default"
# Of a schema that names no environments: `*` alone leaves the inherited one out.
EVERY_ENVIRONMENT: Final = ("*", BASE)
MOST_SCHEMA_BYTES: Final = 256 * 1024
_MOST_APPLICATIONS: Final = 20
_MOST_PATTERNS: Final = 100
_MOST_DESCRIPTION: Final = 1000
_MEMBERS: Final = frozenset(
    {"mode", "applies_to", "plain_secret", "description", "schema", "comment"}
)


@dataclass(frozen=True, slots=True)
class Application:
    """Patterns of environments and services, and the key below which the schema is mounted."""

    environments: tuple[str, ...]
    services: tuple[str, ...]
    at: str = ""

    @property
    def scope(self) -> Scope:
        return Scope(self.environments, self.services)

    def covers(self, environment: str, service: str) -> bool:
        """Tell whether a pair is judged; `default` and `_shared` only where they are named."""
        return _is_named(self.environments, environment, BASE) and _is_named(
            self.services, service, SHARED
        )

    def reaches(self, environment: str, service: str) -> bool:
        """Tell whether a document contributes to any pair that is judged."""
        in_environment = environment == BASE or _is_named(self.environments, environment, BASE)
        return in_environment and (service == SHARED or _is_named(self.services, service, SHARED))


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of a schema, ready to judge.

    `defaults` has those of each key at which it is mounted, as documents.
    """

    name: str
    version: int
    mode: Mode
    applies_to: tuple[Application, ...]
    plain_secret: PlainSecret
    compiled: CompiledSchema = field(repr=False)
    rules: tuple[Rule, ...]
    defaults: Mapping[str, Tree] = field(repr=False)

    @property
    def is_enforced(self) -> bool:
        return self.mode == "enforce"

    @property
    def has_defaults(self) -> bool:
        return any(self.defaults.values())

    @property
    def refuses_plain_secrets(self) -> bool:
        return self.plain_secret == "refuse"  # noqa: S105 - no secret

    def mounts(self, environment: str, service: str) -> Iterator[str]:
        """Yield the keys at which it judges a pair, each once."""
        yield from dict.fromkeys(
            each.at for each in self.applies_to if each.covers(environment, service)
        )

    def mounts_of_document(self, environment: str, service: str) -> Iterator[str]:
        """Yield the keys at which it judges anything that a document contributes to."""
        yield from dict.fromkeys(
            each.at for each in self.applies_to if each.reaches(environment, service)
        )


def can_meet(one: Schema, other: Schema) -> bool:
    """Tell whether two schemas may judge the same configuration."""
    return any(
        _overlap(mine.scope, theirs.scope) for mine in one.applies_to for theirs in other.applies_to
    )


def _overlap(one: Scope, other: Scope) -> bool:
    return _any_overlap(one.environments, other.environments) and _any_overlap(
        one.services, other.services
    )


def _any_overlap(ones: Iterable[str], others: Sequence[str]) -> bool:
    """Tell whether some name may match patterns of both; patterns with a star are taken to."""
    return any(one == other or "*" in one or "*" in other for one in ones for other in others)


def schema_text(name: str, body: Mapping[str, Any]) -> str:
    """Return what is stored of a body: every member, as it was sent or by default.

    Raises SchemaInvalid for what no schema has.
    """
    unknown = sorted(body.keys() - _MEMBERS)
    if unknown:
        raise SchemaInvalid(join_pointer("", unknown[0]), "no schema has this member")
    if "schema" not in body:
        raise SchemaInvalid("/schema", "the JSON Schema is missing")
    stored = {
        "mode": body.get("mode", "enforce"),
        "applies_to": body.get("applies_to")
        or [{"environments": EVERY_ENVIRONMENT, "services": [name], "at": ""}],
        "plain_secret": body.get("plain_secret", "seal"),
        "description": body.get("description", ""),
        "schema": body["schema"],
    }
    text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode(errors="replace")) > MOST_SCHEMA_BYTES:
        raise SchemaInvalid("/schema", f"larger than {MOST_SCHEMA_BYTES} bytes")
    return text


def read_schema(name: str, version: int, stored: Mapping[str, Any]) -> Schema:
    """Compile a stored schema; raises SchemaInvalid and RuleInvalid, with the place in the body.

    Whether its rules compile is not looked at.
    """
    mode = _one_of(stored, "mode", ("warn", "enforce"))
    plain_secret = _one_of(stored, "plain_secret", ("seal", "refuse"))
    description = stored.get("description", "")
    if not isinstance(description, str) or len(description) > _MOST_DESCRIPTION:
        raise SchemaInvalid("/description", f"must be a text of at most {_MOST_DESCRIPTION}")
    applies_to = _read_applications(stored.get("applies_to"))
    try:
        compiled = CompiledSchema(stored["schema"])
        rules = read_rules(stored["schema"])
        defaults = {each.at: schema_defaults(compiled.walk, each.at) for each in applies_to}
    except SchemaInvalid as error:
        raise SchemaInvalid("/schema" + error.pointer, error.reason) from error
    except RuleInvalid as error:
        raise RuleInvalid("/schema" + error.pointer, error.reason, error.column) from error
    except BadSchema as error:
        raise SchemaInvalid("/schema" + error.pointer, error.reason) from error
    except (BadDefault, TooCostly) as error:
        raise SchemaInvalid("/schema", str(error)) from error
    return Schema(name, version, mode, applies_to, plain_secret, compiled, rules, defaults)  # type: ignore[arg-type]


def _one_of(stored: Mapping[str, Any], member: str, allowed: Sequence[str]) -> str:
    value = stored.get(member)
    if value not in allowed or not isinstance(value, str):
        raise SchemaInvalid(f"/{member}", f"must be {' or '.join(allowed)}")
    return value


def _read_applications(listed: Any) -> tuple[Application, ...]:
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_APPLICATIONS:
        raise SchemaInvalid("/applies_to", f"must be a list of 1 to {_MOST_APPLICATIONS}")
    return tuple(_read_application(index, entry) for index, entry in enumerate(listed))


def _read_application(index: int, entry: Any) -> Application:
    place = f"/applies_to/{index}"
    if not isinstance(entry, dict) or not entry.keys() <= {"environments", "services", "at"}:
        raise SchemaInvalid(place, "must be an object with `environments`, `services` and `at`")
    at = entry.get("at", "")
    if not isinstance(at, str) or (at and (not is_key(at) or "[" in at)):
        raise SchemaInvalid(f"{place}/at", "must be a key without brackets, or empty for all")
    return Application(
        _read_patterns(f"{place}/environments", entry.get("environments", list(EVERY_ENVIRONMENT))),
        _read_patterns(f"{place}/services", entry.get("services", ["*"])),
        canonical_key(at) if at else "",
    )


def _read_patterns(place: str, listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_PATTERNS:
        raise SchemaInvalid(place, f"must be a list of 1 to {_MOST_PATTERNS} patterns")
    for index, pattern in enumerate(listed):
        if not isinstance(pattern, str) or not (is_name(pattern.replace("*", "x"))):
            raise SchemaInvalid(f"{place}/{index}", "must be a name, in which `*` may stand")
    return tuple(listed)


def _is_named(patterns: Sequence[str], name: str, special: str) -> bool:
    if name == special:
        return special in patterns
    return any(matches(pattern, name) for pattern in patterns)
