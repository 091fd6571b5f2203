"""A service that was forked from warm code is one like any other."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.servers.process import StartFailed, freeze_server
from tests.servers.service import SERVE, ServiceProcess
from tests.servers.warm import is_warm


@pytest.fixture
def warm() -> Iterator[ServiceProcess]:
    with ServiceProcess({"SERVICE_NAME": "warm"}) as service:
        yield service


def test_it_ends_and_returns_as_it_is_told(warm: ServiceProcess) -> None:
    warm.kill()
    killed = warm.exit_code
    warm.restart()
    running = warm.exit_code
    with freeze_server(warm), pytest.raises(TimeoutError):
        warm.request("GET", "/live", timeout=0.2)
    warm.stop()

    assert (killed, running, warm.wait_for_exit()) == (-signal.SIGKILL, None, 0)


def test_one_that_ends_early_shows_its_log() -> None:
    with pytest.raises(StartFailed, match=r"(?s)exit code 2.*refused to start: LOG_LEVEL"):
        ServiceProcess({"LOG_LEVEL": "shout"})


def files_of(service: ServiceProcess) -> set[str]:
    """Tell what the service and its leash have open, but for devices and the like."""
    log = service.data_folder.parent / "log"
    found = set()
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        with suppress(OSError):
            if output.readlink() == log:
                found |= {str(file.readlink()) for file in output.parent.iterdir()}
    return {name for name in found if not name.startswith(("/dev/", "anon_inode:"))}


def test_it_shares_no_open_file_with_another(warm: ServiceProcess) -> None:
    with ServiceProcess({}) as other:
        mine, theirs = files_of(warm), files_of(other)

    assert mine
    assert theirs
    assert not mine & theirs


def test_it_inherits_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "shout")

    with ServiceProcess({}) as service:
        assert service.request("GET", "/live").status == 200


def test_what_is_measured_and_the_faults_in_full_begin_cold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PILOTHOUSE_FAULTS", "whole")
    in_full = is_warm(SERVE)
    monkeypatch.delenv("PILOTHOUSE_FAULTS")
    monkeypatch.delenv("PYTEST_VERSION")

    assert not in_full
    assert not is_warm(SERVE)
