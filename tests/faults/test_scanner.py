"""What the scanner saw may be old when it acts: others write meanwhile."""

import re

import pytest

from tests.faults.history import Told
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.stage import Stage
from tests.servers.process import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SHOP = "layers/default/shop"
ASKS = Failpoint("scan:before_head", WAIT)
ACTS = Failpoint("scan:after_head", WAIT)


class Scene:
    """A service whose scanner waits where it is told, and a document of two versions."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.client = stage.client()
        self.service = stage.start(VAULT_SCAN_INTERVAL="0.2")
        for _ in range(2):
            assert self.writes().status == 200

    def writes(self) -> Told:
        return self.client.write(self.service, "shop")

    def keep_scanner_where_it(self, waits: Failpoint) -> None:
        before = self.times_reached(waits)
        self.stage.arm(waits)
        wait_until(lambda: self.times_reached(waits) > before, f"the scanner has reached {waits}")

    def times_reached(self, failpoint: Failpoint) -> int:
        return self.service.log().count(f"reached {failpoint}")

    def regressions(self) -> str:
        metrics = self.service.request("GET", "/metrics").body.decode()
        found = re.search(r"^pilothouse_\w*regressions_total (\S+)$", metrics, re.MULTILINE)
        assert found is not None
        return found[1]


@pytest.fixture
def scene(stage: Stage) -> Scene:
    return Scene(stage)


def test_a_write_while_the_scanner_looks_is_no_lost_version(scene: Scene) -> None:
    scene.keep_scanner_where_it(ACTS)
    scene.writes()
    scene.keep_scanner_where_it(ASKS)

    assert scene.regressions() == "0.0"
    scene.stage.arm()
    assert scene.stage.violations() == []


def test_a_write_on_top_of_a_deleted_version_is_not_buried(scene: Scene) -> None:
    scene.keep_scanner_where_it(ASKS)
    scene.stage.hide(SHOP, 2)
    scene.keep_scanner_where_it(ACTS)
    scene.writes()
    scene.keep_scanner_where_it(ASKS)

    # The deletion is the third version, and the write that found it the fourth.
    assert scene.stage.backend.newest() == {SHOP: 4}
    scene.stage.arm()
    assert scene.stage.violations() == []


def test_a_metadata_deletion_is_told(scene: Scene) -> None:
    scene.keep_scanner_where_it(ASKS)
    scene.stage.forget(SHOP)
    scene.stage.arm()

    wait_until(lambda: float(scene.regressions()) > 0, "the alarm is raised")
