"""Finding others: a view in memory, kept while the service is away, and balanced here."""

import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilothouse import AsyncPilothouse, Pilothouse
from pilothouse.errors import Unavailable
from pilothouse.registry import NoInstance, NothingKnown
from sdk.tests.registry.conftest import QUICK
from sdk.tests.scripted import ScriptedServer, configuration, html, of_json
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ServiceProcess

ITEM: dict[str, Any] = {
    "service_name": "billing",
    "instance_id": "b-1",
    "service_url": "http://10.0.0.5:8080",
    "address": "10.0.0.5",
    "port": 8080,
    "scheme": "http",
    "health_check_url": None,
    "metadata": {},
    "tags": [],
    "weight": 100,
    "zone": None,
    "version": None,
    "status": "up",
    "foreign": False,
    "epoch": 1,
    "registered_at": "2026-01-02T03:04:05.678901Z",
}
DISCOVER = "/api/v1/registry/discover/billing"


def url(number: int) -> str:
    return f"http://10.0.0.{number}:8080"


def put(service: ServiceProcess, name: str, number: int, **more: object) -> None:
    body = {"service_name": name, "service_url": url(number), "instance_id": f"b-{number}", **more}
    assert service.request("POST", "/api/v1/registry/register", body).status in {200, 201}


def test_instances_are_found_by_what_they_said_and_followed(
    client: Pilothouse, service: ServiceProcess, name: str
) -> None:
    put(service, name, 1, tags=["blue"], version="2", zone="eu", metadata={"team": "x"})
    put(service, name, 2, tags=["green"])

    instances = client.registry.discover(name)
    assert [one.url for one in instances] == [url(1), url(2)]
    assert (len(instances), instances[0].metadata, instances[0].version) == (2, {"team": "x"}, "2")
    assert (instances.is_stale, instances.is_protected, instances[0].is_foreign) == (
        False,
        False,
        False,
    )
    assert [one.instance_id for one in client.registry.discover(name, tag="green")] == ["b-2"]
    assert [one.instance_id for one in client.registry.discover(name, version="2")] == ["b-1"]
    assert [one.instance_id for one in client.registry.discover(name, zone="eu")] == ["b-1"]
    assert not client.registry.discover(name, zone="us")

    put(service, name, 3)
    wait_until(lambda: len(client.registry.discover(name)) == 3, "the third one is heard of")


def test_urls_are_balanced_as_the_service_does(
    client: Pilothouse, service: ServiceProcess, name: str
) -> None:
    put(service, name, 1, weight=200)
    put(service, name, 2, weight=100)
    put(service, name, 3, weight=0)
    registry = client.registry

    assert Counter(registry.url(name) for _ in range(30)) == {url(1): 20, url(2): 10}
    assert {registry.url(name, "least_recent") for _ in range(2)} == {url(1), url(2)}
    assert {registry.url(name, "random") for _ in range(100)} == {url(1), url(2)}
    for key in ("ann", "bob", "cleo", "dan"):
        path = f"/api/v1/registry/services/{name}/url?strategy=hash&key={key}"
        assert registry.url(name, "hash", key) == service.request("GET", path).json()["url"]


def test_only_instances_of_the_environment_are_found_and_chosen(
    client: Pilothouse, service: ServiceProcess, name: str
) -> None:
    put(service, name, 1, metadata={"environment": "production"})
    put(service, name, 2, metadata={"environment": "staging"}, zone="eu")
    put(service, name, 3)
    registry = client.registry

    instances = registry.discover(name, environment="production")
    assert [(one.instance_id, one.environment) for one in instances] == [("b-1", "production")]
    assert len(registry.discover(name)) == 3
    for strategy in ("round_robin", "random", "least_recent", "hash"):
        picked = {
            registry.url(name, strategy, "ann", zone="eu", environment="production")
            for _ in range(4)
        }
        assert picked == {url(1)}
    assert len({registry.url(name) for _ in range(3)}) == 3
    with pytest.raises(NoInstance, match="of the environment default"):
        registry.url(name, environment="default")
    with pytest.raises(NoInstance):
        registry.choose(name, environment="production", without=["b-1"])


def test_a_zone_comes_first_as_long_as_it_can_bear_it(
    client: Pilothouse, service: ServiceProcess, name: str
) -> None:
    put(service, name, 1, zone="eu")
    put(service, name, 2, zone="us")

    assert {client.registry.url(name, zone="us") for _ in range(4)} == {url(2)}
    assert len({client.registry.url(name, zone="elsewhere") for _ in range(4)}) == 2


def test_what_cannot_be_answered_says_why(client: Pilothouse, name: str) -> None:
    assert len(client.registry.discover(name)) == 0
    with pytest.raises(NoInstance, match=name):
        client.registry.url(name)
    with pytest.raises(ValueError, match="needs `key`"):
        client.registry.url(name, "hash")
    with pytest.raises(ValueError, match="is not one of"):
        client.registry.url(name, "sticky")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot name a service"):
        client.registry.discover("a//b")


