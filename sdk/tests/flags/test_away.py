"""Flags while the service is away, or says what nobody understands."""

import time
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from pilothouse import Pilothouse, PilothouseError, RefreshPolicy
from pilothouse.errors import BadAnswer, Forbidden, Unauthenticated, Unavailable
from pilothouse.transport import Limits
from sdk.tests.flags.test_held import flag, staff_only
from sdk.tests.scripted import Reply, ScriptedServer, configuration, flag_set, html, problem
from tests.servers.process import wait_until

SET = "/api/v1/flag-set"
OFTEN = RefreshPolicy("polling", poll_interval=0.01, backoff=0.01, longest_backoff=0.05)
STAFF = {
    "name": "staff",
    "version": 1,
    "when": {"attribute": "user_id", "op": "in", "values": ["ana"]},
}


@pytest.fixture
def server(scripted_server: ScriptedServer) -> ScriptedServer:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"a": 1})
    scripted_server.answers[SET] = lambda _: flag_set(staff_only("new"), segments=[STAFF])
    return scripted_server


def client_of(server: ScriptedServer, **more: Any) -> Pilothouse:
    return Pilothouse(server.url, "orders", **{"pace": OFTEN, "limits": Limits(timeout=2), **more})


def answers(client: Pilothouse) -> tuple[bool, bool]:
    return client.flags.is_on("new", user_id="ana"), client.flags.is_on("new", user_id="bob")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (html(), BadAnswer),
        (html(502), Unavailable),
        (Reply(body=b'{"flags": ['), BadAnswer),
        (Reply(body=b"[" * 100_000), BadAnswer),
        (configuration({"a": 1}), BadAnswer),
        (problem(401, "token_refused"), Unauthenticated),
        (problem(403, "denied"), Forbidden),
        (problem(503, "flags_unavailable"), Unavailable),
    ],
    ids=["html", "gateway", "cut", "deep", "another", "401", "403", "503"],
)
def test_the_last_good_set_stays_and_the_client_says_why(
    server: ScriptedServer,
    reply: Reply,
    error: type[PilothouseError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with client_of(server) as client:
        server.answers[SET] = lambda _: reply
        wait_until(lambda: client.flags.last_error is not None, "it is told")

        assert isinstance(client.flags.last_error, error)
        assert isinstance(client.last_error, error)
        assert answers(client) == (True, False)
        server.answers[SET] = lambda _: flag_set(flag("new", 2), revision=2)
        wait_until(lambda: answers(client) == (True, True), "the next one is taken")
        wait_until(lambda: client.last_error is None, "nothing is wrong any more")

    assert caplog.text.count("could not refresh flags") == 1


def test_one_flag_of_a_newer_format_harms_no_other(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(server) as client:
        newer = flag("new", 2, enabled=False, sticky={"for": "a day"})
        server.answers[SET] = lambda _: flag_set(newer, flag("b"), segments=[STAFF], revision=2)
        wait_until(lambda: client.flags.is_on("b"), "the other one is taken")

        assert answers(client) == (True, False)
        assert "flag new (/sticky" in str(client.last_error)

    assert caplog.text.count("cannot be read") == 1


def test_a_cold_start_evaluates_from_the_snapshot(server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    with client_of(server, snapshot=file):
        pass
    server.answers[SET] = server.answers["/api/v1/effective"] = lambda _: problem(503, "away")

    with client_of(server, snapshot=file, start_timeout=2) as client:
        assert answers(client) == (True, False)
        assert (client.flags.source, client.flags.is_stale) == ("snapshot", True)
        assert client.flags.age < 60
        assert isinstance(client.flags.last_error, Unavailable)
        assert client.config.get("a") == 1
    with client_of(server, snapshot=file, offline=True) as client:
        requests_before = len(server.requests)
        assert answers(client) == (True, False)
        assert not client.ready()
        client.refresh()
        with pytest.raises(PilothouseError, match="offline"):
            client.run(client.client.refresh())
        assert len(server.requests) == requests_before


def test_the_last_state_is_in_the_file_however_short_a_client_lived(
    server: ScriptedServer, tmp_path: Path
) -> None:
    for number in range(20):
        file = tmp_path / f"snapshot-{number}"
        with client_of(server, snapshot=file):
            pass

        assert b'"staff"' in file.read_bytes()


def test_a_damaged_part_of_the_snapshot_is_refused_and_told(
    server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "snapshot"
    with client_of(server, snapshot=file):
        pass
    file.write_bytes(file.read_bytes()[:-20])
    server.answers[SET] = lambda _: problem(503, "away")

    with client_of(server, snapshot=file, start_timeout=0.2) as client:
        assert client.flags.value("new", "mine", user_id="ana") == "mine"
        assert client.flags.details("new").error_code == "PROVIDER_NOT_READY"


def test_without_flags_none_are_asked_for(server: ScriptedServer) -> None:
    with client_of(server, flags=False) as client:
        assert client.ready()
        assert client.flags.is_on("new", default=True)
        client.refresh()

    assert server.count(SET) == 0


def test_no_evaluation_is_wrong_or_waits_while_the_service_is_away(server: ScriptedServer) -> None:
    heard: Queue[PilothouseError | None] = Queue()
    seconds, wrong = [], 0
    with client_of(server) as client:
        client.flags.on_status(heard.put)
        for reply in (problem(503, "away"), html(), problem(503, "away"), html(502)):
            server.answers[SET] = lambda _, reply=reply: reply  # type: ignore[misc]
            assert heard.get(timeout=30) is not None
            for _ in range(2000):
                began = time.perf_counter()
                wrong += answers(client) != (True, False)
                seconds.append(time.perf_counter() - began)

    assert wrong == 0
    # The machine may take the processor away at times; a read that waits would do so each time.
    assert sorted(seconds)[int(len(seconds) * 0.99)] < 0.001


def test_an_offline_client_has_what_it_is_given() -> None:
    client = Pilothouse.offline({"db": {"host": "local"}}, {"new": True, "colour": "blue"})

    assert client.config.get("db.host") == "local"
    assert client.flags.is_on("new")
    assert client.flags.value("colour") == "blue"
    assert client.flags.details("nowhere").error_code == "FLAG_NOT_FOUND"
    client.close()
