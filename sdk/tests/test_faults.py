"""What the client does when the service is away, or answers what no service answers."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilothouse import ConfigWatcher, Pilothouse, RefreshPolicy, RegistryConfigProvider
from pilothouse.errors import BadAnswer, SnapshotRefused, Unauthenticated, Unavailable
from pilothouse.transport import Limits
from sdk.tests.scripted import (
    Line,
    Reply,
    ScriptedServer,
    configuration,
    html,
    of_json,
    problem,
    unless_known,
)
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ServiceProcess

EFFECTIVE, STREAM = "/api/v1/effective", "/api/v1/stream"
QUICK = RefreshPolicy(backoff=0.01, longest_backoff=0.05, poll_interval=30.0, wait=1.0)
OFTEN = replace(QUICK, mode="polling", poll_interval=0.02)
EAGER = Limits(timeout=2, silence=5)


def client_of(server: ScriptedServer, pace: RefreshPolicy = QUICK, **more: Any) -> Pilothouse:
    return Pilothouse(server.url, "orders", pace=pace, limits=EAGER, start_timeout=2, **more)


def change_event(revision: int) -> str:
    data = f'{{"kind":"config","revision":{revision},"name":"orders"}}'
    return f"id: {revision}\nevent: config.changed\ndata: {data}\n\n"


class Held:
    """A server whose configuration is a = 1, with a stream that the test speaks on."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.line: Line = server.line()
        self.line.say("id: 1\n\n")
        self.answer(configuration({"a": 1}, 1))

    def answer(self, reply: Reply) -> None:
        if reply.status == 200 and "ETag" in reply.headers:
            self.server.answers[EFFECTIVE] = unless_known(reply)
        else:
            self.server.answers[EFFECTIVE] = lambda _: reply


