"""Schemas by the names of the services that they apply to."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from app.rules.schemas.reading import SHARED, Schema

Mounted = tuple[Schema, str]  # with the key at which it is mounted


class Reaching:
    """The schemas that judge anything a document contributes to, by name."""

    def __init__(self, mounted: Iterable[Mounted]) -> None:
        self.mounted = tuple(mounted)
        self.with_secrets = tuple(
            (schema, at) for schema, at in self.mounted if schema.compiled.walk.has_secrets
        )
        self.has_enforced = any(schema.is_enforced for schema, _ in self.mounted)


class SchemaIndex:
    """Finds the few schemas that may concern a service among many that do not.

    They are kept by what their patterns of services begin with, up to the first `*`: a name has at
    most 63 beginnings.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Schema] = {}
        self._by_beginning: defaultdict[str, dict[str, Schema]] = defaultdict(dict)

    def put(self, schema: Schema) -> None:
        """Add a schema, or replace the one of its name."""
        self.remove(schema.name)
        self.by_name[schema.name] = schema
        for beginning in _beginnings(schema):
            self._by_beginning[beginning][schema.name] = schema

    def remove(self, name: str) -> None:
        """Remove a schema if it is there."""
        schema = self.by_name.pop(name, None)
        for beginning in _beginnings(schema) if schema is not None else ():
            schemas = self._by_beginning[beginning]
            del schemas[name]
            if not schemas:
                del self._by_beginning[beginning]

    def concerning(self, service: str) -> Iterator[Schema]:
        """Yield every schema that may judge a configuration of a service, by name; maybe others."""
        schemas: dict[str, Schema] = {}
        for length in range(len(service) + 1):
            schemas |= self._by_beginning.get(service[:length], {})
        for name in sorted(schemas):
            yield schemas[name]

    def reached_by(self, service: str) -> Iterator[Schema]:
        """The same for all that documents of a service contribute to: those of `_shared` to any."""
        if service != SHARED:
            yield from self.concerning(service)
            return
        for name in sorted(self.by_name):
            yield self.by_name[name]


def _beginnings(schema: Schema) -> set[str]:
    return {pattern.partition("*")[0] for each in schema.applies_to for pattern in each.services}
