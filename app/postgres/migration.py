"""Brings the database to the newest schema."""

from functools import partial
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.postgres.engine import APPLICATION
from app.postgres.locks import MIGRATION_LOCK

_MIGRATION_SECONDS: Final = 60
_CHECKOUT = Path(__file__).parent.parent.parent

# Held until the commit: of several replicas the first migrates, the others find it done.
LOCK_MIGRATIONS: Final = text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")


async def migrate(url: str) -> None:
    """Bring the database to the newest schema; replicas that start together take turns."""
    engine = open_migration_engine(url)
    try:
        async with engine.begin() as connection:
            # Taken before Alembic is entered: its context is one per process.
            await connection.execute(LOCK_MIGRATIONS)
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def open_migration_engine(url: str) -> AsyncEngine:
    """Open an engine that waits for locks and long statements, as only a migration may."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(
            asyncpg.connect,
            url,
            timeout=_MIGRATION_SECONDS,
            command_timeout=_MIGRATION_SECONDS,
            server_settings={"application_name": f"{APPLICATION}-migrate"},
        ),
        poolclass=NullPool,
        hide_parameters=True,
    )


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_CHECKOUT / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
