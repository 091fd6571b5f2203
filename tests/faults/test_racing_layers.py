"""Writers of several layers under one rule race: what they make together meets it at any time."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from tests.faults.bugs_schemas import SCHEMA_BUGS
from tests.faults.checker_schemas import Layer, LayerAnswer
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.schema_stage import (
    BOTTOM,
    HELD,
    Failures,
    Ground,
    longest,
    wait_until_reached,
)
from tests.faults.stage import Stage
from tests.servers.deadlines import PATIENT
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ANSWERED_SECONDS = 2.0  # what is promised of every write
EXPECTED = frozenset({200, 422, 503})


class LayerWriter:
    """Writes one key of one layer again and again, on any replica."""

    def __init__(
        self, ground: Ground, layer: Layer, key: str, replicas: Sequence[ServiceProcess]
    ) -> None:
        self._ground = ground
        self._layer = layer
        self._key = key
        self._replicas = replicas
        self._chance = random.Random(f"{layer} {key}")

    def run(self, times: int) -> list[LayerAnswer]:
        middle = {"base": 35, "low": 50, "high": 65}[self._key]
        return [
            self._ground.ask(
                self._ground.write(
                    self._layer, self._key, middle + self._chance.randrange(-30, 30)
                ),
                self._chance.choice(self._replicas),
            )
            for _ in range(times)
        ]


@pytest.fixture(scope="module")
def trio(open_stage: Callable[[str], Stage], vault_server: object) -> Stage:
    stage = open_stage("real")
    stage.start_many(HELD, HELD, HELD)
    return stage


def share(*, is_whole: bool) -> int:
    return 200 if is_whole else 30


def assert_progress(answers: Sequence[LayerAnswer]) -> None:
    counted = Counter(each.status for each in answers)
    assert counted[200], counted
    assert counted.keys() <= EXPECTED, counted


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shared", ["environment", "default", "both"])
def test_writers_of_layers_never_break_the_rule_between_them(
    trio: Stage, shared: str, *, is_whole: bool
) -> None:
    ground = Ground(trio, f"race-{shared}")
    ground.lay_out(trio.services[0])
    layers = {
        "environment": [(ground.low, "low"), (ground.high, "high")],
        "default": [(BOTTOM, "base"), (ground.high, "high")],
        "both": [(BOTTOM, "base"), (ground.low, "low"), (ground.high, "high")],
    }[shared]
    writers = [LayerWriter(ground, layer, key, trio.services) for layer, key in layers]

    began = monotonic()
    with ThreadPoolExecutor(len(writers)) as threads:
        all_answers = list(
            threads.map(lambda writer: writer.run(share(is_whole=is_whole)), writers)
        )
    seconds = monotonic() - began

    assert ground.flaws() == []
    for answers in all_answers:
        assert_progress(answers)
    everything = [answer for answers in all_answers for answer in answers]
    written = sum(each.status == 200 for each in everything)
    print(f"{written / seconds:.1f} writes/s, at most {longest(everything):.2f} s")  # noqa: T201
    assert longest(everything) < ANSWERED_SECONDS + SLACK_SECONDS


@pytest.mark.timeout(1800)
def test_a_schema_put_while_others_write_is_met_by_all_that_is_there(
    trio: Stage, *, is_whole: bool
) -> None:
    ground = Ground(trio, "defined")
    ground.lay_out(trio.services[0], is_judged=False)
    layers = [(ground.low, "low"), (ground.high, "high")]
    writers = [LayerWriter(ground, layer, key, trio.services) for layer, key in layers]
    over = threading.Event()
    put: Counter[int] = Counter()

    def define() -> None:
        chance = random.Random(7)
        while not over.is_set():
            replica = chance.choice(trio.services)
            status = ground.put_schema(replica).status
            put[status] += 1
            if status in {200, 201}:
                assert ground.delete_schema(replica).status == 204

    with ThreadPoolExecutor(3) as threads:
        defining = threads.submit(define)
        try:
            all_answers = list(
                threads.map(lambda writer: writer.run(share(is_whole=is_whole)), writers)
            )
        finally:
            over.set()
        defining.result()

    assert ground.flaws() == []
    for answers in all_answers:
        assert_progress(answers)
    assert put.keys() <= {200, 201, 422, 503}, put


# --- seeded bugs ---


class Asking:
    """A write on its way while others do something."""

    def __init__(self, ground: Ground, replica: ServiceProcess, low: int) -> None:
        self._told: list[LayerAnswer] = []
        self._thread = threading.Thread(
            target=lambda: self._told.append(ground.set_low(low, replica))
        )
        self._thread.start()

    def answer(self) -> LayerAnswer:
        self._thread.join()
        return self._told[0]


class Duel:
    """Two replicas; each waits where a test says."""

    def __init__(self, stage: Stage, bug: str, folder_of: Callable[[str], Failures]) -> None:
        self.one_waits, self.other_waits = folder_of("one"), folder_of("other")
        common = {"SEEDED_BUG": bug, **HELD, **PATIENT}
        self.one, self.other = stage.start_many(
            {**common, **self.one_waits.environment}, {**common, **self.other_waits.environment}
        )
        self.ground = Ground(stage, "duel")


Story = Callable[[Duel], None]


def wait_until_shown(duel: Duel, high: int) -> None:
    wait_until(
        lambda: duel.ground.effective_data(duel.one).get("high") == high,
        "the first replica follows",
    )


def judged_before_another_writes(duel: Duel) -> None:
    """The first is judged, then another layer changes, then the first goes on."""
    duel.ground.lay_out(duel.other)
    assert duel.ground.set_high(90, duel.other).status == 200
    wait_until_shown(duel, 90)
    waits = Failpoint("before_begin", WAIT)

    duel.one_waits.arm(waits)
    first = Asking(duel.ground, duel.one, 80)
    wait_until_reached(duel.one, waits)
    assert duel.ground.set_high(60, duel.other).status == 200
    wait_until_shown(duel, 60)
    duel.one_waits.arm()
    first.answer()


def defined_while_a_write_is_open(duel: Duel) -> None:
    """A write is open when a schema begins to apply, which it will not meet."""
    duel.ground.lay_out(duel.other, is_judged=False)
    wait_until_shown(duel, 50)
    waits = Failpoint("after_begin", WAIT)

    duel.one_waits.arm(waits)
    first = Asking(duel.ground, duel.one, 80)
    wait_until_reached(duel.one, waits)
    duel.ground.put_schema(duel.other)
    duel.one_waits.arm()
    first.answer()


def follows_late(duel: Duel) -> None:
    """A writer waits for another one's write, and its replica has not followed it yet."""
    duel.ground.lay_out(duel.other)
    assert duel.ground.set_high(90, duel.other).status == 200
    wait_until_shown(duel, 90)
    opened, follows = Failpoint("after_begin", WAIT), Failpoint("before_follow", WAIT)
    waits = Failpoint("before_wait", WAIT)

    duel.other_waits.arm(opened)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(duel.ground.set_high, 60, duel.other)
        wait_until_reached(duel.other, opened)
        duel.one_waits.arm(follows, waits)
        wait_until_reached(duel.one, follows)
        first = Asking(duel.ground, duel.one, 80)
        wait_until_reached(duel.one, waits)
        duel.other_waits.arm()
        assert second.result().status == 200
    duel.one_waits.arm(follows)
    first.answer()
    duel.one_waits.arm()