async def test_with_an_event_loop_only_the_first_read_waits(
    service: ServiceProcess, name: str
) -> None:
    put(service, name, 1)
    async with AsyncPilothouse(service.url, "orders", pace=QUICK) as client:
        assert [one.url for one in await client.registry.discover(name)] == [url(1)]
        assert await client.registry.url(name) == url(1)


def test_the_last_view_is_kept_while_the_service_is_away_and_registrations_return(
    tmp_path: Path,
) -> None:
    snapshot = tmp_path / "snapshot"
    more: dict[str, Any] = {"pace": QUICK, "snapshot": snapshot}
    with (
        ServiceProcess({}) as own,
        Pilothouse(own.url, "orders", **more) as client,
        client.registry.register("billing", url(1), "b-1", ttl_seconds=1) as registration,
    ):
        assert not client.registry.discover("billing").is_stale

        own.kill()
        wait_until(lambda: client.registry.discover("billing").is_stale, "it is marked stale")
        assert client.registry.url("billing") == url(1)
        wait_until(lambda: b"services/billing" in snapshot.read_bytes(), "it is in the snapshot")
        with Pilothouse(own.url, "orders", start_timeout=0.2, **more) as second:
            assert second.registry.discover("billing").is_stale
            assert second.registry.url("billing") == url(1)
        wait_until(lambda: registration.last_error is not None, "a heartbeat was lost")

        empty = tmp_path / "data"
        empty.mkdir()
        own.restart({"PILOTHOUSE_DATA_DIR": str(empty)})
        wait_until(lambda: not client.registry.discover("billing").is_stale, "it is current again")
        wait_until(lambda: len(client.registry.discover("billing")) == 1, "it is registered again")
        assert registration.epoch == 1


def test_the_first_use_waits_no_longer_than_the_start(scripted_server: ScriptedServer) -> None:
    with Pilothouse("http://127.0.0.1:1", "orders", pace=QUICK, start_timeout=1) as client:
        began = time.monotonic()
        for _ in range(50):
            with pytest.raises(NothingKnown) as raised:
                client.registry.url("billing")
        assert time.monotonic() - began < 2 + SLACK_SECONDS  # and not fifty times one second
        assert isinstance(raised.value, Unavailable)
        assert "cannot be reached" in str(raised.value)


@pytest.mark.parametrize(
    "broken",
    [
        html(),
        of_json({}),
        of_json({"items": [None]}),
        of_json({"items": [{**ITEM, "metadata": []}]}),
        of_json({"items": [{**ITEM, "registered_at": "soon"}]}),
    ],
    ids=["html", "no items", "null", "metadata", "time"],
)
def test_a_broken_answer_is_refused_and_the_view_stays(
    scripted_server: ScriptedServer, broken: Any
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({})
    scripted_server.answers[DISCOVER] = lambda _: of_json({"items": [ITEM], "stale": False})
    often = replace(QUICK, mode="polling", poll_interval=0.05)
    with Pilothouse(scripted_server.url, "orders", flags=False, pace=often) as client:
        assert client.registry.url("billing") == url(5)

        scripted_server.answers[DISCOVER] = lambda _: broken
        wait_until(lambda: client.registry.discover("billing").is_stale, "it is refused")
        assert client.registry.url("billing") == url(5)


def test_reads_are_held_beside_the_stream(scripted_server: ScriptedServer) -> None:
    answer = of_json({"items": [ITEM], "stale": False}, ETag='"1"')
    scripted_server.line().say("id: 1\n\n")
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({})
    scripted_server.answers[DISCOVER] = lambda _: answer
    with Pilothouse(scripted_server.url, "orders", flags=False, pace=QUICK) as client:
        client.registry.discover("billing")

        wait_until(
            lambda: any("prefer" in one.headers for one in scripted_server.requests),
            "what the stream does not tell is waited for",
        )


def test_an_offline_client_registers_nothing_and_waits_for_nobody() -> None:
    client = Pilothouse.offline()

    with client.registry.register("billing", url(1)) as registration:
        assert not registration.is_registered
        with pytest.raises(NothingKnown):
            client.registry.url("billing")
    client.close()


def test_a_forked_process_goes_on_finding_and_leaves_the_registration_alone(
    service: ServiceProcess, name: str
) -> None:
    with (
        Pilothouse(service.url, "orders", pace=QUICK) as client,
        client.registry.register(name, url(1), "b-1") as registration,
    ):
        assert client.registry.url(name) == url(1)
        child = os.fork()
        if child == 0:
            registration.__exit__(None, None, None)
            is_discovered = client.registry.url(name) == url(1)
            client.close()
            os._exit(0 if is_discovered else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        answer = service.request("GET", f"/api/v1/registry/discover/{name}")
        assert [item["instance_id"] for item in answer.json()["items"]] == ["b-1"]
