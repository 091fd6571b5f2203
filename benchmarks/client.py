"""The client library: how soon it hears of a change, what reads cost, how fast it starts."""

import gc
import json
import logging
import os
from array import array
from collections.abc import Callable
from os import pread
from pathlib import Path
from queue import Queue
from subprocess import run
from sys import executable
from tempfile import TemporaryDirectory
from threading import get_native_id
from time import perf_counter, sleep

from benchmarks.load import Figures
from benchmarks.table import Row
from pilothouse import ConfigChange, Pilothouse
from tests.servers.service import ServiceProcess

CHANGES = 200
READS = 100_000
EVALUATIONS = 100_000
AWAY = 5.0  # seconds
COLD_STARTS = 50
NEW_PROCESSES = 50
_PROGRAM = """
import sys
from time import perf_counter

began = perf_counter()
from pilothouse import Pilothouse

imported = perf_counter()
with Pilothouse(*sys.argv[1:4], snapshot=sys.argv[4]) as client:
    assert client.config.get("section1.key1") == "value 1"
    assert client.flags.details("flag-1", user_id="ana", country="DE").bucket is not None
    print(imported - began, perf_counter() - imported)
    assert client.config.source == "snapshot"
"""
_BLOCKED = 0.001  # seconds
_KEYS = 1000  # of the configuration that is held
_FLAGS = 100
_SERVICE, _ENVIRONMENT = "client", "production"
_QUERY = f"environment={_ENVIRONMENT}&service_name={_SERVICE}"


def clients(service: ServiceProcess) -> list[Row]:
    values = {f"section{number % 20}.key{number}": f"value {number}" for number in range(_KEYS)}
    written = service.request("PATCH", f"/api/v1/config?{_QUERY}", {"set": values})
    assert written.status == 200, written.body
    logging.getLogger("pilothouse").setLevel(logging.ERROR)  # the service will be away on purpose
    with TemporaryDirectory() as folder:
        file = Path(folder) / "snapshot"
        with Pilothouse(service.url, _SERVICE, _ENVIRONMENT, snapshot=file) as client:
            rows = [
                *_time_to_callbacks(service, client),
                _reads(client),
                *_evaluations(service, client),
            ]
            rows += _without_the_service(service, client)
        return [*rows, _cold_starts(service.url, file), *_new_processes(service.url, file)]


def _time_to_callbacks(service: ServiceProcess, client: Pilothouse) -> list[Row]:
    """Write, and wait for the callback: from the request, and from its answer."""
    heard: Queue[tuple[float, ConfigChange]] = Queue()
    client.on_change("section7", lambda change: heard.put((perf_counter(), change)))
    whole, after = [], []
    for number in range(CHANGES):
        body = json.dumps({"value": f"change {number}"}).encode()
        started = perf_counter()
        path = f"/api/v1/config/section7.key7?{_QUERY}"
        service.request("PUT", path, data=body, headers={"Content-Type": "application/json"})
        answered = perf_counter()
        moment, change = heard.get(timeout=30)
        assert change.new_value == f"change {number}"
        whole.append(moment - started)
        after.append(max(0.0, moment - answered))
    name = f"client, {_KEYS:,} keys: "
    return [
        Row(f"{name}write to callback", Figures(whole, CHANGES / sum(whole)), None),
        Row(f"{name}answer of the write to callback", Figures(after, CHANGES / sum(after)), None),
    ]


def _reads(client: Pilothouse) -> Row:
    seconds = []
    began = perf_counter()
    for number in range(READS):
        started = perf_counter()
        client.config.get(f"section{number % 20}.key{number % 1000}")
        seconds.append(perf_counter() - started)
    return Row("client: config.get", Figures(seconds, READS / (perf_counter() - began)), None)


def _evaluations(service: ServiceProcess, client: Pilothouse) -> list[Row]:
    """One condition and a rollout, with a context of its own each time."""
    when = {"attribute": "country", "op": "in", "values": ["DE", "FR"]}
    serve = {"rollout": {"weights": {"on": 50, "off": 50}}}
    for number in range(_FLAGS):
        definition = {
            "name": f"flag-{number}",
            "environment": _ENVIRONMENT,
            "type": "boolean",
            "variants": {"on": True, "off": False},
            "default_variant": "off",
            "off_variant": "off",
            "enabled": True,
            "rules": [{"id": "share", "when": when, "serve": serve}],
        }
        answer = service.request("POST", "/api/v1/feature-flags", definition)
        assert answer.status == 201, answer.body
    client.refresh()
    users = [f"user-{number}" for number in range(1000)]

    def row(name: str, evaluate: Callable[[str, str], object]) -> Row:
        seconds = []
        began = perf_counter()
        for number in range(EVALUATIONS):
            flag, user = f"flag-{number % _FLAGS}", users[number % 1000]
            started = perf_counter()
            evaluate(flag, user)
            seconds.append(perf_counter() - started)
        figures = Figures(seconds, EVALUATIONS / (perf_counter() - began))
        return Row(f"client, a condition and a rollout: {name}", figures, None)

    flags = client.flags
    return [
        row("flags.is_on", lambda flag, user: flags.is_on(flag, user_id=user, country="DE")),
        row("flags.details", lambda flag, user: flags.details(flag, user_id=user, country="DE")),
    ]


