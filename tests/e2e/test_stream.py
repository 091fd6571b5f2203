"""GET /api/v1/stream against the running service."""

import socket
from contextlib import ExitStack
from time import monotonic
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import Layer, Service, body_of, fresh_name
from tests.e2e.events import listening
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.proxy import LossyProxy
from tests.servers.service import ServiceProcess


def selection(layer: Layer) -> str:
    return f"?environment={layer.environment}&service_name={layer.service}"


def test_a_change_is_told_with_its_revision_and_without_its_value(layer: Layer) -> None:
    with listening(layer.of.process.url, selection(layer)) as events:
        events.first_revision()
        answer = layer.create("database.host", "do-not-tell")
        revision = int(answer.headers["X-Revision"])

        event = events.until(lambda event: event.name == "config.changed")[-1]

    assert events.headers["content-type"].startswith("text/event-stream")
    assert event.id == revision
    assert event.data == {
        "revision": revision,
        "kind": "config",
        "action": "created",
        "environment": layer.environment,
        "name": layer.service,
        "version": 1,
        "actor": "anonymous",
        "at": event.data["at"],
    }


def test_a_service_hears_of_its_layers_and_of_no_other(layer: Layer) -> None:
    other, shared = layer.at(service=fresh_name()), layer.at(service="_shared")
    user = layer.at(user="ada@example.org")

    with listening(layer.of.process.url, selection(layer)) as events:
        events.first_revision()
        for changed in (other, shared, user, layer):
            body_of(changed.create("a", 1), 201)
        heard = events.until(lambda event: event.data and event.data["name"] == layer.service)

    names = [event.data["name"] for event in heard if event.data]
    assert other.service not in names
    assert names == ["_shared", f"{layer.service}/ada@example.org", layer.service]


def test_a_client_goes_on_exactly_where_it_was(layer: Layer) -> None:
    revisions = [
        int(layer.create(f"key{number}", number).headers["X-Revision"]) for number in range(5)
    ]

    with listening(layer.of.process.url, selection(layer), last_event_id=revisions[1]) as events:
        heard = events.until(lambda event: event.id == revisions[-1])
        body_of(layer.create("later", 1), 201)
        after = events.until(lambda event: event.data and event.data["version"] == 6)

    assert [event.id for event in heard if event.name] == revisions[2:]
    assert [event.data["version"] for event in after if event.name] == [6]


def test_a_revision_from_a_replica_that_is_ahead_is_waited_for(layer: Layer) -> None:
    now = int(layer.create("a", 1).headers["X-Revision"])

    with listening(layer.of.process.url, selection(layer), last_event_id=now + 1) as events:
        assert events.first_revision() == now + 1
        body_of(layer.put("a", 2))  # this is the revision the client has seen elsewhere
        revision = int(layer.put("a", 3).headers["X-Revision"])
        heard = events.until(lambda event: event.id == revision)

    assert all(event.id and event.id > now + 1 for event in heard)


def test_a_revision_that_never_was_ends_in_a_reset(layer: Layer) -> None:
    now = int(layer.create("a", 1).headers["X-Revision"])

    with listening(layer.of.process.url, selection(layer), last_event_id=10**17) as events:
        assert events.first_revision() == 10**17
        reset = events.until(lambda event: event.name == "reset")[-1]
        revision = int(layer.put("a", 2).headers["X-Revision"])
        heard = events.until(lambda event: event.id == revision)

    assert now <= (reset.id or 0) < revision
    assert [event.id for event in heard if event.name == "config.changed"][-1] == revision


