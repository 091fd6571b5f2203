"""Rules between fields, evaluated in a child process that limits itself, as the service does.

Needs cel-expr-python: the extra `rules`. There are no builds of it for musl.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from pilothouse_core.judgement.rules import Flaw, Question, Verdict

RULES_EXTRA = "pip install 'pilothouse-client[rules]'"
_MODULE = "pilothouse_core.judgement.rule_child"
_SECONDS = 30.0
_TOO_COSTLY = {"reason": "the expression takes too long to compile", "column": 0}


class RulesNotJudged(Exception):
    """The rules cannot be judged here; the message says why."""


def can_judge_rules() -> bool:
    """Tell whether the extra `rules` is installed, and this system can limit a process."""
    return all(find_spec(name) is not None for name in ("cel_expr_python", "resource"))


def judge_rules(questions: Sequence[Question]) -> list[list[Verdict]]:
    """Answer each question: one verdict for each expression. Raises RulesNotJudged."""
    if not questions:
        return []
    payload = [{"expressions": each.expressions, "config": each.config} for each in questions]
    count = sum(len(each.expressions) for each in questions)
    results = iter(_ask({"judge": payload}, count, Verdict.UNDECIDED))
    return [[Verdict(next(results)) for _ in each.expressions] for each in questions]


def flaws_of(expressions: Sequence[str]) -> list[Flaw | None]:
    """Say of each expression why it does not compile. Raises RulesNotJudged."""
    if not expressions:
        return []
    results = _ask({"compile": list(expressions)}, len(expressions), _TOO_COSTLY)
    return [None if each is None else Flaw(each["reason"], each["column"]) for each in results]


def _ask(request: Any, count: int, undecided: Any) -> list[Any]:
    """Return `count` results, `undecided` for those that the limits of the child prevent."""
    if not can_judge_rules():
        raise RulesNotJudged(f"rules between fields are not judged without {RULES_EXTRA}")
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # and no secret
    try:
        done = subprocess.run(  # noqa: S603 - this Python, with a module of this package
            [sys.executable, "-m", _MODULE],
            input=json.dumps(request).encode() + b"\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"rules between fields are not judged: {type(error).__name__}"
        raise RulesNotJudged(reason) from None
    ready, *lines = done.stdout.split(b"\n")[:-1] or [b""]
    if ready != b'"ready"' or (len(lines) < count and done.returncode >= 0):
        raise RulesNotJudged("rules between fields are not judged: their process does not start")
    results = [json.loads(line) for line in lines]
    return results + [undecided] * (count - len(results))