def _without_the_service(service: ServiceProcess, client: Pilothouse) -> list[Row]:
    """Kill it, and go on reading while the client tries to come back, as often as it ever does."""
    service.kill()
    while client.last_error is None:
        sleep(0.01)
    users = [f"user-{number}" for number in range(1000)]
    rows = [
        _away(
            "config.get",
            lambda number: client.config.get(f"section{number % 20}.key{number}"),
        ),
        _away(
            "flags.is_on",
            lambda number: client.flags.is_on(
                f"flag-{number % _FLAGS}", user_id=users[number], country="DE"
            ),
        ),
    ]
    assert client.last_error is not None
    return rows


def _away(name: str, read: Callable[[int], object]) -> Row:
    """Read for some seconds, and count what took longer than a millisecond.

    The time in which others had the core is taken off there: on a busy machine they hold up every
    program. To wait for a lock or for the interpreter is no such time.
    """
    seconds = array("d")  # the garbage collector would look through a list of millions
    blocked = 0
    began = perf_counter()
    with Path(f"/proc/self/task/{get_native_id()}/schedstat").open("rb", buffering=0) as schedule:

        def seconds_without_core() -> float:
            return int(pread(schedule.fileno(), 100, 0).split()[1]) / 1e9

        while perf_counter() - began < AWAY:
            for number in range(1000):
                before = seconds_without_core()
                started = perf_counter()
                read(number)
                seconds.append(perf_counter() - started)
                if (
                    seconds[-1] > _BLOCKED
                    and seconds[-1] - (seconds_without_core() - before) > _BLOCKED
                ):
                    blocked += 1
    blocking = f"{blocked} of {len(seconds):,} blocked for 1 ms"
    figures = Figures(seconds, len(seconds) / sum(seconds))
    return Row(f"client, service killed: {name} ({blocking})", figures, None)


def _cold_starts(url: str, file: Path) -> Row:
    """Begin with nobody at the service's address, until the first value is read."""
    seconds = []
    # A full collection would go through all that was imported and kept here: 250 ms.
    gc.collect()
    gc.freeze()
    for _ in range(COLD_STARTS):
        started = perf_counter()
        with Pilothouse(url, _SERVICE, _ENVIRONMENT, snapshot=file) as client:
            assert client.config.get("section1.key1") == "value 1"
            assert client.flags.details("flag-1", user_id="ana", country="DE").bucket is not None
            seconds.append(perf_counter() - started)
            assert client.config.source == "snapshot"
    gc.unfreeze()
    what = f"{_KEYS:,} keys and {_FLAGS} flags, slowest {max(seconds) * 1000:.1f} ms"
    name = f"client: cold start from the snapshot ({what})"
    return Row(name, Figures(seconds, COLD_STARTS / sum(seconds)), None)


def _new_processes(url: str, file: Path) -> list[Row]:
    """Begin as above, but each time in a process that has done nothing yet."""
    program = (executable, "-W", "ignore", "-c", _PROGRAM, url, _SERVICE, _ENVIRONMENT, str(file))
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(file.with_suffix(".pyc"))}
    environment = {**os.environ, **bytecode}  # as a package that was installed has it

    def ran() -> list[float]:
        output = run(program, env=environment, check=True, capture_output=True).stdout
        return [float(seconds) for seconds in output.split()]

    ran()  # writes the bytecode
    times = [ran() for _ in range(NEW_PROCESSES)]
    rows = []
    for what, seconds in zip(("imports", "cold start"), zip(*times, strict=True), strict=True):
        figures = Figures(list(seconds), NEW_PROCESSES / sum(seconds))
        slowest = f"slowest {max(seconds) * 1000:.1f} ms"
        rows.append(Row(f"client: {what} in a new process ({slowest})", figures, None))
    return rows
