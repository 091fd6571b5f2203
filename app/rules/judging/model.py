"""What is judged, and what is found. Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.rules.schemas.reading import Mode
from pilothouse_core.trees import Tree


class Pair(NamedTuple):
    """An environment and a service, whose effective configuration is judged."""

    environment: str
    service: str
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A demand of a schema that an effective configuration does not meet; never a value of it.

    `key` is the place, `keyword` what is broken at `schema_pointer`, and `expected` what the schema
    says there. For a rule between fields, `rule` is its id, and `expected` its message.
    """

    pair: Pair
    schema: str
    version: int
    mode: Mode
    key: str
    keyword: str
    schema_pointer: str
    expected: Any = None
    rule: str | None = None
    is_undecided: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two problems of one configuration the same."""
        return self.schema, self.key, self.schema_pointer, self.rule

    @property
    def text(self) -> str:
        """What is wrong, in a sentence without a value of the configuration."""
        pair = self.pair
        of_user = f" for {pair.user}" if pair.user is not None else ""
        configuration = f"{pair.environment}/{pair.service}{of_user}"
        place = f"{self.key!r} of {configuration}" if self.key else configuration
        by = f"by the schema {self.schema!r}"
        if self.is_undecided:
            return f"the rule {self.rule!r} gives no answer for {place}, {by}"
        if self.rule is not None:
            return f"{place} breaks the rule {self.rule!r} {by}{_expectation(self.expected)}"
        return f"{place} breaks `{self.keyword}` {by}{_expectation(self.expected)}"


def _expectation(expected: Any) -> str:
    return "" if expected is None else f": {expected}"


@dataclass(frozen=True, slots=True)
class Case:
    """One effective configuration to judge.

    `tree`: new secrets in it are plain, stored ones masked. `masked`: the same with every secret
    masked, which is all that rules see. `before`: what it was before the change, masked; None where
    all that is found counts as new.
    """

    pair: Pair
    tree: Tree = field(repr=False)
    masked: Tree = field(repr=False)
    before: Callable[[], Awaitable[Tree]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found in all cases; `errors` are new and of schemas that are enforced.

    `warnings`: of schemas that warn, and what stood before. `affected`: how many configurations
    were judged by any schema; `violating`: how many have an error.
    """

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    affected: int = 0

    @property
    def violating(self) -> int:
        return len({each.pair for each in self.errors})
