"""A JSON Schema that judges configurations as every client does, with errors of the service."""

from collections.abc import Iterator
from typing import Any

from app.rules.errors import SchemaInvalid, SchemaTooCostly
from app.rules.schemas.model import Violation
from pilothouse_core.judgement import schemas
from pilothouse_core.judgement.model import JudgingTooCostly
from pilothouse_core.schema_index import BadSchema

MOST_VIOLATIONS = schemas.MOST_VIOLATIONS


class CompiledSchema(schemas.CompiledSchema):
    """A schema of draft 2020-12 or draft-07, within the bounds; `format` asserts.

    Raises SchemaInvalid, with the place in the schema.
    """

    def __init__(self, schema: Any) -> None:
        try:
            super().__init__(schema)
        except BadSchema as error:
            raise SchemaInvalid(error.pointer, error.reason) from error

    def iter_errors(self, value: Any, *, has_sealed: bool = False) -> Iterator[Any]:
        """Yield errors as the core does. Raises SchemaTooCostly."""
        try:
            return super().iter_errors(value, has_sealed=has_sealed)
        except JudgingTooCostly as error:
            raise SchemaTooCostly from error

    def check_cost(self, value: Any) -> None:
        """Raise SchemaTooCostly if more would be applied to a value than takes about a second."""
        try:
            super().check_cost(value)
        except JudgingTooCostly as error:
            raise SchemaTooCostly from error


def violations(schema: CompiledSchema, tree: Any, at: str = "") -> tuple[Violation, ...]:
    """Judge a configuration by a schema that is mounted at the key `at`.

    Raises SchemaTooCostly for a value that is too deep or too large for such a schema.
    """
    return schemas.violations(schema, tree, at)
