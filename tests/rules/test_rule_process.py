"""Rules between fields: what they say, and what a hostile one costs."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import pytest

from app.rules.cel.model import Question, Verdict
from app.rules.cel.process import RuleProcess
from app.rules.errors import RulesUnavailable
from app.telemetry import REGISTRY
from tests.servers.process import PATIENCE_SECONDS

T = TypeVar("T")
MET, BROKEN, UNDECIDED = Verdict.MET, Verdict.BROKEN, Verdict.UNDECIDED
WRITE_SECONDS = 4 * PATIENCE_SECONDS  # of which a share is left for each answer
TEN = "[0,1,2,3,4,5,6,7,8,9]"
LARGE = {"l": list(range(9000)), "s": "x" * 700_000}


@pytest.fixture
async def rules() -> AsyncIterator[RuleProcess]:
    process = RuleProcess(write_seconds=WRITE_SECONDS)
    yield process
    await process.close()


async def judge_rules(rules: RuleProcess, config: Any, *expressions: str) -> list[Verdict]:
    [verdicts] = await rules.judge([Question(expressions, config)])
    return verdicts


def kills_counted(reason: str) -> float:
    return REGISTRY.get_sample_value("pilothouse_rules_killed_total", {"reason": reason}) or 0


SAID: dict[str, tuple[Any, Verdict]] = {
    "config.db.pool.min <= config.db.pool.max": ({"db": {"pool": {"min": 1, "max": 2}}}, MET),
    "config.min < config.max": ({"min": 3, "max": 2}, BROKEN),
    "config.absent > 1": ({}, UNDECIDED),
    "!has(config.absent)": ({}, MET),
    "config.name": ({"name": "text"}, UNDECIDED),
    "config.size": ({"size": 1}, UNDECIDED),
    "config.name > 1": ({"name": "text"}, UNDECIDED),
    "config.hosts.all(host, host.endsWith('.example'))": ({"hosts": ["a.example"]}, MET),
    "config['a.b'] == null": ({"a.b": None}, MET),
    "config.share < 1": ({"share": 0.5}, MET),
    "config.large > 1.0": ({"large": 10**30}, MET),
    "config.small": ({"small": True, "large": 10**30}, MET),
    "config.text == 'ü\U0001f600'": ({"text": "ü\U0001f600"}, MET),
    "has(config.password)": ({"password": {"$secret": "masked"}}, MET),
    "config.password == 'x'": ({"password": {"$secret": "masked"}}, BROKEN),
    "config.name.matches('^[a-z]+$')": ({"name": "abc"}, MET),
}


async def test_a_rule_is_met_or_broken_or_undecided(rules: RuleProcess) -> None:
    questions = [Question((rule,), config) for rule, (config, _) in SAID.items()]

    verdicts = await rules.judge(questions)

    assert dict(zip(SAID, verdicts, strict=True)) == {
        rule: [expected] for rule, (_, expected) in SAID.items()
    }


async def test_each_configuration_has_its_own_answers(rules: RuleProcess) -> None:
    questions = [
        Question(("config.a > 1", "config.a > 2"), {"a": 2}),
        Question((), {}),
        Question(("config.a > 1",), {"a": 1}),
    ]

    assert await rules.judge(questions) == [[MET, BROKEN], [], [BROKEN]]
    assert await rules.judge([]) == []


async def test_an_expression_that_does_not_compile_has_a_reason_and_a_column(
    rules: RuleProcess,
) -> None:
    flaws = await rules.compile(["config.a > 1", "config.a >", "1 < limit", "1 + 'a' == 2"])

    assert flaws[0] is None
    assert [flaw and flaw.column for flaw in flaws[1:]] == [11, 5, 3]
    assert "undeclared reference to 'limit'" in str(flaws[2])


HOSTILE = {
    "a loop": f"{TEN}.all(a,{TEN}.all(b,{TEN}.all(c,{TEN}.all(d,{TEN}.all(e, a+b+c+d+e >= 0)))))",
    "sums of texts": "config.l.map(a, config.s + config.s + config.s).size() > 0",
    "sums of sums": "[config.s].map(a, a+a+a+a+a+a+a+a).map(a, a+a+a+a+a+a+a+a).map(a, "
    "a+a+a+a+a+a+a+a).map(a, a+a+a+a+a+a+a+a).size() > 0",
    "sums of lists": "config.l.map(a, config.l + config.l + config.l + config.l).size() > 0",
    "many patterns": "config.l.all(a, config.s.matches('((a{1,30}){1,30}|x)*y') || true)",
}


async def heartbeats(done: asyncio.Event) -> int:
    """Count the turns of the event loop."""
    count = 0
    while not done.is_set():
        await asyncio.sleep(0.001)
        count += 1
    return count


async def with_heartbeats(work: Awaitable[T]) -> tuple[T, int]:
    done = asyncio.Event()
    beating = asyncio.create_task(heartbeats(done))
    try:
        result = await work
    finally:
        done.set()
    return result, await beating


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_rule_costs_its_own_write_only(rules: RuleProcess, name: str) -> None:
    work = judge_rules(rules, LARGE, "config.s.size() > 0", HOSTILE[name], "true")
    verdicts, beats = await with_heartbeats(work)

    assert verdicts[:2] == [MET, UNDECIDED]
    # A rule that is evaluated in this process, by any thread of it, leaves one or two turns.
    assert beats > 10
    assert await judge_rules(rules, {"a": 1}, "config.a == 1") == [MET]


async def test_a_pattern_that_backtracks_elsewhere_is_matched_in_linear_time(
    rules: RuleProcess,
) -> None:
    assert await judge_rules(rules, {"s": "x" * 100_000}, "config.s.matches('(x+x+)+y')") == [
        BROKEN
    ]


async def test_time_beyond_the_limit_is_counted_and_the_next_write_is_answered(
    rules: RuleProcess,
) -> None:
    before = kills_counted("cpu")

    assert await judge_rules(rules, LARGE, HOSTILE["many patterns"], "true") == [UNDECIDED] * 2
    assert kills_counted("cpu") == before + 1
    assert await judge_rules(rules, {}, "true") == [MET]


async def test_memory_beyond_the_limit_is_counted_as_such() -> None:
    rules = RuleProcess(
        (sys.executable, "-c", CHILD.format("bytes_over_the_limit()")), write_seconds=WRITE_SECONDS
    )
    before = kills_counted("memory")

    assert await judge_rules(rules, {}, "true") == [UNDECIDED]
    assert kills_counted("memory") == before + 1
    await rules.close()


# Stands for the child: `{}` is what it does when it is asked.
CHILD = """
import os, signal, sys

