"""Being registered: heartbeats, registration anew, and the end."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilothouse import AsyncPilothouse, Pilothouse
from pilothouse.errors import Refused, Unavailable
from pilothouse.transport import Limits
from sdk.tests.registry.conftest import QUICK
from sdk.tests.scripted import ScriptedServer, of_json, problem
from tests.servers.process import SLACK_SECONDS, freeze_server, wait_until
from tests.servers.service import ServiceProcess

URL = "http://10.0.0.5:8080"
REGISTER = "/api/v1/registry/register"


def instances(service: ServiceProcess, name: str) -> dict[str, str]:
    """Return the status of each instance, by its id."""
    items = service.request("GET", f"/api/v1/registry/services/{name}").json()["items"]
    return {item["instance_id"]: item["status"] for item in items}


def test_an_instance_is_registered_with_all_it_says_and_gone_when_it_is_left(
    client: Pilothouse, service: ServiceProcess, name: str
) -> None:
    registration = client.registry.register(
        name,
        URL,
        "b-1",
        metadata={"team": "x"},
        tags=["blue"],
        version="2.4.0",
        weight=50,
        zone="eu-1",
        ttl_seconds=20,
        warmup_seconds=3,
    )

    with registration as entered:
        assert entered is registration
        assert (registration.epoch, registration.is_registered) == (1, True)
        (item,) = service.request("GET", f"/api/v1/registry/services/{name}").json()["items"]
        said = {"metadata": {"team": "x"}, "tags": ["blue"], "version": "2.4.0", "weight": 50}
        said |= {"zone": "eu-1", "service_url": URL, "warmup_seconds": 3, "instance_id": "b-1"}
        assert {key: item[key] for key in said} == said
    assert instances(service, name) == {}
    assert not registration.is_registered


async def test_heartbeats_keep_an_instance_up(service: ServiceProcess, name: str) -> None:
    async with (
        AsyncPilothouse(service.url, "orders", pace=QUICK) as client,
        client.registry.register(name, URL, ttl_seconds=1) as registration,
    ):
        view = await client.registry.view(name)
        began = time.monotonic()
        while time.monotonic() - began < 2.2:  # two ttl without a heartbeat are too many
            assert {one.status for one in view.discover()} == {"up"}
            await asyncio.sleep(0.1)
        assert registration.epoch == 1


def test_who_was_taken_out_registers_again(
    client: Pilothouse, service: ServiceProcess, name: str
) -> None:
    with client.registry.register(name, URL, "b-1", ttl_seconds=1) as registration:
        body = {"service_name": name, "instance_id": "b-1"}
        service.request("POST", "/api/v1/registry/deregister", body)
        wait_until(lambda: (registration.epoch or 0) > 1, "it is registered again")

        service.request("POST", REGISTER, {**body, "service_url": URL})  # by somebody else
        wait_until(lambda: (registration.epoch or 0) > 3, "its older epoch was refused")
        assert list(instances(service, name)) == ["b-1"]


def test_leaving_drains_first_and_then_deregisters(
    client: Pilothouse, service: ServiceProcess, name: str
) -> None:
    with client.registry.register(name, URL, "b-1") as registration:
        registration.drain()

        assert instances(service, name) == {"b-1": "draining"}
        assert not client.registry.discover(name)
    assert instances(service, name) == {}


@pytest.mark.parametrize(
    ("more", "member"),
    [
        ({"url": "/relative"}, "service_url"),
        ({"url": "javascript://a:1/%0aalert(1)"}, "service_url has the scheme javascript"),
        ({"url": "http://a/%0d%0a"}, "service_url holds an encoded control"),
        ({"url": URL, "health_check_url": "tcp://a:1"}, "health_check_url has the scheme tcp"),
        ({"url": URL, "instance_id": "a/b"}, "instance_id"),
        ({"url": URL, "weight": 1001}, "weight"),
        ({"url": URL, "metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"url": URL, "ttl_seconds": 0}, "ttl_seconds"),
    ],
)
def test_what_can_never_be_registered_is_refused_at_once(
    client: Pilothouse, more: dict[str, object], member: str
) -> None:
    with pytest.raises(ValueError, match=member):
        client.registry.register("billing", **more)  # type: ignore[arg-type]


def test_what_the_service_refuses_is_raised_when_it_is_entered(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers[REGISTER] = lambda _: problem(403, "forbidden")
    with (
        Pilothouse(scripted_server.url, "orders", pace=QUICK) as client,
        pytest.raises(Refused),
        client.registry.register("billing", URL),
    ):
        pytest.fail("it was entered")


def test_it_is_tried_on_while_the_service_is_away(scripted_server: ScriptedServer) -> None:
    scripted_server.answers[REGISTER] = lambda _: problem(503, "registry_store_unavailable")
    with Pilothouse(scripted_server.url, "orders", pace=QUICK, start_timeout=0.1) as client:
        registration = client.registry.register("billing", URL)
        with registration:
            wait_until(lambda: registration.last_error is not None, "it was refused once")
            assert isinstance(registration.last_error, Unavailable)
            assert not registration.is_registered

            scripted_server.answers[REGISTER] = lambda _: of_json({"epoch": 7})
            wait_until(lambda: registration.epoch == 7, "it is registered")
            assert registration.last_error is None


def test_a_frozen_service_does_not_hold_up_the_end(name: str) -> None:
    with ServiceProcess({}) as own:
        client = Pilothouse(own.url, "orders", pace=QUICK, limits=Limits(timeout=5))
        with client.registry.register(name, URL), freeze_server(own):
            began = time.monotonic()
            client.close()
            assert time.monotonic() - began < 4 + SLACK_SECONDS


def test_a_program_that_forgets_to_leave_is_gone_with_its_end(
    service: ServiceProcess, name: str, tmp_path: Path
) -> None:
    program = f"""
import sys
from pilothouse import Pilothouse
client = Pilothouse({service.url!r}, "orders")
registration = client.registry.register({name!r}, {URL!r}, "b-1")
registration.__enter__()
assert registration.is_registered
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)

    assert done.returncode == 7
    assert instances(service, name) == {}
