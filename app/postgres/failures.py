"""Explanations of PostgreSQL's failures that an operator can act on, without the driver's text."""

from collections.abc import Mapping
from typing import Final

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.connection_failures import exception_chain, explain_connection_failure

_SETTING: Final = "DATABASE_URL"
_OLD_TABLES: Final = "the database does not have this release's tables: run `python -m app migrate`"
_EXPLANATIONS: Final[Mapping[type[BaseException], str]] = {
    asyncpg.InvalidCatalogNameError: f"Postgres has no database of the name in {_SETTING}",
    asyncpg.CannotConnectNowError: "Postgres is starting, stopping or recovering",
    asyncpg.TooManyConnectionsError: "Postgres has no connection left",
    asyncpg.InsufficientPrivilegeError: f"Postgres does not grant what the user in {_SETTING} needs"
    " (`python -m app audit grants` prints it)",
    asyncpg.UndefinedTableError: _OLD_TABLES,
    asyncpg.UndefinedColumnError: _OLD_TABLES,
    asyncpg.UndefinedFunctionError: _OLD_TABLES,
    asyncpg.UndefinedObjectError: f"Postgres does not know an option in {_SETTING}",
    asyncpg.ReadOnlySQLTransactionError: "Postgres is read-only: a standby, perhaps",
    asyncpg.DiskFullError: "Postgres's disk is full",
    PoolTimeoutError: "no connection to Postgres came free in time",
    asyncpg.exceptions.ClientConfigurationError: f"the driver cannot use {_SETTING}:"
    " a file or an option in it is wrong",
}


def explain_failure(failure: BaseException) -> str:
    """Say what kind of failure it is; never a value, a password or a host."""
    for cause in exception_chain(failure):
        if (explanation := _explain(cause)) is not None:
            return explanation
    if (explanation := explain_connection_failure(failure, _SETTING)) is not None:
        return f"Postgres cannot be reached: {explanation}"
    for cause in exception_chain(failure):
        match cause:
            case asyncpg.PostgresConnectionError() | asyncpg.InterfaceError():
                return "the connection to Postgres broke"
            case asyncpg.PostgresError():
                return f"Postgres failed: {type(cause).__name__} ({cause.sqlstate})"
            case TimeoutError():
                return "Postgres did not answer in time"
            case _:
                pass
    return "Postgres cannot be reached"


def _explain(cause: BaseException) -> str | None:
    if isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError):
        if "pg_hba.conf" in str(cause):
            return (
                f"Postgres accepts the user in {_SETTING} only from other addresses (pg_hba.conf)"
            )
        return f"Postgres refuses the user or the password in {_SETTING}"
    if isinstance(cause, ConnectionError) and "rejected SSL upgrade" in str(cause):
        return f"Postgres does not support TLS, which the sslmode in {_SETTING} demands"
    return next((text for kind, text in _EXPLANATIONS.items() if isinstance(cause, kind)), None)