STORIES: dict[str, Story] = {
    "judges_without_a_guard": judged_before_another_writes,
    "guards_its_own_document": judged_before_another_writes,
    "guards_ahead": judged_before_another_writes,
    "defines_over_intents": defined_while_a_write_is_open,
    "judges_before_it_follows": follows_late,
}


@pytest.fixture
def tell(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[str]]:
    folder = tmp_path_factory.mktemp("duel")

    def flaws_of_story(bug: str, story: str) -> list[str]:
        duel = Duel(stage, bug, lambda name: Failures(folder / name))
        STORIES[story](duel)
        return duel.ground.flaws()

    return flaws_of_story


@pytest.mark.parametrize("bug", STORIES)
def test_a_seeded_bug_turns_the_checker_red(
    tell: Callable[[str, str], list[str]], bug: str
) -> None:
    assert any("duel/shop breaks its rule" in flaw for flaw in tell(bug, bug))


@pytest.mark.parametrize(
    "story", ["judges_without_a_guard", "defines_over_intents", "judges_before_it_follows"]
)
def test_the_same_story_without_the_bug_has_no_flaw(
    tell: Callable[[str, str], list[str]], story: str
) -> None:
    assert tell("", story) == []


def test_every_seeded_bug_has_its_story() -> None:
    assert set(STORIES) == set(SCHEMA_BUGS)
