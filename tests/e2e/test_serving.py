"""The process: where it listens, what it says, which signals it heeds, and what it ends with."""

import os
import re
import signal
import socket
import sqlite3
import sys
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.servers.answer import request
from tests.servers.process import (
    PATIENCE_SECONDS,
    Berth,
    ChildProcess,
    Command,
    StartFailed,
    wait_until,
)
from tests.servers.service import ROOT, SERVE, ServiceProcess
from tests.servers.warm import inherited_variables

pytestmark = pytest.mark.slow
STOPPED, FAILED, REFUSED = 0, 1, 2


def run_to_end(*words: str, **settings: str) -> tuple[int, str]:
    """Run a command of the service that ends by itself; return its exit code and what it said."""
    berth = Berth("serving")
    environment = {
        **inherited_variables(),
        "PORT": str(berth.port),
        "PILOTHOUSE_DATA_DIR": str(berth.folder / "data"),
        **settings,
    }
    command = Command((sys.executable, "-m", "app", *words), environment, ROOT)
    with pytest.raises(StartFailed) as failed:
        ChildProcess(command, berth, lambda: False)
    failure_text = str(failed.value)
    found = re.search(r"exit code (-?\d+)", failure_text)
    assert found is not None, failure_text
    assert "Traceback" not in failure_text
    return int(found[1]), failure_text


def port_of(service: ServiceProcess) -> int:
    return int(service.url.rpartition(":")[2])


def send(service: ServiceProcess, number: signal.Signals) -> None:
    os.kill(service.pid, number)