def test_before_the_log_was_read_nobody_is_told_that_nothing_was_missed(real: Service) -> None:
    layer = real.layer()
    before = int(layer.create("a", 1).headers["X-Revision"] or 0)
    missed = int(layer.put("a", 2).headers["X-Revision"] or 0)
    database = urlsplit(real.settings["DATABASE_URL"])
    with LossyProxy(database.hostname or "", database.port or 0) as proxy, ExitStack() as stack:
        proxy.refuse()
        address = database.netloc.rpartition(":")[0] + f":{proxy.port}"
        settings = {**real.settings, "DATABASE_URL": database._replace(netloc=address).geturl()}
        blind = stack.enter_context(ServiceProcess(settings))
        query = selection(layer)
        resumed = stack.enter_context(listening(blind.url, query, last_event_id=before))
        fresh = stack.enter_context(listening(blind.url, query))
        proxy.heal()

        told_of = resumed.until(lambda event: event.id is not None)
        goes_on_from = fresh.first_revision()

    assert told_of[0].id == missed
    assert goes_on_from >= missed


def test_kinds_are_selected(layer: Layer) -> None:
    with (
        listening(layer.of.process.url, "?kinds=flag") as flags,
        listening(layer.of.process.url, "?kinds=config,flag") as both,
    ):
        flags.first_revision()
        both.first_revision()
        revision = int(layer.create("a", 1).headers["X-Revision"])
        both.until(lambda event: event.id == revision)
        flags.connection.settimeout(0.3)
        try:
            heard = [event for event in flags if event.name]
        except TimeoutError:
            heard = []

    assert heard == []


def test_an_unknown_kind_is_refused(service: Service) -> None:
    answer = service.get("/api/v1/stream", kinds="config,weather")

    assert answer.status == 422
    assert answer.json()["code"] == "bad_kind"


def test_one_stream_too_many_is_sent_elsewhere_before_any_work() -> None:
    with ServiceProcess({"STREAM_LIMIT": "2"}) as process, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(listening(process.url)).first_revision()

        answer = process.request("GET", "/api/v1/stream")

        assert answer.status == 503
        assert answer.json()["code"] == "too_many_streams"
        assert int(answer.headers["Retry-After"]) > 0


def test_a_stop_drains_streams_with_a_retry_of_their_own_and_ends_in_time() -> None:
    with ServiceProcess({}) as process, ExitStack() as stack:
        streams = [stack.enter_context(listening(process.url)) for _ in range(20)]
        for stream in streams:
            stream.first_revision()

        started = monotonic()
        process.stop()
        seconds = monotonic() - started
        drains = [stream.until(lambda event: event.name == "drain")[-1] for stream in streams]

    assert seconds < 3 + SLACK_SECONDS
    assert len({drain.retry for drain in drains}) > 10


@pytest.mark.slow
def test_a_client_that_stops_reading_is_cut_off_within_ten_seconds(
    service_embedded: Service,
) -> None:
    layer = service_embedded.layer()
    slow = _deaf_client(service_embedded)
    before = service_embedded.metric('pilothouse_streams_closed_total{reason="slow"}')
    started = monotonic()

    with slow:
        number = 0
        while service_embedded.metric('pilothouse_streams_closed_total{reason="slow"}') == before:
            assert monotonic() - started < 25, "the client was never cut off"
            body_of(layer.patch(set={f"k{number % 50}": number}, comment="x" * 900))
            for other in range(20):
                body_of(layer.at(service=f"{layer.service}{other}").patch(set={"n": number}))
            number += 1


def _deaf_client(service: Service) -> socket.socket:
    """Ask for the whole log again and again on one connection, and read none of it."""
    address = urlsplit(service.process.url)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.connect((address.hostname, address.port))
    head = f"GET /api/v1/stream HTTP/1.1\r\nHost: {address.netloc}\r\nLast-Event-ID: 0\r\n"
    deaf.sendall(f"{head}\r\n".encode())
    return deaf


def test_a_client_that_leaves_is_forgotten(service_embedded: Service) -> None:
    before = service_embedded.metric("pilothouse_streams")
    with listening(service_embedded.process.url) as events:
        events.first_revision()
        assert service_embedded.metric("pilothouse_streams") == before + 1

    wait_until(lambda: service_embedded.metric("pilothouse_streams") == before, "it is forgotten")
