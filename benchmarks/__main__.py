"""python -m benchmarks: measure everything against real servers and print one table."""

import sys
from contextlib import closing

import uvloop

from benchmarks.changes import spread
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
from benchmarks.table import Row, machine, table
from benchmarks.wrk import SERVER_CORE, on_core, run
from tests.servers.postgres import start_postgres
from tests.servers.service import ServiceProcess
from tests.servers.vault import start_vault

_QUIET = {"LOG_LEVEL": "warning"}
_SERVER = on_core(SERVER_CORE, [sys.executable, "-m", "app", "serve"])
_CONSTANT = on_core(SERVER_CORE, [sys.executable, "-m", "benchmarks.constant"])


def main() -> int:
    rows: list[Row] = []
    with closing(start_vault()) as vault, closing(start_postgres()) as postgres:
        real = _QUIET | {
            "VAULT_ADDR": vault.address,
            "VAULT_TOKEN": vault.root_token,
            "VAULT_PREFIX": vault.fresh_prefix(),
            "DATABASE_URL": postgres.fresh_database(),
        }
        rows += _configurations(real, "Vault and Postgres", bare_vault(vault))
        rows += _replicas(real)
    rows += _configurations(_QUIET, "embedded", None)
    rows += _busy_reads()
    rows += _busy_evaluations()
    print(machine())
    print()
    print(table(rows))
    print()
    print(peers())
    print()
    print(large_set())
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


def _replicas(environment: dict[str, str]) -> list[Row]:
    with ServiceProcess(environment) as writer, ServiceProcess(environment) as reader:
        rows = uvloop.run(spread_flags(writer, reader))
        return [*rows, *uvloop.run(spread(writer, reader))]


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


if __name__ == "__main__":
    sys.exit(main())