@pytest.fixture
def held_server(scripted_server: ScriptedServer) -> Held:
    return Held(scripted_server)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (html(), BadAnswer),
        (html(502), Unavailable),
        (Reply(body=b'{"data": {'), BadAnswer),
        (of_json([1]), BadAnswer),
        (of_json({"data": [], "revision": 2}), BadAnswer),
        (of_json({"data": {"a": 2}}), BadAnswer),
        (of_json({"data": {"a": 2}, "revision": "2"}), BadAnswer),
        (Reply(body=b"[" * 100_000), BadAnswer),
        (problem(401, "token_refused"), Unauthenticated),
        (problem(503, "config_store_unavailable"), Unavailable),
    ],
    ids=["html", "gateway", "cut", "list", "no tree", "no revision", "text", "deep", "401", "503"],
)
def test_a_broken_update_is_refused_told_and_got_over(
    held_server: Held, reply: Reply, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(held_server.server) as client:
        held_server.answer(reply)
        held_server.line.say(change_event(2))
        wait_until(lambda: client.last_error is not None, "the update is refused")

        assert isinstance(client.last_error, error)
        assert client.config.get("a") == 1
        assert client.config.source == "service"
        assert "could not refresh configuration" in caplog.text

        held_server.answer(configuration({"a": 3}, 3))
        wait_until(lambda: client.config.get("a") == 3, "the next one is taken")
        wait_until(lambda: client.last_error is None, "nothing is wrong any more")


def test_a_refused_update_is_told_once_however_often_it_comes(
    held_server: Held, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(held_server.server, OFTEN) as client:
        held_server.answer(html())
        before = held_server.server.count(EFFECTIVE)
        wait_until(lambda: held_server.server.count(EFFECTIVE) > before + 4, "it came often")
        assert client.config.get("a") == 1

    assert caplog.text.count("could not refresh configuration") == 1


def test_without_a_stream_reads_wait_and_without_waits_they_poll(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers[EFFECTIVE] = unless_known(configuration({"a": 1}, 1))

    with client_of(scripted_server, replace(QUICK, poll_interval=0.02)) as client:
        wait_until(lambda: scripted_server.count(EFFECTIVE) > 4, "it is read again and again")
        assert client.config.get("a") == 1
        scripted_server.answers[EFFECTIVE] = unless_known(configuration({"a": 2}, 2))
        wait_until(lambda: client.config.get("a") == 2, "the change is heard of")

    reads = [request for request in scripted_server.requests if request.path == EFFECTIVE]
    assert "prefer" not in reads[0].headers
    assert "wait=1" in {request.headers.get("prefer") for request in reads}


def test_a_token_that_expires_in_mid_stream_is_told_and_a_new_one_is_used(
    held_server: Held, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = ["old"]
    held_line = held_server.line

    with client_of(held_server.server, token=lambda: tokens[-1]) as client:
        refused = problem(401, "token_refused")
        held_server.server.answers[STREAM] = lambda _: refused
        held_server.answer(refused)
        held_line.end()
        wait_until(lambda: isinstance(client.last_error, Unauthenticated), "the token is refused")
        assert client.config.get("a") == 1

        tokens.append("new")
        anew = Held(held_server.server)
        anew.answer(configuration({"a": 2}, 2))
        wait_until(lambda: client.config.get("a") == 2, "the new token is used")
        wait_until(lambda: client.last_error is None, "nothing is wrong any more")

    assert held_server.server.requests[-1].headers["authorization"] == "Bearer new"
    assert "token_refused" in caplog.text


def test_a_reset_and_an_event_that_is_not_understood_make_it_read_anew(held_server: Held) -> None:
    with client_of(held_server.server) as client:
        for revision, event in enumerate(
            ['event: reset\ndata: {"revision":9}\n\n', "event: config.changed\ndata: what\n\n"], 2
        ):
            held_server.answer(configuration({"a": revision}, revision))
            held_server.line.say(event)
            wait_until(lambda now=revision: client.config.get("a") == now, "it is read")  # type: ignore[misc]


def test_a_stream_that_drains_is_opened_elsewhere(held_server: Held) -> None:
    with client_of(held_server.server) as client:
        first = held_server.line
        second = Held(held_server.server)
        second.answer(configuration({"a": 2}, 2))
        first.say("retry: 1\nevent: drain\ndata: {}\n\n")
        wait_until(lambda: client.config.get("a") == 2, "what happened meanwhile is read")
        second.answer(configuration({"a": 3}, 3))
        second.line.say(change_event(3))
        wait_until(lambda: client.config.get("a") == 3, "the second stream is heard")

    first.end()


def test_other_kinds_and_other_users_are_not_read_for(held_server: Held) -> None:
    with client_of(held_server.server) as client:
        wait_until(
            lambda: held_server.server.count(EFFECTIVE) >= 2, "it has read after the opening"
        )
        for kind, name in [("flag", "orders"), ("config", "orders/ana"), ("config", "other")]:
            held_server.line.say(f'event: x\ndata: {{"kind":"{kind}","name":"{name}"}}\n\n')
        held_server.answer(configuration({"a": 2}, 2))
        held_server.line.say(change_event(2))
        wait_until(lambda: client.config.get("a") == 2, "the fourth is read for")

    assert held_server.server.count(EFFECTIVE) == 3


def test_a_service_that_was_set_back_is_believed_in_the_end(held_server: Held) -> None:
    """After a restored backup revisions are lower than what the stream once told."""
    with client_of(held_server.server) as client:
        reply = configuration({"a": 0}, 1)
        held_server.server.answers[EFFECTIVE] = lambda request: (
            problem(503, "revision_not_reached") if "min_revision" in request.query else reply
        )
        held_server.line.say(change_event(1000))
        wait_until(lambda: client.config.get("a") == 0, "the lower revision is taken")


def test_a_constructor_does_not_raise_and_the_service_is_found_later(tmp_path: Path) -> None:
    with ScriptedServer() as gone:
        url = gone.url
    began = time.monotonic()

    with (
        Pilothouse(url, "orders", defaults={"a": 5}, start_timeout=0.1) as client,
        RegistryConfigProvider(url, "orders", cache_ttl_seconds=1) as provider,
    ):
        assert (client.config.get("a"), client.config.source) == (5, "defaults")
        assert client.config.is_stale
        wait_until(lambda: client.last_error is not None, "it was tried once")
        assert isinstance(client.last_error, Unavailable)
        assert provider.get("a", "x") == "x"
        assert provider.get_int("a", 7) == 7
        assert provider.get_bool("a") is False
        assert provider.refresh() is False

    assert time.monotonic() - began < 60


def test_the_snapshot_is_there_while_the_service_is_not(held_server: Held, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    with client_of(held_server.server, snapshot=file):
        pass
    held_server.answer(problem(503, "config_store_unavailable"))
    held_server.server.answers.pop(STREAM)

    with client_of(held_server.server, snapshot=file) as client:
        assert (client.config.get("a"), client.config.source) == (1, "snapshot")
        assert client.config.is_stale
        assert 0 <= client.config.age < 60
        held_server.answer(configuration({"a": 2}, 2))
        wait_until(lambda: client.config.get("a") == 2, "the service is back")
        assert (client.config.source, client.config.is_stale) == ("service", False)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: whole[:-3] + b"9}}"])
def test_a_damaged_snapshot_is_refused_and_told(
    held_server: Held,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "snapshot"
    with client_of(held_server.server, snapshot=file):
        pass
    file.write_bytes(damage(file.read_bytes()))
    held_server.answer(problem(403, "denied"))

    with client_of(held_server.server, snapshot=file, defaults={"a": 5}) as client:
        assert (client.config.get("a"), client.config.source) == (5, "defaults")
        assert client.last_error is not None
        held_server.answer(configuration({"a": 2}, 2))
        wait_until(lambda: client.config.get("a") == 2, "the service is there")
        wait_until(lambda: client.last_error is None, "a whole snapshot was written")

    assert "continuing without the snapshot" in caplog.text
    with client_of(held_server.server, snapshot=file) as client:
        assert not isinstance(client.last_error, SnapshotRefused)


def test_a_snapshot_that_cannot_be_written_is_told(held_server: Held, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with client_of(held_server.server, snapshot=tmp_path / "file" / "below") as client:
        wait_until(lambda: client.last_error is not None, "it is told")
        assert client.config.get("a") == 1


def test_a_clock_that_jumps_changes_nothing(
    held_server: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(held_server.server, OFTEN) as client:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        held_server.answer(configuration({"a": 2}, 2))
        wait_until(lambda: client.config.get("a") == 2, "reads go on")
        assert not client.config.is_stale
        monkeypatch.setattr(time, "time", lambda: 4e9)
        held_server.answer(configuration({"a": 3}, 3))
        wait_until(lambda: client.config.get("a") == 3, "reads go on")
        assert client.config.age < 30


@pytest.fixture(scope="module")
def mortal() -> Iterator[ServiceProcess]:
    with ServiceProcess({}) as process:
        yield process


def test_a_killed_service_is_missed_by_nobody_who_reads(mortal: ServiceProcess) -> None:
    def write(value: int) -> None:
        query = "/api/v1/config?environment=production&service_name=orders"
        assert mortal.request("PATCH", query, {"set": {"a": value}}).status == 200

    write(1)
    heard: list[dict[str, Any]] = []
    watcher = ConfigWatcher(mortal.url, "orders", "production", 0.2, heard.append)
    watcher.start(block=False)
    threads = threading.active_count()
    with Pilothouse(mortal.url, "orders", "production", pace=QUICK) as client:
        mortal.kill()
        wait_until(lambda: client.last_error is not None, "it is told")
        slowest = 0.0
        for _ in range(2000):
            began = time.perf_counter()
            assert client.config.get_int("a") == 1
            slowest = max(slowest, time.perf_counter() - began)
        mortal.restart()
        write(2)
        wait_until(lambda: client.config.get("a") == 2, "it is back")
        wait_until(lambda: heard == [{"a": 2}], "the watcher tells the whole configuration")
    watcher.stop()
    watcher.stop()

    assert slowest < SLACK_SECONDS  # a look into memory; what is above are other processes
    assert threading.active_count() < threads
    assert not watcher.is_running