def test_arguments_win_over_the_environment() -> None:
    berth = Berth("serving")
    environment = {
        **inherited_variables(),
        "HOST": "192.0.2.1",
        "PORT": "1",
        "PILOTHOUSE_DATA_DIR": str(berth.folder / "data"),
    }
    argv = (*SERVE, "--host", "localhost", "--port", str(berth.port))

    def is_live() -> bool:
        with suppress(OSError, HTTPException):
            return request("GET", f"http://127.0.0.1:{berth.port}/live", timeout=2).status == 200
        return False

    ChildProcess(Command(argv, environment, ROOT), berth, is_live).close()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--port", "0"), "PORT"),
        (("--port", "65536"), "PORT"),
        (("--port", "http"), "PORT"),
        (("--host", "192.0.2.1"), "HOST"),
        (("--host", "no.such.host.invalid"), "HOST"),
    ],
)
def test_an_address_that_cannot_be_is_refused_by_name(words: tuple[str, ...], named: str) -> None:
    code, output = run_to_end("serve", *words)

    assert code == REFUSED
    assert f"refused to start: {named}: " in output


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_in_use_is_refused_by_name(host: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        code, output = run_to_end("serve", HOST=host, PORT=port, LOG_FORMAT="text")

    assert code == REFUSED
    assert f"refused to start: PORT: {port} is in use" in output
    assert "serves at" not in output


def test_a_folder_in_use_or_unusable_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with ServiceProcess({}) as service:
        for folder in (service.data_folder, tmp_path / "file"):
            code, output = run_to_end("serve", PILOTHOUSE_DATA_DIR=str(folder))

            assert code == REFUSED
            assert "refused to start: PILOTHOUSE_DATA_DIR: " in output


@pytest.mark.parametrize(
    ("words", "settings", "code"),
    [
        (("serve",), {"PILOTHOUSE_MODE": "production"}, REFUSED),
        (("serve",), {"LOG_FORMAT": "xml"}, REFUSED),
        (("serve", "--colour"), {}, REFUSED),
        (("migrate",), {}, REFUSED),
        (("migrate",), {"DATABASE_URL": "postgresql://a:hush@127.0.0.1:9/a"}, FAILED),
        (("openapi",), {}, STOPPED),
        ((), {}, REFUSED),
    ],
)
def test_commands_end_as_documented(
    words: tuple[str, ...], settings: dict[str, str], code: int
) -> None:
    found, output = run_to_end(*words, **settings)

    assert found == code
    assert "hush" not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_told_to_stop_ends_well(number: signal.Signals) -> None:
    with ServiceProcess({}) as service:
        send(service, number)

        assert service.wait_for_exit() == STOPPED
        assert "Traceback" not in service.log()


def test_a_hangup_changes_nothing() -> None:
    with ServiceProcess({}) as service:
        send(service, signal.SIGHUP)
        wait_until(lambda: "hangup_ignored" in service.log(), "it has noticed")

        assert service.request("GET", "/ready").status == 200
        assert service.exit_code is None


def test_people_are_told_where_it_serves_and_programs_by_a_line() -> None:
    with ServiceProcess({"LOG_FORMAT": "text"}) as service:
        greeting = f"Pilothouse serves at {service.url} "
        wait_until(lambda: greeting in service.log(), "it has told")
        assert "\x1b" not in service.log()  # no terminal
    with ServiceProcess({}) as service:
        wait_until(lambda: '"serving"' in service.log(), "it has told")
        assert "serves at" not in service.log()


def test_probes_are_no_lines_unless_they_fail() -> None:
    with ServiceProcess({"SHUTDOWN_DELAY_SECONDS": "30"}) as service:
        for path in ("/live", "/ready"):
            assert service.request("GET", path).status == 200
        assert service.request("GET", "/health").status == 200
        wait_until(lambda: '"/health"' in service.log(), "a request is told")
        assert '"/live"' not in service.log()
        assert '"/ready"' not in service.log()

        send(service, signal.SIGTERM)
        wait_until(lambda: service.request("GET", "/ready").status == 503, "it leaves")
        wait_until(lambda: '"/ready"' in service.log(), "the failed probe is told")
    with ServiceProcess({"LOG_LEVEL": "debug"}) as service:
        assert service.request("GET", "/live").status == 200
        wait_until(lambda: '"/live"' in service.log(), "a probe is told")


def test_it_goes_on_serving_while_load_balancers_learn_that_it_leaves() -> None:
    body = b'{"key": "a.b", "value": 1}'
    json = {"Content-Type": "application/json"}
    with ServiceProcess({"SHUTDOWN_DELAY_SECONDS": "2"}) as service:
        kept = HTTPConnection("127.0.0.1", port_of(service), timeout=PATIENCE_SECONDS)
        kept.request("GET", "/health")
        kept.getresponse().read()
        began = time.monotonic()
        send(service, signal.SIGTERM)
        wait_until(lambda: service.request("GET", "/ready").status == 503, "it leaves")

        assert service.request("GET", "/ready").json()["status"] == "stopping"
        written = service.request("POST", "/api/v1/config", data=body, headers=json)
        read = service.request("GET", "/api/v1/config/a.b")
        assert (written.status, read.status) == (201, 200)
        assert read.headers["Connection"] == written.headers["Connection"] == "close"
        kept.request("GET", "/api/v1/config/a.b")  # a connection that was at rest
        answer = kept.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")

        assert service.wait_for_exit() == STOPPED
        assert time.monotonic() - began >= 2


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait(again: signal.Signals) -> None:
    with ServiceProcess({"SHUTDOWN_DELAY_SECONDS": "300"}) as service:
        send(service, signal.SIGTERM)
        wait_until(lambda: service.request("GET", "/ready").status == 503, "it leaves")
        send(service, again)

        assert service.wait_for_exit() == STOPPED


def test_an_interrupt_does_not_wait() -> None:
    with ServiceProcess({"SHUTDOWN_DELAY_SECONDS": "300"}) as service:
        send(service, signal.SIGINT)

        assert service.wait_for_exit() == STOPPED


def sources(service: ServiceProcess) -> list[str]:
    uri = f"file:{service.data_folder / 'pilothouse.db'}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT source FROM audit ORDER BY id")]


@pytest.mark.parametrize(
    ("proxies", "source"),
    [("", "127.0.0.1"), ("127.0.0.1", "203.0.113.9"), ("10.0.0.0/8,::1", "127.0.0.1")],
)
def test_only_a_trusted_proxy_says_where_a_change_came_from(proxies: str, source: str) -> None:
    body = b'{"key": "a.b", "value": 1}'
    headers = {"Content-Type": "application/json", "X-Forwarded-For": "junk, 203.0.113.9"}
    # uvicorn's own setting is not heeded.
    with ServiceProcess({"TRUSTED_PROXIES": proxies, "FORWARDED_ALLOW_IPS": "*"}) as service:
        assert service.request("POST", "/api/v1/config", data=body, headers=headers).status == 201

        assert set(sources(service)) == {source}


@pytest.mark.parametrize("proxies", ["proxy.example", "*", "10.0.0.1/8", "10.0.0.0/33"])
def test_proxies_are_addresses_and_networks(proxies: str) -> None:
    code, output = run_to_end("serve", TRUSTED_PROXIES=proxies)

    assert code == REFUSED
    assert "refused to start: TRUSTED_PROXIES: " in output
