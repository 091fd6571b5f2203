"""Processes of the harness start, end, freeze and return as told, and never outlive their run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.servers.process import StartFailed, freeze_server, wait_until
from tests.servers.service import ServiceProcess

ECHO = """
import os, sys, http.server

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = body or os.environ.get(self.path[1:], "").encode()
        self.send_response(200 if self.path == "/live" or body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Kind", self.headers.get("Content-Type", "none"))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

print("hoisting the flag", flush=True)
address = os.environ["HOST"], int(os.environ["PORT"])
http.server.ThreadingHTTPServer(address, Echo).serve_forever()
"""
STAND_IN = (sys.executable, "-c", ECHO)
# Starts a service, a cold one with a child that is a process of its own, and names their folder.
RUN = f"""
import sys
from tests.servers.service import ServiceProcess

echo = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True);" + {ECHO!r}
cold = (sys.executable, "-c", echo)
service = ServiceProcess({{}}, cold) if "cold" in sys.argv else ServiceProcess({{}})
if "freeze" in sys.argv:
    service.freeze()
print(service.data_folder.parent, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess({"COLOUR": "blue"}, STAND_IN) as service:
        yield service


def test_a_service_answers_once_started(service: ServiceProcess) -> None:
    assert service.request("GET", "/COLOUR").body == b"blue"


def test_an_answer_tells_its_status_headers_and_body(service: ServiceProcess) -> None:
    answer = service.request("POST", "/", json={"a": 1})

    assert (answer.status, answer.json()) == (200, {"a": 1})
    assert answer.headers["x-kind"] == "application/json"
    assert service.request("GET", "/nothing").status == 404


def test_bytes_are_sent_as_they_are(service: ServiceProcess) -> None:
    answer = service.request("POST", "/", data=b"\x00\xff", headers={"content-type": "x/y"})

    assert (answer.body, answer.headers["X-Kind"]) == (b"\x00\xff", "x/y")


def test_a_service_inherits_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "red")
    with ServiceProcess({}, STAND_IN) as service:
        assert service.request("GET", "/COLOUR").status == 404


def test_a_killed_service_returns_at_the_same_address(service: ServiceProcess) -> None:
    (service.data_folder / "kept").touch()

    service.kill()
    killed = service.exit_code
    service.restart({"COLOUR": "green"})

    assert killed == -signal.SIGKILL
    assert service.request("GET", "/COLOUR").body == b"green"
    assert (service.data_folder / "kept").exists()
    assert service.log().count("hoisting the flag") == 2


def test_a_stopped_service_ends_by_the_signal_it_was_sent(service: ServiceProcess) -> None:
    assert service.exit_code is None
    service.stop()

    assert service.wait_for_exit() == -signal.SIGTERM


def test_a_frozen_service_is_silent_until_thawed(service: ServiceProcess) -> None:
    with freeze_server(service), pytest.raises(TimeoutError):
        service.request("GET", "/live", timeout=0.2)

    assert service.request("GET", "/live").status == 200


def test_a_frozen_service_can_be_stopped(service: ServiceProcess) -> None:
    service.freeze()
    service.stop()

    assert service.exit_code == -signal.SIGTERM


def test_a_service_that_ends_early_shows_its_log() -> None:
    with pytest.raises(StartFailed, match=r"(?s)exit code 3.*no chart on board"):
        ServiceProcess({}, ("/bin/sh", "-c", "echo no chart on board; exit 3"))


def processes_in(folder: str) -> list[str]:
    """Tell the processes that write to the folder's log."""
    found = []
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        with suppress(OSError):
            if output.readlink().is_relative_to(folder):
                found.append(output.parents[1].name)
    return found


@pytest.mark.parametrize("state", ["running", "freeze"])
@pytest.mark.parametrize("start", ["cold", "warm"])
def test_no_process_outlives_a_killed_run(state: str, start: str) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", RUN, state, start),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        text=True,
    ) as run:
        assert run.stdout is not None
        folder = run.stdout.readline().strip()
        before = processes_in(folder)
        run.kill()

    wait_until(lambda: not processes_in(folder), "all of them are gone")
    shutil.rmtree(folder)
    assert len(before) == (3 if start == "cold" else 2)  # the leash, the service and its child
