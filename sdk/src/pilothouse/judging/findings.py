"""What schemas find in a configuration. Pure."""

from dataclasses import dataclass
from typing import Any


def rule_message(rule: str, message: str | None, *, is_undecided: bool) -> str:
    """Say of a rule between fields that it is broken, or cannot be decided."""
    broken = "leaves undecided" if is_undecided else "breaks"
    return f"{broken} the rule {rule}" + (f": {message}" if message else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """A demand of a schema that a configuration does not meet, and never a value of it.

    `key` is the place and `pointer` the same as a JSON pointer; `schema_pointer` leads to the
    `keyword` in the schema, and `expected` is its value. Of a rule between fields, `rule`
    is the id. `is_error` is false where the schema only warns.
    """

    schema: str
    version: int
    key: str
    pointer: str
    keyword: str
    schema_pointer: str
    message: str
    expected: Any = None
    rule: str | None = None
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.key or 'the configuration'} {self.message} (schema {self.schema})"

    @property
    def facts(self) -> dict[str, Any]:
        """The members of the finding, as answers of the service have them."""
        return {
            "key": self.key,
            "pointer": self.pointer,
            "keyword": self.keyword,
            "schema": self.schema,
            "schema_version": self.version,
            "schema_pointer": self.schema_pointer,
            "expected": self.expected,
            "rule": self.rule,
            "detail": str(self),
        }
