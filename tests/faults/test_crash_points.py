"""Killed by SIGKILL at any step of the write path, the service loses and invents nothing."""

import random
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.faults.conftest import KINDS, TOLD_KINDS
from tests.faults.crew import Crew
from tests.faults.history import Asked, Client, Told
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.stage import Stage
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

WRITING = [
    f"{when}_{step}"
    for step in ("join", "begin", "store", "advance")
    for when in ("before", "after")
]
LOOKING = ["before_look", "after_look"]
CONFIRMING = [f"reconcile:{point}" for point in (*LOOKING, "before_advance", "after_advance")]
EXPIRING = ["reconcile:before_expire", "reconcile:after_expire"]
NOTICING = ["scan:before_head", "scan:after_head", "scan:before_advance", "scan:after_advance"]
BURYING = [
    f"scan:{when}_{step}" for step in ("begin", "store", "advance") for when in ("before", "after")
]
KILLED = -signal.SIGKILL
# The reconciler waits here as long as a test wants to be the first who looks at a write.
NOT_YET = Failpoint("reconcile:before_look", WAIT)


class Scene:
    """One document of one running service, and the one client who writes it."""

    def __init__(self, stage: Stage, service: ServiceProcess, point: str) -> None:
        self.stage = stage
        self.service = service
        self.client: Client = stage.client()
        self.name = f"{point.replace(':', '-')}-{self.client.name}"
        self.document = f"layers/default/{self.name}"

    def opens(self) -> None:
        """Two versions before anything happens."""
        for _ in range(2):
            assert self.client.write(self.service, self.name).status == 200

    def asks(self, write: Asked) -> Told:
        return self.stage.history.ask(write, self.service)

    def dies_while_asked(self, write: Asked, *failpoints: Failpoint) -> None:
        self.stage.arm(*failpoints)
        assert self.asks(write).status in {None, 504}  # 504: it gave up before it was killed
        self.dies()

    def dies(self) -> None:
        assert self.service.wait_for_exit() == KILLED

    def returns(self, *failpoints: Failpoint) -> None:
        self.stage.arm(*failpoints)
        self.service.restart()

    def is_in_order(self) -> None:
        assert self.stage.violations() == []

    def goes_on(self, write: Asked) -> None:
        """The same request is asked again, and another one."""
        assert self.asks(write).status == 201
        assert self.client.write(self.service, self.name).status == 200
        self.is_in_order()


@pytest.fixture(scope="module", params=TOLD_KINDS)
def running(
    request: pytest.FixtureRequest, open_stage: Callable[[str], Stage]
) -> tuple[Stage, ServiceProcess]:
    stage = open_stage(request.param)
    return stage, stage.start()


@pytest.fixture(scope="module")
def scanning(
    open_stage: Callable[[str], Stage], vault_server: object, kafka_server: object
) -> tuple[Stage, ServiceProcess]:
    stage = open_stage("told")
    return stage, stage.start(VAULT_SCAN_INTERVAL="0.2")


def scene_at(point: str, stage: Stage, service: ServiceProcess) -> Scene:
    if service.exit_code is not None:  # the test before failed
        stage.arm()
        service.restart()
    scene = Scene(stage, service, point)
    scene.opens()
    return scene


@pytest.fixture
def scene(running: tuple[Stage, ServiceProcess], point: str) -> Iterator[Scene]:
    yield scene_at(point, *running)
    running[0].arm()


@pytest.fixture
def scanned_scene(scanning: tuple[Stage, ServiceProcess], point: str) -> Iterator[Scene]:
    yield scene_at(point, *scanning)
    scanning[0].arm()


@pytest.mark.parametrize("point", WRITING)
def test_a_write_killed_at_any_step_is_whole_or_not_there(scene: Scene, point: str) -> None:
    write = scene.client.new(scene.name, keyed=True)

    scene.dies_while_asked(write, Failpoint(point))
    scene.returns()

    scene.is_in_order()
    scene.goes_on(write)


@pytest.mark.parametrize("point", LOOKING)
def test_a_retry_killed_while_it_reads_back_joins_the_same_write(scene: Scene, point: str) -> None:
    write = scene.client.new(scene.name, keyed=True)

    scene.dies_while_asked(write, NOT_YET, Failpoint("after_store"))
    scene.returns(NOT_YET)
    scene.dies_while_asked(write, NOT_YET, Failpoint(point))
    scene.returns()

    scene.is_in_order()
    scene.goes_on(write)


@pytest.mark.parametrize("point", CONFIRMING)
def test_a_reconciler_killed_while_it_confirms_a_write_does_so_later(
    scene: Scene, point: str
) -> None:
    write = scene.client.new(scene.name, keyed=True)

    scene.dies_while_asked(write, Failpoint("after_store", WAIT), Failpoint(point))
    scene.returns()

    scene.is_in_order()
    scene.goes_on(write)


@pytest.mark.parametrize("point", EXPIRING)
def test_a_reconciler_killed_while_it_gives_up_a_write_leaves_it_undecided(
    scene: Scene, point: str
) -> None:
    write = scene.client.new(scene.name, keyed=True)

    scene.dies_while_asked(write, Failpoint("after_begin", WAIT), Failpoint(point))
    scene.returns()

    scene.is_in_order()
    scene.goes_on(write)


@pytest.mark.parametrize("point", NOTICING)
def test_a_scanner_killed_at_any_step_notices_an_edit_later(
    scanned_scene: Scene, point: str
) -> None:
    scanned_scene.stage.edit(scanned_scene.document, 2, f"edit at {point}")

    scanned_scene.stage.arm(Failpoint(point))
    scanned_scene.dies()
    scanned_scene.returns()

    scanned_scene.is_in_order()
    scanned_scene.goes_on(scanned_scene.client.new(scanned_scene.name, keyed=True))


@pytest.mark.parametrize("point", BURYING)
def test_a_scanner_killed_at_any_step_buries_a_deleted_document_later(
    scanned_scene: Scene, point: str
) -> None:
    scanned_scene.stage.arm(Failpoint(point))
    scanned_scene.stage.hide(scanned_scene.document, 2)
    scanned_scene.dies()
    scanned_scene.returns()

    wait_until(
        lambda: scanned_scene.stage.backend.newest()[scanned_scene.document] == 3, "it is buried"
    )
    scanned_scene.is_in_order()
    scanned_scene.goes_on(scanned_scene.client.new(scanned_scene.name, keyed=True))


@pytest.mark.timeout(3600)  # two hundred kills in the whole form
@pytest.mark.parametrize("kind", KINDS)
def test_kills_at_random_moments_lose_nothing(
    open_stage: Callable[[str], Stage], kind: str, *, is_whole: bool
) -> None:
    seed = 20
    chance = random.Random(seed)
    stage = open_stage(kind)

    with Crew(stage, [stage.start()], seed) as crew:
        for _ in range(200 if is_whole else 3):
            crew.lives_through_a_kill(after=chance.randrange(20, 60))

    assert stage.violations() == []
