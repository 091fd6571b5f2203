"""Judging of effective configurations by the schemas that apply to them."""

from collections.abc import Iterable, Mapping, Sequence

from app.rules.catalog import DefinitionCatalog
from app.rules.cel.model import Question, Rule, Verdict
from app.rules.cel.port import RuleEvaluator
from app.rules.judging.model import Case, Judgement, Pair, Problem
from app.rules.schemas.compiled import violations
from app.rules.schemas.index import Mounted
from app.rules.schemas.reading import Schema
from app.telemetry import SCHEMA_VERDICTS
from app.workers import Slices
from pilothouse_core.judgement.rules import NOTHING_TO_JUDGE, rule_subject


class Judge:
    def __init__(self, catalog: DefinitionCatalog, rules: RuleEvaluator) -> None:
        self.catalog = catalog
        self.rules = rules

    async def judge(self, cases: Sequence[Case]) -> Judgement:
        """Judge cases by the current schemas.

        Raises DefinitionsUnavailable, SchemaTooCostly and RulesUnavailable.
        """
        by_case = [
            (case, self.catalog.schemas_of(case.pair.environment, case.pair.service))
            for case in cases
        ]
        concerned = [(case, mounted) for case, mounted in by_case if mounted]
        problem_lists = await self.problems(concerned)
        broken = [
            (case, mounted)
            for (case, mounted), problems in zip(concerned, problem_lists, strict=True)
            if problems and case.before is not None
        ]
        before = await self._standing_before(broken)
        errors: list[Problem] = []
        warnings: list[Problem] = []
        for problem in (each for problems in problem_lists for each in problems):
            is_new = problem.identity not in before.get(problem.pair, ())
            is_error = is_new and problem.mode == "enforce"
            (errors if is_error else warnings).append(problem)
            SCHEMA_VERDICTS.labels(problem.mode, "refused" if is_error else "warned").inc()
        return Judgement(tuple(errors), tuple(warnings), len(concerned))

    async def problems(
        self, cases: Iterable[tuple[Case, Sequence[Mounted]]]
    ) -> list[list[Problem]]:
        """Return for each case what these schemas find in it, by schema."""
        slices = Slices()
        by_case: list[list[Problem]] = []
        queries: list[tuple[list[Problem], Case, Schema, str]] = []
        questions: list[Question] = []
        for case, mounted in cases:
            problems: list[Problem] = []
            by_case.append(problems)
            for schema, at in mounted:
                await slices.rest()
                problems += _schema_problems(case, schema, at)
                question = _question(case, schema, at)
                if question is not None:
                    queries.append((problems, case, schema, at))
                    questions.append(question)
        answers = await self.rules.judge(questions) if questions else []
        for (listed, case, schema, at), verdicts in zip(queries, answers, strict=True):
            listed.extend(_rule_problems(case, schema, at, verdicts))
        return by_case

    async def _standing_before(
        self, cases: Sequence[tuple[Case, Sequence[Mounted]]]
    ) -> Mapping[Pair, frozenset[tuple[object, ...]]]:
        """Return what stood already before the change, by configuration."""
        earlier = [
            (Case(case.pair, tree, tree), mounted)
            for case, mounted in cases
            if case.before is not None
            for tree in [await case.before()]
        ]
        problem_lists = await self.problems(earlier)
        return {
            case.pair: frozenset(each.identity for each in problems)
            for (case, _), problems in zip(earlier, problem_lists, strict=True)
        }


def _schema_problems(case: Case, schema: Schema, at: str) -> list[Problem]:
    return [
        Problem(
            case.pair,
            schema.name,
            schema.version,
            schema.mode,
            each.key,
            each.keyword,
            each.schema_pointer,
            each.expected,
        )
        for each in violations(schema.compiled, case.tree, at)
    ]


def _question(case: Case, schema: Schema, at: str) -> Question | None:
    """Ask the rules of a schema about a configuration, defaults added and secrets masked."""
    if not schema.rules:
        return None
    defaults = schema.defaults.get(at, {})
    subject = rule_subject(schema.compiled.walk, defaults, case.masked, at)
    if subject is NOTHING_TO_JUDGE:
        return None
    return Question(tuple(rule.expression for rule in schema.rules), subject)


def _rule_problems(
    case: Case, schema: Schema, at: str, verdicts: Sequence[Verdict]
) -> list[Problem]:
    return [
        _rule_problem(case, schema, at, rule, verdict)
        for rule, verdict in zip(schema.rules, verdicts, strict=True)
        if verdict is not Verdict.MET
    ]


def _rule_problem(case: Case, schema: Schema, at: str, rule: Rule, verdict: Verdict) -> Problem:
    return Problem(
        case.pair,
        schema.name,
        schema.version,
        schema.mode,
        at,
        "x-rules",
        rule.pointer,
        rule.message or None,
        rule.id,
        is_undecided=verdict is Verdict.UNDECIDED,
    )
