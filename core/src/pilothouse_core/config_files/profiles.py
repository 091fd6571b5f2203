"""Profile expressions of Spring, as sets of environments. Pure.

An environment represents one active profile. So an expression is true for some environments that
can be named (`a`, `a | b`, `a & !b`), for none (`a & b`), or for all except some (`!a`), which no
layer represents.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_WORD: Final = re.compile(r"\s*([()&|!]|[^()&|!]+)")
_MOST_WORDS: Final = 200


class BadExpression(ValueError):
    """Spring would reject this expression."""


@dataclass(frozen=True, slots=True)
class Environments:
    """These environments, or all except these."""

    names: frozenset[str]
    is_all_except: bool = False

    def __invert__(self) -> "Environments":
        return Environments(self.names, not self.is_all_except)

    def __and__(self, other: "Environments") -> "Environments":
        return ~(~self | ~other)

    def __or__(self, other: "Environments") -> "Environments":
        match self.is_all_except, other.is_all_except:
            case False, False:
                return Environments(self.names | other.names)
            case True, True:
                return Environments(self.names & other.names, is_all_except=True)
            case True, False:
                return Environments(self.names - other.names, is_all_except=True)
            case _:
                return Environments(other.names - self.names, is_all_except=True)


def words_of(expression: str) -> list[str]:
    """Return the names, operators and brackets of an expression in their order."""
    return [word.strip() for word in _WORD.findall(expression) if word.strip()]


def environments_of(expression: str) -> Environments:
    """Read an expression such as `a`, `!a`, `a & (b | c)`; raises BadExpression."""
    words = words_of(expression)
    if not words or len(words) > _MOST_WORDS:
        raise BadExpression
    following = iter([*words, ""])
    environments, end = _operation(next(following), following)
    if end:
        raise BadExpression
    return environments


def _operation(word: str, following: Iterator[str]) -> tuple[Environments, str]:
    """Read operands with one operator between them: Spring wants brackets where there are two."""
    environments = _operand(word, following)
    operator = first = next(following)
    while operator in {"&", "|"}:
        if operator != first:
            raise BadExpression
        other = _operand(next(following), following)
        environments = environments & other if operator == "&" else environments | other
        operator = next(following)
    return environments, operator


def _operand(word: str, following: Iterator[str]) -> Environments:
    if word == "!":
        return ~_operand(next(following), following)
    if word == "(":
        environments, end = _operation(next(following), following)
        if end != ")":
            raise BadExpression
        return environments
    if word in {"", ")", "&", "|"}:
        raise BadExpression
    return Environments(frozenset({word}))