def bytes_over_the_limit():
    os.abort()

print('"ready"', flush=True)
for line in sys.stdin:
    {}
"""


async def test_a_child_that_was_killed_is_asked_again(rules: RuleProcess) -> None:
    assert await judge_rules(rules, {}, "true") == [MET]
    before = kills_counted("ended")

    process = rules._process  # noqa: SLF001 - what an operator sees by `ps`
    assert process is not None
    process.kill()

    assert await judge_rules(rules, {}, "true") == [MET]
    assert kills_counted("ended") == before + 1


@pytest.mark.parametrize(
    ("does", "reason", "times"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended", 2),
        ("signal.pause()", "silent", 1),  # the second time, the write has no time left
    ],
)
async def test_a_child_that_does_not_answer_twice_makes_rules_unavailable(
    does: str, reason: str, times: int
) -> None:
    rules = RuleProcess((sys.executable, "-c", CHILD.format(does)), write_seconds=4.0)
    before = kills_counted(reason)

    with pytest.raises(RulesUnavailable):
        await judge_rules(rules, {}, "true")

    assert kills_counted(reason) == before + times
    await rules.close()


async def test_a_child_that_cannot_be_started_makes_rules_unavailable() -> None:
    rules = RuleProcess(("/nonexistent",), write_seconds=WRITE_SECONDS)

    with pytest.raises(RulesUnavailable):
        await judge_rules(rules, {}, "true")
    await rules.close()


async def test_a_child_that_starts_slowly_is_not_started_again_by_every_write() -> None:
    slow = f"import time; time.sleep(1)\n{CHILD}".format("print('\"met\"', flush=True)")
    rules = RuleProcess((sys.executable, "-c", slow), write_seconds=1.0)

    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                assert await judge_rules(rules, {}, "true") == [MET]
            except RulesUnavailable:
                continue
            break
    await rules.close()


async def test_closing_ends_a_child_that_is_still_starting() -> None:
    rules = RuleProcess((sys.executable, "-c", "import time; time.sleep(60)"), write_seconds=0.5)

    with pytest.raises(RulesUnavailable):
        await judge_rules(rules, {}, "true")

    async with asyncio.timeout(PATIENCE_SECONDS):
        await rules.close()


async def test_a_write_that_is_given_up_leaves_no_answer_to_the_next(rules: RuleProcess) -> None:
    slow = asyncio.create_task(judge_rules(rules, LARGE, HOSTILE["sums of lists"]))
    await asyncio.sleep(0)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)

    assert await judge_rules(rules, {"a": 1}, "config.a == 1", "config.a == 2") == [MET, BROKEN]


async def test_writes_wait_for_each_other_and_too_many_are_refused(rules: RuleProcess) -> None:
    answers = await asyncio.gather(
        *(judge_rules(rules, {"a": number}, "config.a >= 0") for number in range(150)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, RulesUnavailable)]
    assert len(refused) == 50
    assert answers.count([MET]) == 100


async def test_the_child_is_given_no_setting_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "planted")
    tells = "print('\"undecided\"' if 'VAULT_TOKEN' in os.environ else '\"met\"', flush=True)"
    rules = RuleProcess((sys.executable, "-c", CHILD.format(tells)), write_seconds=WRITE_SECONDS)

    assert await judge_rules(rules, {}, "true") == [MET]
    await rules.close()
