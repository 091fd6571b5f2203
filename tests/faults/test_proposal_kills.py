"""A replica is killed while it applies a proposal: the other one ends it, each item once."""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.checker_proposals import Versions, find_violations
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.servers]

ITEMS = 12
PROPOSALS = "/api/v1/proposals"
IS_WHOLE = os.environ.get("PILOTHOUSE_FAULTS") == "whole"
SEEDS = range(50 if IS_WHOLE else 4)


@pytest.fixture(scope="module")
def environment(vault_server: VaultServer, postgres_server: PostgresServer) -> dict[str, str]:
    return {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
        "DATABASE_URL": postgres_server.fresh_database(),
    }


@pytest.fixture(scope="module")
def witness(environment: dict[str, str]) -> Iterator[ServiceProcess]:
    """The replica that stays."""
    with ServiceProcess(environment) as service:
        yield service


def services(seed: int) -> list[str]:
    return [f"s{seed}-{number}" for number in range(ITEMS)]


def propose(service: ServiceProcess, seed: int) -> str:
    items = [
        {"kind": "config", "environment": "kills", "service_name": name, "set": {"a": seed}}
        for name in services(seed)
    ]
    answer = service.request("POST", PROPOSALS, {"title": f"seed {seed}", "items": items})
    assert answer.status == 201, answer.body
    return f"{PROPOSALS}/{answer.json()['id']}"


def versions(service: ServiceProcess, seed: int) -> Versions:
    histories = {}
    for name in services(seed):
        answer = service.request("GET", f"/api/configs/{name}/history?environment=kills")
        histories[name] = answer.json()["items"] if answer.status == 200 else []
    return histories


def end_of(service: ServiceProcess, path: str) -> dict[str, Any]:
    def has_ended() -> bool:
        state = service.request("GET", path).json()["state"]
        return state not in {"approved", "applying", "scheduled"}

    wait_until(has_ended, "another replica ends it", 60)
    proposal: dict[str, Any] = service.request("GET", path).json()
    return proposal


@pytest.mark.parametrize("seed", SEEDS)
def test_a_holder_that_is_killed_is_followed(
    environment: dict[str, str], witness: ServiceProcess, seed: int
) -> None:
    written_first = random.Random(seed).randrange(ITEMS)
    name = services(seed)[written_first]
    with ServiceProcess(environment) as holder:
        path = propose(holder, seed)
        assert holder.request("POST", f"{path}/apply", {}).status == 202
        document = f"/api/configs/{name}/history?environment=kills"
        wait_until(lambda: witness.request("GET", document).status == 200, "some are written")
        holder.kill()

    ended = end_of(witness, path)

    assert find_violations(ended, versions(witness, seed)) == []
    assert ended["state"] == "applied"


def test_a_database_that_is_frozen_delays_and_loses_nothing(
    environment: dict[str, str], witness: ServiceProcess, postgres_server: PostgresServer
) -> None:
    seed = 1000
    path = propose(witness, seed)
    assert witness.request("POST", f"{path}/apply", {}).status == 202
    postgres_server.freeze()
    try:
        wait_until(lambda: witness.request("GET", path).status == 503, "it cannot be read")
    finally:
        postgres_server.thaw()

    ended = end_of(witness, path)

    assert find_violations(ended, versions(witness, seed)) == []
    assert ended["state"] == "applied"
