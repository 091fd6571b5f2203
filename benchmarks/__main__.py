"""python -m benchmarks: measure everything against real servers and print one table."""

import sys
from contextlib import closing

import uvloop

from benchmarks.access import access_costs
from benchmarks.changes import spread
from benchmarks.client import clients
from benchmarks.configurations import (
    CONNECTIONS,
    bare_vault,
    busy_reads,
    fill,
    imports,
    reads,
    writes,
)
from benchmarks.flags import BODY, evaluations, large_set, memory, spread_flags
from benchmarks.flags import fill as fill_flags
from benchmarks.load import Figures
from benchmarks.peers import peers
from benchmarks.proposals import apply_costs
from benchmarks.registry import (
    SESSION_SECONDS,
    bare_nodes,
    discoveries,
    large_registry,
    registrations,
    spread_instances,
)
from benchmarks.registry import fill as fill_registry
from benchmarks.releases import release_costs
from benchmarks.schemas import Services, costs_of_schemas, judging, start_with_others
from benchmarks.table import Row, machine, table
from benchmarks.webhooks import deliver
from benchmarks.wrk import SERVER_CORE, on_core, run
from tests.servers.postgres import start_postgres
from tests.servers.service import ServiceProcess
from tests.servers.vault import start_vault
from tests.servers.zookeeper import ZooKeeperServer, start_zookeeper

_QUIET = {"LOG_LEVEL": "warning"}
_SERVER = on_core(SERVER_CORE, [sys.executable, "-m", "app", "serve"])
_CONSTANT = on_core(SERVER_CORE, [sys.executable, "-m", "benchmarks.constant"])


def main() -> int:
    rows: list[Row] = []
    starts: list[str] = []
    with closing(start_vault()) as vault, closing(start_postgres()) as postgres:
        real = _QUIET | {
            "VAULT_ADDR": vault.address,
            "VAULT_TOKEN": vault.root_token,
            "VAULT_PREFIX": vault.fresh_prefix(),
            "DATABASE_URL": postgres.fresh_database(),
        }
        rows += _configurations(real, "Vault and Postgres", bare_vault(vault))
        rows += _replicas(real)
        rows += _webhooks(real, "Vault and Postgres")
        apart = [
            real | {"VAULT_PREFIX": vault.fresh_prefix(), "DATABASE_URL": postgres.fresh_database()}
            for _ in range(2)
        ]
        rows += _schemas(apart[0], apart[1], "Vault and Postgres", starts)
        with ServiceProcess(real) as service:
            starts.append(apply_costs(service, "Vault and Postgres"))
    rows += _configurations(_QUIET, "embedded", None)
    rows += _schemas(_QUIET, _QUIET, "embedded", starts)
    rows += _webhooks(_QUIET, "embedded")
    with ServiceProcess(_QUIET) as service:
        starts.append(apply_costs(service, "embedded"))
    rows += judging()
    rows += _busy_reads()
    rows += _busy_evaluations()
    rows += _busy_discovery()
    with ServiceProcess(_QUIET) as service:
        rows += clients(service)
    with closing(start_zookeeper()) as zookeeper, closing(start_postgres()) as postgres:
        common = _QUIET | {"DATABASE_URL": postgres.fresh_database()}
        rows += _registrations(common, zookeeper)
        large = _large_registry(common | {"DATABASE_URL": postgres.fresh_database()}, zookeeper)
    print(machine())
    print()
    print(table(rows))
    print()
    print(peers())
    print()
    print(access_costs())
    print(release_costs())
    print("\n".join(starts))
    print(large_set())
    print(large)
    with ServiceProcess(_QUIET) as service:
        print(memory(service))
    return 0


def _configurations(
    environment: dict[str, str], label: str, bare: tuple[Figures, Figures] | None
) -> list[Row]:
    bare_write, bare_read = bare or (None, None)
    rows = []
    if bare_write is not None and bare_read is not None:
        rows += [Row("bare hvac write", bare_write, None), Row("bare hvac read", bare_read, None)]
    with ServiceProcess(environment) as service:
        fill(service)
        rows += writes(service, label, bare_write)
        rows += reads(service, label, bare_read)
        rows += imports(service, label)
    return rows


def _schemas(
    judged: dict[str, str], plain: dict[str, str], label: str, starts: list[str]
) -> list[Row]:
    with ServiceProcess(judged) as service, ServiceProcess(plain) as other:
        rows = costs_of_schemas(Services(service, other), label)
        starts.append(f"{label}: {start_with_others(service, judged)}")
    return rows


def _replicas(environment: dict[str, str]) -> list[Row]:
    with ServiceProcess(environment) as writer, ServiceProcess(environment) as reader:
        rows = uvloop.run(spread_flags(writer, reader))
        return [*rows, *uvloop.run(spread(writer, reader))]


def _webhooks(environment: dict[str, str], kind: str) -> list[Row]:
    with ServiceProcess(environment) as service:
        return deliver(service, kind)


def _busy_reads() -> list[Row]:
    with ServiceProcess(_QUIET, _CONSTANT) as constant:
        bare = run(f"{constant.url}/", connections=CONNECTIONS)
    with ServiceProcess(_QUIET, _SERVER) as service:
        fill(service)
        rows = busy_reads(service, "embedded, one core", bare)
    return [Row("bare uvicorn, one constant, one core, 20 connections", bare, None), *rows]


def _busy_evaluations() -> list[Row]:
    with ServiceProcess(_QUIET, _CONSTANT) as constant:
        bare = run(f"{constant.url}/", connections=CONNECTIONS, body=BODY)
    with ServiceProcess(_QUIET, _SERVER) as service:
        fill_flags(service)
        rows = evaluations(service, bare)
    return [Row("bare uvicorn, one constant by POST, one core, 20 connections", bare, None), *rows]


def _busy_discovery() -> list[Row]:
    with ServiceProcess(_QUIET, _CONSTANT) as constant:
        bare = run(f"{constant.url}/", connections=CONNECTIONS)
    with ServiceProcess(_QUIET, _SERVER) as service:
        fill_registry(service)
        return discoveries(service, bare)


def _on_zookeeper(zookeeper: ZooKeeperServer, base: str) -> dict[str, str]:
    return {
        "ZOOKEEPER_HOSTS": zookeeper.hosts,
        "ZOOKEEPER_BASE_PATH": base,
        "ZOOKEEPER_SESSION_TIMEOUT": f"{SESSION_SECONDS:g}",
    }


def _registrations(environment: dict[str, str], zookeeper: ZooKeeperServer) -> list[Row]:
    given = environment | _on_zookeeper(zookeeper, zookeeper.fresh_path())
    bare = bare_nodes(zookeeper)
    with ServiceProcess(given) as first, ServiceProcess(given) as second:
        return [*registrations(first, bare), *uvloop.run(spread_instances(first, second))]


def _large_registry(environment: dict[str, str], zookeeper: ZooKeeperServer) -> str:
    base = zookeeper.fresh_path()
    with ServiceProcess(environment | _on_zookeeper(zookeeper, base)) as service:
        return large_registry(service, zookeeper, base)


if __name__ == "__main__":
    sys.exit(main())
