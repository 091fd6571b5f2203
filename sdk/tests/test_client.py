"""The client against the real service."""

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from pilothouse import AsyncPilothouse, ConfigChange, Pilothouse, RefreshPolicy
from pilothouse.errors import PilothouseError
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

_numbers = itertools.count()
QUICK = RefreshPolicy(backoff=0.01, longest_backoff=0.1)


class Orders:
    """A service of its own name, and what is written for it."""

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        self.name = f"orders-{next(_numbers)}"
        self.query = f"environment=production&service_name={self.name}"

    @property
    def address(self) -> tuple[str, str, str]:
        return self.process.url, self.name, "production"

    def set(self, key: str, value: Any, service: str = "", *, secret: bool = False) -> None:
        body = {"set": {key: value}, "encrypt": [key] if secret else []}
        query = f"environment=production&service_name={service or self.name}"
        answer = self.process.request("PATCH", f"/api/v1/config?{query}", body)
        assert answer.status == 200, answer.body


@pytest.fixture
def orders(service: ServiceProcess) -> Orders:
    return Orders(service)


@pytest.fixture(params=["stream", "waiting", "polling"])
def pace(request: pytest.FixtureRequest) -> RefreshPolicy:
    interval = 0.05 if request.param == "polling" else 30.0
    return RefreshPolicy(request.param, poll_interval=interval, backoff=0.01, longest_backoff=0.1)


def test_what_is_configured_is_there_at_once(orders: Orders) -> None:
    orders.set("db.host", "db1")

    with Pilothouse(*orders.address, defaults={"db": {"port": 1}}) as client:
        assert client.config.section("db") == {"host": "db1", "port": 1}
        assert client.config.source == "service"
        assert client.config.revision > 0
        assert client.config.version.startswith('"')
        assert client.config.age < 5
        assert not client.config.is_stale
        assert client.last_error is None


def test_a_change_is_heard_of_however_changes_are_followed(
    orders: Orders, pace: RefreshPolicy
) -> None:
    orders.set("db.host", "db1")
    heard: Queue[ConfigChange] = Queue()

    with Pilothouse(*orders.address, pace=pace) as client:
        client.on_change("db", heard.put)
        for number in range(3):
            orders.set("db.host", f"new{number}")
            change = heard.get(timeout=30)

            assert (change.path, change.new_value) == ("db.host", f"new{number}")
            assert client.config.get("db.host") == f"new{number}"


def test_a_layer_below_is_heard_of_and_other_services_are_not(orders: Orders) -> None:
    heard: Queue[ConfigChange] = Queue()

    with Pilothouse(*orders.address) as client:
        client.on_change("", heard.put)
        orders.set("shared", 1, "someone-else")
        orders.set("shared", 2, "_shared")

        assert heard.get(timeout=30).new_value == 2
        assert heard.empty()


async def test_the_asynchronous_client_holds_the_same(orders: Orders) -> None:
    orders.set("db.host", "db1")

    async with AsyncPilothouse(*orders.address) as client:
        assert client.config.get("db.host") == "db1"
        orders.set("db.host", "db2")
        await client.refresh()
        assert client.config.get("db.host") == "db2"
    assert client.config.get("db.host") == "db2"


def test_a_key_with_a_value_and_keys_below_it_is_read_as_its_value(orders: Orders) -> None:
    level = {"com": {"$value": "INFO", "acme": {"$value": "WARN", "billing": "DEBUG"}}}
    orders.set("logging.level", level)

    with Pilothouse(*orders.address) as client:
        assert client.config.get("logging.level.com") == "INFO"
        assert client.config.get("logging.level.com.acme") == "WARN"
        assert client.config.get("logging.level.com.acme.billing") == "DEBUG"
        assert client.config.section("logging.level") == level

        heard: Queue[ConfigChange] = Queue()
        client.on_change("logging.level.com.acme", heard.put)
        orders.set("logging.level.com.acme", "ERROR")
        change = heard.get(timeout=30)
        assert (change.path, change.old_value, change.new_value) == (
            "logging.level.com.acme",
            "WARN",
            "ERROR",
        )


