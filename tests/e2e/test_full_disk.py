"""A disk without room: what was acknowledged is kept, reads go on, and operators are told once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process import wait_until
from tests.servers.service import SERVE, ServiceProcess
from tests.servers.small_disk import on_small_disk

pytestmark = pytest.mark.slow

DOCUMENT = "/api/configs/shop"


class SmallDisk:
    """A service on a small disk, and the file that takes the room away."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self._filler = Path(f"/proc/{service.pid}/root{service.data_folder}/filler")

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as filler:
            while True:
                try:
                    if filler.write(b"\0" * 4096) < 4096:
                        return
                except OSError:
                    return

    def make_room(self) -> None:
        self._filler.unlink()

    def configs(self) -> str:
        ports = self.service.request("GET", "/ready").json()["ports"]
        return next(str(port["status"]) for port in ports if port["name"] == "configs")


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with ServiceProcess({}, on_small_disk(SERVE, "16m")) as service:
        yield SmallDisk(service)


def test_a_full_disk_loses_nothing_is_told_and_heals(disk: SmallDisk) -> None:
    service = disk.service
    made = service.request("POST", DOCUMENT, {"config_data": {"n": 0}})
    assert made.status == 201
    disk.fill()

    acknowledged, refused = 0, None
    for number in range(1, 1000):  # what SQLite has in hand takes some writes
        body = {"config_data": {"n": number, "text": "x" * 100_000}}
        answer = service.request("PUT", DOCUMENT, body)
        if answer.status != 200:
            refused = answer
            break
        acknowledged = number

    assert refused is not None
    assert refused.status in {503, 504}
    assert refused.headers["Retry-After"] or refused.status == 504
    wait_until(lambda: disk.configs() == "degraded", "/ready tells of it")
    assert service.request("GET", "/ready").status == 200
    assert service.request("GET", "/live").status == 200
    read = service.request("GET", DOCUMENT)
    assert (read.status, read.json()["config_data"]["n"]) == (200, acknowledged)
    assert service.log().count("state_not_writable") == 1

    disk.make_room()
    wait_until(
        lambda: service.request("PUT", DOCUMENT, {"config_data": {"n": -1}}).status == 200,
        "writes succeed again",
    )
    wait_until(lambda: disk.configs() == "up", "/ready tells that it is over")
    assert service.log().count("state_writable_again") == 1
    found = service.request("GET", DOCUMENT).json()
    assert (found["config_data"], found["version"] > acknowledged) == ({"n": -1}, True)
