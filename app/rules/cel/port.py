"""The evaluation of rules, as the rest of the service uses it."""

from collections.abc import Sequence
from typing import Protocol

from app.rules.cel.model import Flaw, Question, Verdict


class RuleEvaluator(Protocol):
    """Evaluates conditions of others without harm: bounded in time, in memory, and in number.

    Both methods raise RulesUnavailable if there is no answer in time, or too many are waiting.
    """

    async def compile(self, expressions: Sequence[str]) -> list[Flaw | None]:
        """Say of each expression why it does not compile, or None if it does."""
        ...

    async def judge(self, questions: Sequence[Question]) -> list[list[Verdict]]:
        """Answer all questions of one write: for each, one verdict for each expression."""
        ...
