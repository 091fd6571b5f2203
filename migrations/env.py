"""How Alembic reaches the database: over the connection it is handed, or with `-x url=...`."""

import asyncio

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection

from app.postgres.migration import LOCK_MIGRATIONS, open_migration_engine
from app.postgres.tables import metadata


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


async def _run_with_url(url: str) -> None:
    engine = open_migration_engine(url)
    async with engine.begin() as connection:
        await connection.execute(LOCK_MIGRATIONS)
        await connection.run_sync(_run)
    await engine.dispose()


if context.is_offline_mode():
    raise CommandError("a migration runs against a live database; --sql is not supported")
if (handed := context.config.attributes.get("connection")) is not None:
    _run(handed)
elif (url := context.get_x_argument(as_dictionary=True).get("url")) is not None:
    asyncio.run(_run_with_url(str(url)))
else:
    raise CommandError('name the database: alembic -x url="$DATABASE_URL" ...')
