"""Errors that show what a schema finds in configurations, to those who may read them."""

from collections.abc import Callable, Mapping, Sequence

from app.errors import Invalid
from app.rules.judging.model import Pair, Problem

MOST_SHOWN = 100


class SchemaNotMet(Invalid):
    """Configurations that exist do not meet a schema that is to be enforced.

    Only those that `may_read` allows are shown; the others are counted.
    """

    code = "schema_not_met"

    def __init__(
        self,
        name: str,
        problems: Sequence[Problem],
        may_read: Callable[[Pair], bool] = lambda _: False,
    ) -> None:
        violating = {each.pair for each in problems}
        shown = [each for each in problems if may_read(each.pair)]
        hidden = len(violating) - len({each.pair for each in shown})
        first = shown[0].text if shown else "one that you may not read"
        super().__init__(
            f"configurations that exist do not meet the schema ({len(violating)} in all): {first}",
            violating=len(violating),
            **({"hidden": hidden} if hidden else {}),
        )
        self.name, self.problems = name, problems
        self.flaws = [flaw_of(each, self.code) for each in shown[:MOST_SHOWN]]


def flaw_of(problem: Problem, code: str, pointer: str = "") -> Mapping[str, object]:
    """Return a problem as it is shown; it never holds a value of a configuration."""
    return {
        **({"pointer": pointer} if pointer else {}),
        "detail": problem.text,
        "code": "rule_undecided" if problem.is_undecided else code,
        **problem_members(problem),
    }


def problem_members(problem: Problem) -> dict[str, object]:
    """Return the facts of a problem, as errors, warnings and violations show them."""
    pair = problem.pair
    return {
        "environment": pair.environment,
        "service_name": pair.service,
        **({"user": pair.user} if pair.user is not None else {}),
        "key": problem.key,
        "schema": problem.schema,
        "schema_version": problem.version,
        "schema_pointer": problem.schema_pointer,
        **({"rule": problem.rule} if problem.rule is not None else {"keyword": problem.keyword}),
        **({} if problem.expected is None else {"expected": problem.expected}),
    }
