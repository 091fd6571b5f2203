"""pilothouse services, against the real service."""

import json
import signal
import subprocess
import threading

import pytest

from pilothouse.cli.signals import noticing_signals
from sdk.tests.cli.terminal import Terminal
from sdk.tests.scripted import Line, ReceivedRequest, Reply, ScriptedServer, of_json
from tests.servers.process import PATIENCE_SECONDS, wait_until


def test_an_instance_is_registered_found_and_drained(pilothouse: Terminal) -> None:
    pay = pilothouse.variables["PILOTHOUSE_SERVICE"]

    made = pilothouse.ok(
        *("services", "register", pay, "http://10.0.0.1:8080", "--id", "pay-1"),
        *("--zone", "a", "--version", "1.2", "--metadata", "team=blue", "--json"),
    ).json()
    rows = pilothouse.ok("services", "discover", pay, "--zone", "a").table()
    listed = pilothouse.ok("services", "list").table()
    drained = pilothouse.ok("services", "drain", pay, "pay-1", "--grace", "60").out

    assert made["lease"]["kind"] == "heartbeat"
    assert rows == [["pay-1", "http://10.0.0.1:8080", "up", "1.2", "a", "100"]]
    assert [pay, "1", "1"] in listed
    assert "pay-1 is drained" in drained
    assert pilothouse.ok("services", "discover", pay, "--json").json()["items"] == []
    assert pilothouse.ok("services", "discover", pay, "--all").table()[0][2] == "draining"


def test_instances_of_one_environment_are_listed_where_it_is_typed(pilothouse: Terminal) -> None:
    for id_, environment in (("tax-1", "production"), ("tax-2", "staging")):
        stated = ("--id", id_, "--metadata", f"environment={environment}")
        pilothouse.ok("services", "register", "tax", f"http://{id_}.example:80", *stated)

    command = ("services", "discover", "tax")
    with_environment = pilothouse.ok(*command, "--environment", "production").table()

    assert [row[0] for row in with_environment] == ["tax-1"]
    assert [row[0] for row in pilothouse.ok(*command).table()] == ["tax-1", "tax-2"]


def test_who_is_not_there_cannot_be_drained(pilothouse: Terminal) -> None:
    assert pilothouse("services", "drain", "pay", "nobody").code == 3
    assert pilothouse("services", "register", "pay", "nowhere").code == 1
    assert pilothouse("services", "register", "pay", "http://a", "--metadata", "x").code == 2


def test_the_silent_are_released_of_one_service_or_of_all(pilothouse: Terminal) -> None:
    def is_hint_shown() -> bool:
        return "they are dead, run" in pilothouse("services", "discover", "lost").err

    def is_empty() -> bool:
        return not pilothouse.ok("services", "discover", "lost", "--json").json()["items"]

    for number in range(6):
        url = f"http://10.0.3.{number}:80"
        pilothouse.ok("services", "register", "lost", url, "--ttl", "1")
    wait_until(is_hint_shown, "they are protected")

    one = pilothouse.ok("services", "release", "lost", "--json").json()
    wait_until(is_empty, "they are gone")
    every = pilothouse.ok("services", "release", "--all").out

    assert one == {"service_name": "lost", "released": 6}
    assert "all services: " in every
    assert pilothouse("services", "release").code == 2
    assert pilothouse("services", "release", "lost", "--all").code == 2
    assert pilothouse("services", "release", "a b").code == 1


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_kept_instance_goes_with_the_command(
    pilothouse: Terminal, number: signal.Signals, expected: int
) -> None:
    words = ("services", "register", "cart", "http://10.0.0.2:80", "--keep", "--json")
    # Whatever runs the tests may ignore SIGHUP, as `nohup` does, and this would be inherited.
    command = ("env", "--default-signal=HUP", *pilothouse.argv, *words)
    with subprocess.Popen(command, env=pilothouse.environment, stdout=subprocess.PIPE) as kept:
        try:
            assert kept.stdout is not None
            kept.stdout.readline()
            there = pilothouse.ok("services", "discover", "cart", "--json").json()["items"]
            kept.send_signal(number)
            code = kept.wait(2 * PATIENCE_SECONDS)
        finally:
            kept.kill()

    assert (len(there), code) == (1, expected)
    wait_until(
        lambda: pilothouse.ok("services", "list", "--json").out.count('"cart"') == 0, "it has gone"
    )


def test_a_signal_ends_a_heartbeat_that_hangs_and_the_instance_goes(
    nowhere: Terminal, scripted_server: ScriptedServer
) -> None:
    line, left = Line(), list[ReceivedRequest]()
    lease = {"ttl_seconds": 1, "heartbeat_url": "/beat"}
    registration = {"service_name": "cart", "instance_id": "1", "epoch": 3, "lease": lease}

    def deregister(request: ReceivedRequest) -> Reply:
        left.append(request)
        return of_json({})

    beaten = threading.Event()

    def hang(_: ReceivedRequest) -> Reply:
        beaten.set()
        return line.reply()

    scripted_server.answers["/api/v1/registry/register"] = lambda _: of_json(registration, 201)
    scripted_server.answers["/beat"] = hang
    scripted_server.answers["/api/v1/registry/deregister"] = deregister
    words = ("services", "register", "cart", "http://10.0.0.2:80", "--keep", "--json")
    environment = {**nowhere.environment, "PILOTHOUSE_URL": scripted_server.url}
    with subprocess.Popen([*nowhere.argv, *words], env=environment, stdout=subprocess.PIPE) as kept:
        assert beaten.wait(2 * PATIENCE_SECONDS)
        kept.send_signal(signal.SIGTERM)
        code = kept.wait(2 * PATIENCE_SECONDS)
        line.end()

    assert (code, len(left)) == (143, 1)
    assert json.loads(left[0].body) == {"service_name": "cart", "instance_id": "1", "epoch": 3}


def test_signals_mean_what_they_did_before_once_it_has_ended() -> None:
    interrupted: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    with noticing_signals() as ending:
        with ending.interrupting(lambda: interrupted.append(1)):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            ending.pause(60)

    assert (ending.exit_code, interrupted) == (143, [1])
    assert signal.getsignal(signal.SIGTERM) is before
