"""python -m benchmarks: measure everything against real servers and print one table."""

import sys

from benchmarks.configurations import bare_vault, fill, imports, reads, writes
from benchmarks.table import Row, machine, table
from tests.servers.postgres import start_postgres
from tests.servers.service import ServiceProcess
from tests.servers.vault import start_vault


def main() -> int:
    rows: list[Row] = []
    quiet = {"LOG_LEVEL": "warning"}
    vault, postgres = start_vault(), start_postgres()
    try:
        environment = quiet | {
            "VAULT_ADDR": vault.address,
            "VAULT_TOKEN": vault.root_token,
            "VAULT_PREFIX": vault.fresh_prefix(),
            "DATABASE_URL": postgres.fresh_database(),
        }
        bare_write, bare_read = bare_vault(vault)
        rows.append(Row("bare hvac write", bare_write, None))
        rows.append(Row("bare hvac read", bare_read, None))
        with ServiceProcess(environment) as service:
            fill(service)
            rows += writes(service, "Vault and Postgres", bare_write)
            rows += reads(service, "Vault and Postgres", bare_read)
            rows += imports(service, "Vault and Postgres")
        with ServiceProcess(quiet) as service:
            fill(service)
            rows += writes(service, "embedded", None)
            rows += reads(service, "embedded", None)
            rows += imports(service, "embedded")
    finally:
        vault.close()
        postgres.close()
    print(machine())
    print()
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
