"""Registrations as the service takes them in: where checks may go, and what outages leave over."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from app.audit.fingerprints import Fingerprints
from app.outbound.addresses import Address
from app.registry.environments import Requester
from app.registry.errors import (
    BadInstance,
    BadServiceName,
    InstanceNotFound,
    KeyMissing,
    NoInstance,
    OldEpoch,
    RegistryUnavailable,
    TooManyInstances,
)
from app.registry.instances.embedded import EmbeddedInstanceStore
from app.registry.nodes.embedded import EmbeddedNodes, EmbeddedServiceRegistryClient
from app.registry.service import RegistryService
from app.registry.wiring import build_service
from pilothouse_core.curator import read_node
from tests.registry.bench import SERVICE, Store, embedded_store

US = Requester("ada", "request-1")
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "metadata.internal": ["169.254.169.254"],
    "mixed.example": ["::1", "10.0.0.5"],
    "inner.example": ["10.0.0.5"],
}


class Names:
    """A name server that knows these names and no others."""

    async def __call__(self, host: str) -> Sequence[Address]:
        if host not in NAMES:
            raise OSError(f"{host} is unknown")
        return list(map(ip_address, NAMES[host]))


def body(**members: Any) -> Mapping[str, Any]:
    return {"service_name": SERVICE, "service_url": "http://10.0.0.7", **members}


@asynccontextmanager
async def registry_of(store: Store, *allowed: str) -> AsyncIterator[RegistryService]:
    registry = build_service(
        store.rows,
        EmbeddedServiceRegistryClient(EmbeddedNodes()),
        Names(),
        replica="here",
        interval=10.0,
        allowed_networks=allowed,
        fingerprints=Fingerprints(bytes(32)),
    )
    try:
        yield registry
    finally:
        await registry.prober.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with embedded_store(tmp_path) as made:
        yield made


@pytest.fixture
async def registry(store: Store) -> AsyncIterator[RegistryService]:
    async with registry_of(store) as made:
        yield made


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "[::ffff:127.0.0.1]", "metadata.internal"],
)
async def test_checks_of_this_machine_are_refused_where_nothing_allows_them(
    registry: RegistryService, host: str
) -> None:
    with pytest.raises(BadInstance) as refused:
        await registry.register(body(health_check_url=f"http://{host}:81/health"), US)

    assert refused.value.flaws[0]["pointer"] == "#/health_check_url"
    assert refused.value.flaws[0]["code"] == "forbidden_address"
    assert registry.view.services == []


@pytest.mark.parametrize("host", ["inner.example", "mixed.example", "10.0.0.5", "unknown.example"])
async def test_checks_of_other_machines_and_of_nobody_yet_are_taken(
    registry: RegistryService, host: str
) -> None:
    registered = await registry.register(body(health_check_url=f"http://{host}/health"), US)

    assert (registered.created, registered.row.lease, registered.row.health) == (
        True,
        "probe",
        "starting",
    )


async def test_what_is_allowed_by_name_is_taken(store: Store) -> None:
    async with registry_of(store, "127.0.0.0/8") as registry:
        await registry.register(body(health_check_url="http://localhost/health"), US)
        with pytest.raises(BadInstance):
            await registry.register(body(health_check_url="http://metadata.internal/"), US)


async def test_a_service_has_its_number_of_instances_and_not_one_more(store: Store) -> None:
    few = Store(store.state, EmbeddedInstanceStore(store.state, store.log.wake, 2), store.log)
    async with registry_of(few) as registry:
        for id_ in ("i-1", "i-2", "i-1"):
            await registry.register(body(instance_id=id_), US)

        with pytest.raises(TooManyInstances):
            await registry.register(body(instance_id="i-3"), US)
        await registry.register({**body(instance_id="i-3"), "service_name": "other"}, US)

    assert [seen.id for seen in registry.service(SERVICE).instances] == ["i-1", "i-2"]


async def test_while_the_rows_are_unavailable_nothing_is_registered_and_the_view_stays(
    registry: RegistryService, store: Store
) -> None:
    row = (await registry.register(body(instance_id="i-1"), US)).row
    await store.fail()

    with pytest.raises(RegistryUnavailable):
        await registry.register(body(instance_id="i-2"), US)
    with pytest.raises(RegistryUnavailable):
        await registry.deregister(*row.key, None, US)
    with pytest.raises(RegistryUnavailable):
        await registry.drain(*row.key, None, 1.0, US)
    with pytest.raises(RegistryUnavailable):
        await registry.heartbeat(*row.key, row.epoch, US)

    assert registry.choose(SERVICE, "random", None, None).instance.id == "i-1"


async def test_an_id_is_found_by_the_url_it_was_registered_with(registry: RegistryService) -> None:
    await registry.register(body(instance_id="i-1"), US)
    unnamed = (await registry.register(body(service_url="http://10.0.0.8"), US)).row

    assert registry.id_of(SERVICE, "http://10.0.0.7") == "i-1"
    assert registry.id_of(SERVICE, "HTTP://10.0.0.7:80/") == "i-1"
    assert registry.id_of(SERVICE, "HTTP://10.0.0.8:80/") == unnamed.instance_id
    with pytest.raises(BadInstance, match="service_url"):
        registry.id_of(SERVICE, "10.0.0.8")


async def test_of_several_at_one_url_the_last_that_came_is_there(registry: RegistryService) -> None:
    for id_ in ("i-2", "i-3", "i-1"):
        await registry.register(body(instance_id=id_), US)
        assert registry.id_of(SERVICE, "http://10.0.0.7") == id_


async def test_a_service_that_others_have_named_is_told_whatever_its_name(
    registry: RegistryService,
) -> None:
    name = "providers:org.example.Wéb service"
    with pytest.raises(BadServiceName):
        registry.service(name)
    node = b'{"id": "a", "address": "10.0.0.9", "port": 81}'
    registry.view.set_nodes(name, {"a": read_node(name, "a", node)})

    assert [seen.id for seen in registry.service(name).instances] == ["a"]
    assert registry.choose(name, "random", None, None).instance.url == "http://10.0.0.9:81"
    with pytest.raises(BadInstance):
        await registry.register({**body(), "service_name": name}, US)


async def test_an_epoch_that_is_over_and_nobody_are_told_apart(registry: RegistryService) -> None:
    for _ in range(2):
        await registry.register(body(instance_id="i-1"), US)

    with pytest.raises(OldEpoch) as over:
        await registry.heartbeat(SERVICE, "i-1", 1, US)
    with pytest.raises(InstanceNotFound):
        await registry.heartbeat(SERVICE, "i-2", 1, US)
    with pytest.raises(BadServiceName):
        await registry.heartbeat(SERVICE, "../i-1", 1, US)
    with pytest.raises(BadServiceName):
        await registry.deregister("a/b", "i-1", None, US)

    assert over.value.epoch == 2
    await registry.deregister(SERVICE, "i-1", 2, US)
    with pytest.raises(InstanceNotFound):
        await registry.heartbeat(SERVICE, "i-1", 2, US)


async def test_nobody_can_be_chosen_where_nobody_is(registry: RegistryService) -> None:
    with pytest.raises(NoInstance):
        registry.choose(SERVICE, "round_robin", None, None)
    with pytest.raises(KeyMissing):
        registry.choose(SERVICE, "hash", None, None)
    with pytest.raises(BadServiceName):
        registry.choose("a b", "random", None, None)


async def test_before_the_rows_were_read_once_the_view_is_stale(registry: RegistryService) -> None:
    assert registry.is_stale

    await registry.follower.refresh()

    assert not registry.is_stale
