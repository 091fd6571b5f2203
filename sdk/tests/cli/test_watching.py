"""What goes on until Ctrl-C: pilothouse config watch, pilothouse changes tail --follow."""

import itertools
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sdk.tests.cli.terminal import Terminal
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.service import ServiceProcess

pytestmark = pytest.mark.slow


@contextmanager
def running(terminal: Terminal, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A command as a process; its standard error is read with its output."""
    with subprocess.Popen(
        [*terminal.argv, *words],
        env={**terminal.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_log_ends_with_the_last_changes(pilothouse: Terminal) -> None:
    name = pilothouse.variables["PILOTHOUSE_SERVICE"]
    for number in range(5):
        pilothouse.ok("config", "set", "n", number, "-m", f"change-{number}")

    last = pilothouse.ok("changes", "tail", "-n", "2", "--name", name).table()
    first = pilothouse.ok("changes", "tail", "-n", "1000", "--name", name, "--json").lines()
    since = pilothouse.ok("changes", "tail", "--since", first[3]["revision"], "--json").lines()

    assert [row[-1] for row in last] == ["change-3", "change-4"]
    assert [change["version"] for change in first] == [1, 2, 3, 4, 5]
    assert since == [first[4]]
    assert pilothouse.ok("changes", "tail", "-n", "0", "--json").lines() == []
    assert pilothouse.ok("changes", "tail", "--kind", "flag", "--name", name, "--json").out == ""


def test_changes_are_followed_until_ctrl_c(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "a", "1")
    with running(pilothouse, "changes", "tail", "-n", "1", "--follow", "--json") as process:
        before = json.loads(line(process))
        pilothouse.ok("config", "set", "a", "2")
        after = json.loads(line(process))
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE_SECONDS)

    assert after["revision"] == before["revision"] + 1
    assert after.keys() == before.keys()
    assert (process.returncode, rest) == (130, "")


def test_a_watched_configuration_tells_what_changes(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "db.host", "db1")
    with running(pilothouse, "config", "watch", "db", "--count", "3") as process:
        assert line(process).startswith("watching default/")
        pilothouse.ok("config", "set", "log.level", "debug")
        pilothouse.ok("config", "set", "db.host", "-", "--secret", stdin="hunter2")
        pilothouse.ok("config", "set", "db.port", "1")
        changed = [line(process).split()[1:] for _ in range(2)]
        pilothouse.ok("config", "unset", "db.port")
        changed.append(line(process).split()[1:])
        code = process.wait(10)

    assert (code, changed) == (
        0,
        [["~", "db.host", "db1", "->", "(secret)"], ["+", "db.port", "1"], ["-", "db.port", "1"]],
    )


def test_a_watch_outlives_an_absence_of_the_service(
    pilothouse: Terminal, service: ServiceProcess
) -> None:
    pilothouse.ok("config", "set", "a", "1")
    with running(pilothouse, "config", "watch", "--count", "1") as process:
        line(process)
        service.restart()
        waits = line(process)
        pilothouse.ok("config", "set", "a", "2")
        first_line = line(process)
        code = process.wait(10)

    assert waits.rstrip().endswith("waiting for it")
    assert (first_line.split()[1:], code) == (["~", "a", "1", "->", "2"], 0)


def test_a_watch_tells_programs_line_by_line(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "a", "0")
    with running(pilothouse, "config", "watch", "--count", "1", "--json") as process:
        # Nothing says that it watches by now: the first changes may come too early.
        for number in itertools.count(1):
            pilothouse.ok("config", "set", "a", number)
            if process.poll() is not None:
                break
        (last_line,) = process.communicate(timeout=PATIENCE_SECONDS)[0].splitlines()

    change = json.loads(last_line)
    assert (change["path"], change["change_type"]) == ("a", "modified")
    assert change["new_value"] == change["old_value"] + 1
    assert change["service_name"] == pilothouse.variables["PILOTHOUSE_SERVICE"]
