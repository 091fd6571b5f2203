"""pilothouse services, against the real service."""

import signal
import subprocess

from sdk.tests.cli.terminal import Terminal
from tests.servers.process import wait_until


def test_an_instance_is_registered_found_and_drained(pilothouse: Terminal) -> None:
    pay = pilothouse.variables["PILOTHOUSE_SERVICE"]

    made = pilothouse.ok(
        *("services", "register", pay, "http://10.0.0.1:8080", "--id", "pay-1"),
        *("--zone", "a", "--version", "1.2", "--metadata", "team=blue", "--json"),
    ).json()
    found = pilothouse.ok("services", "discover", pay, "--zone", "a").table()
    listed = pilothouse.ok("services", "list").table()
    drained = pilothouse.ok("services", "drain", pay, "pay-1", "--grace", "60").out

    assert made["lease"]["kind"] == "heartbeat"
    assert found == [["pay-1", "http://10.0.0.1:8080", "up", "1.2", "a", "100"]]
    assert [pay, "1", "1"] in listed
    assert "pay-1 drains" in drained
    assert pilothouse.ok("services", "discover", pay, "--json").json()["items"] == []
    assert pilothouse.ok("services", "discover", pay, "--all").table()[0][2] == "draining"


def test_who_is_not_there_cannot_be_drained(pilothouse: Terminal) -> None:
    assert pilothouse("services", "drain", "pay", "nobody").code == 3
    assert pilothouse("services", "register", "pay", "nowhere").code == 1
    assert pilothouse("services", "register", "pay", "http://a", "--metadata", "x").code == 2


def test_a_kept_instance_goes_with_the_command(pilothouse: Terminal) -> None:
    words = ("services", "register", "cart", "http://10.0.0.2:80", "--keep", "--json")
    with subprocess.Popen(
        [*pilothouse.argv, *words], env=pilothouse.environment, stdout=subprocess.PIPE
    ) as kept:
        assert kept.stdout is not None
        kept.stdout.readline()
        there = pilothouse.ok("services", "discover", "cart", "--json").json()["items"]
        kept.send_signal(signal.SIGINT)
        code = kept.wait(10)

    assert (len(there), code) == (1, 130)
    wait_until(
        lambda: pilothouse.ok("services", "list", "--json").out.count('"cart"') == 0, "it has gone"
    )