def test_a_secret_in_a_list_is_read_when_asked_for_and_left_out_of_the_file(
    orders: Orders, tmp_path: Path
) -> None:
    orders.set("users", [{"name": "ana", "password": "plain"}, {"name": "ben"}])
    orders.set("users[0].password", "hunter2", secret=True)
    snapshot = tmp_path / "snapshot"

    with Pilothouse(*orders.address) as client:
        assert client.config.get("users")[0] == {"name": "ana"}
        assert client.config.get("users")[1] == {"name": "ben"}
    with Pilothouse(*orders.address, reveal_secrets=True, snapshot=snapshot) as client:
        assert client.config.get("users[0].password") == "hunter2"
        assert client.config.get("users")[0]["password"] == "hunter2"
    assert b"ben" in snapshot.read_bytes()
    assert b"hunter2" not in snapshot.read_bytes()


def test_secrets_are_read_when_asked_for_and_left_out_of_the_file(
    orders: Orders, tmp_path: Path
) -> None:
    orders.set("db.host", "db1")
    orders.set("db.password", "hunter2", secret=True)
    file = tmp_path / "snapshot"
    heard: Queue[ConfigChange] = Queue()

    with Pilothouse(*orders.address) as client:
        assert client.config.get("db.password", "none") == "none"
    with Pilothouse(*orders.address, reveal_secrets=True, snapshot=file) as client:
        assert client.config.get("db.password") == "hunter2"
        client.on_change("db.password", heard.put)
        orders.set("db.password", "hunter3", secret=True)
        assert heard.get(timeout=30).new_value == "hunter3"

    assert b"db1" in file.read_bytes()
    assert b"hunter" not in file.read_bytes()


def test_with_a_key_the_file_holds_secrets_too(orders: Orders, tmp_path: Path) -> None:
    orders.set("db.password", "hunter2", secret=True)
    file, key = tmp_path / "snapshot", bytes(32)
    more: dict[str, Any] = {"reveal_secrets": True, "snapshot": file, "snapshot_key": key}
    with Pilothouse(*orders.address, **more):
        pass

    orders.process.freeze()
    try:
        with Pilothouse(*orders.address, start_timeout=0.1, **more) as client:
            assert client.config.source == "snapshot"
            assert client.config.get("db.password") == "hunter2"
    finally:
        orders.process.thaw()
    assert b"hunter" not in file.read_bytes()


def test_a_user_has_values_of_their_own(orders: Orders) -> None:
    orders.set("colour", "blue")
    orders.process.request(
        "PATCH", f"/api/v1/config?{orders.query}&user=ana", {"set": {"colour": "red"}}
    )

    with Pilothouse(*orders.address, user="ana") as client:
        assert client.config.get("colour") == "red"


def test_a_schema_refuses_what_it_does_not_know(
    orders: Orders, caplog: pytest.LogCaptureFixture
) -> None:
    def port_is_a_number(data: dict[str, Any]) -> None:
        if not isinstance(data["port"], int):
            raise TypeError(data["port"])

    orders.set("port", 80)
    with Pilothouse(*orders.address, validate=port_is_a_number, pace=QUICK) as client:
        orders.set("port", "hunter2")
        wait_until(lambda: client.last_error is not None, "the update is refused")
        assert client.config.get("port") == 80
        orders.set("port", 81)
        wait_until(lambda: client.config.get("port") == 81, "the better one is taken")
        wait_until(lambda: client.last_error is None, "nothing is wrong any more")

    assert "TypeError" in caplog.text
    assert "hunter2" not in caplog.text


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_thread_and_no_descriptor_is_left_behind(orders: Orders) -> None:
    orders.set("a", 1)
    before = threading.active_count()
    with Pilothouse(*orders.address) as client:
        client.on_change("", lambda _: None)
        orders.set("a", 2)
        wait_until(lambda: client.config.get("a") == 2, "the change is there")
    descriptors = _descriptors()

    for _ in range(5):
        with Pilothouse(*orders.address) as client:
            assert client.config.get("a") == 2
        client.close()
    gc.collect()

    assert threading.active_count() == before
    assert _descriptors() <= descriptors


