"""What a schema finds wrong with a value, and why it cannot tell."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule of a schema, and never a value of the configuration.

    `key` is the place in the configuration, and `pointer` the same as a JSON pointer;
    `schema_pointer` leads to the `keyword` in the schema. `expected` is what the schema says there:
    a limit, the names of types, the options of `enum`, the name of a missing member.
    """

    key: str
    pointer: str
    schema_pointer: str
    keyword: str
    expected: Any = None


class JudgingTooCostly(ValueError):
    """A value is too deep or too large for a schema with so many branches."""

    def __init__(self) -> None:
        super().__init__("the schema would be applied too often to a configuration of this size")