def test_a_callback_may_close_the_client_and_may_not_hold_it_up(orders: Orders) -> None:
    orders.set("a", 1)
    closed = threading.Event()

    with Pilothouse(*orders.address) as client:

        def close(_: ConfigChange) -> None:
            client.refresh()
            client.close()
            closed.set()

        client.on_change("a", close)
        orders.set("a", 2)
        assert closed.wait(10)

        with pytest.raises(PilothouseError, match="closed"):
            client.refresh()
        assert client.config.get("a") == 2


@pytest.fixture
def forked_reader(orders: Orders) -> Iterator[tuple[int, int]]:
    """Fork while a client runs; the child reports what it reads, whatever it was before."""
    orders.set("a", 1)
    with Pilothouse(*orders.address, pace=QUICK) as client:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _report(client, writing)
        os.close(writing)
        orders.set("a", 2)
        wait_until(lambda: client.config.get("a") == 2, "the parent hears of it")
        yield child, reading
        os.close(reading)
        orders.set("a", 3)
        wait_until(lambda: client.config.get("a") == 3, "the parent goes on")


def _report(client: Pilothouse, writing: int) -> None:
    """In the child: read at once, then until the new value is there; never return to pytest."""
    try:
        first = client.config.get("a")
        deadline = time.monotonic() + 10
        while client.config.get("a") != 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.write(writing, f"{first} {client.config.get('a')} {threading.active_count()}".encode())
        client.close()
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_reads_at_once_and_follows_on_its_own(
    forked_reader: tuple[int, int],
) -> None:
    child, reading = forked_reader

    first, last, _ = os.read(reading, 100).split()
    assert first in {b"1", b"2"}
    assert last == b"2"
    assert os.waitpid(child, 0)[1] == 0


COUNTING = """
import sys
from pilothouse import Pilothouse

before = set(sys.modules)
with Pilothouse(sys.argv[1], sys.argv[2], snapshot="snapshot", start_timeout=60) as client:
    print(client.config.source, client.flags.source, sorted(set(sys.modules) - before))
"""


def test_a_client_at_work_imports_nothing_for_which_reads_and_forks_would_wait(
    orders: Orders, tmp_path: Path
) -> None:
    program = (sys.executable, "-c", COUNTING, orders.process.url, orders.name)

    ran = subprocess.run(
        program, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )

    assert ran.stdout == "service service []\n"


FORGETFUL = """
import sys
from pilothouse import Limits, Pilothouse

client = Pilothouse(
    sys.argv[1], sys.argv[2], snapshot="snapshot", limits=Limits(headers={"Connection": "close"})
)
print(client.flags.is_on(sys.argv[2], user_id="ann"))
"""


def test_a_program_that_forgets_to_close_saves_and_reports_all_the_same(
    orders: Orders, tmp_path: Path
) -> None:
    """While the interpreter ends no thread begins any more, though a name has to be looked up."""
    url = orders.process.url.replace("127.0.0.1", "localhost")
    body = {"name": orders.name, "rollout_percentage": 100}
    assert orders.process.request("POST", "/api/v1/feature-flags", body).status == 201

    program = (sys.executable, "-W", "error", "-c", FORGETFUL, url, orders.name)
    ran = subprocess.run(
        program, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )

    assert (ran.stdout, ran.stderr) == ("True\n", "")
    assert orders.name.encode() in (tmp_path / "snapshot").read_bytes()
    usage = f"/api/v1/feature-flags/{orders.name}/usage"
    wait_until(
        lambda: orders.process.request("GET", usage).json()["evaluations"] == {"on": 1},
        "the service has counted it",
    )
