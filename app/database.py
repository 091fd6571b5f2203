"""The Postgres engine, its deadlines and the tables, for adapters only."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    CursorResult,
    DateTime,
    Double,
    Engine,
    Executable,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.telemetry import DATABASE_CALL_DURATION, DATABASE_CALLS

APPLICATION: Final = "pilothouse"
CHANGES_CHANNEL: Final = "pilothouse_changes"
# Whoever takes a revision holds this transaction lock, so that commit order is revision order.
LOG_LOCK: Final = 7_310_011
_MIGRATION_LOCK: Final = 7_310_012
# Whose session holds this lock is the one replica that sends events.
RELAY_LOCK: Final = 7_310_013
# With a service's hash: who registers its instances holds this transaction lock.
REGISTER_LOCK: Final = 7_310_014

ANSWER_SECONDS: Final = 0.9
_CALL_SECONDS: Final = 2
_CLOSE_SECONDS: Final = 1
_LEAVE_SECONDS: Final = 0.2
_MIGRATION_SECONDS: Final = 60
_POOL_SIZE: Final = 10
_CONTACT: Final = "contact"  # when a connection of the pool was last given back
_CHECKOUT = Path(__file__).parent.parent

# What an adapter may see when the database is away; it translates each into its port's error.
FAILURES: Final = (
    DBAPIError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)

_opened: WeakKeyDictionary[AsyncEngine, WeakSet[asyncpg.Connection]] = WeakKeyDictionary()
_doubted: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()  # see `doubt`
_abandoned: set[asyncio.Future[Any]] = set()  # held here, or they might be collected unfinished

T = TypeVar("T")

metadata = MetaData()

revisions = Sequence("changes_revision", metadata=metadata)

changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, server_default=revisions.next_value()),
    Column("id", Text, nullable=False, unique=True),
    Column("doc", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("facts", JSONB),
    Column("logged_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True)),
    UniqueConstraint("doc", "version"),
    Index("changes_by_environment", "environment", "revision"),
    Index("changes_by_kind", "kind", "revision"),
    Index("changes_by_name", "name", "revision"),
    Index("changes_by_time", "at"),
    Index("changes_unsent", "revision", postgresql_where=text("sent_at IS NULL")),
)

# One row: the highest revision that was trimmed off the log.
horizon = Table(
    "horizon",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("doc", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("logged_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("updated_by", Text, nullable=False),
)

_undecided = text("state IN ('open', 'expired')")

intents = Table(
    "intents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("doc", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("idempotency_key", Text, unique=True),
    Column("digest", Text),
    Column("source", Text),  # what of it goes into the audit
    Column("facts", JSONB(none_as_null=True)),
    Column("state", Text, nullable=False),
    Column("version", Integer),
    Column("revision", BigInteger),
    Column("looks", Integer, nullable=False, server_default=text("0")),
    Column("look_after", DateTime(timezone=True), nullable=False),
    Index("intents_undecided_by_look", "look_after", postgresql_where=_undecided),
    Index("intents_undecided_by_doc", "doc", "base_version", postgresql_where=_undecided),
    Index("intents_decided_by_time", "at", postgresql_where=text("state IN ('applied', 'lost')")),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer),
    Column("revision", BigInteger),
    Column("request_id", Text),
    Column("source", Text),  # the address the request came from
    Column("facts", JSONB(none_as_null=True)),
    # Made by a trigger, whoever inserts: what ties the row to the one before it (app/links.py).
    Column("seq", BigInteger, nullable=False, unique=True),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("audit_by_time", "at"),
    # For each filter of GET /api/v1/audit, in the order that it answers.
    Index("audit_by_actor", "actor", "seq"),
    Index("audit_by_action", "action", "seq"),
    Index("audit_by_kind", "kind", "seq"),
    Index("audit_by_environment", "environment", "seq"),
    Index("audit_by_name", "name", "seq"),
)

# One row: the last of the audit. Whoever appends locks it, after any other lock.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# What the head was, signed.
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("task", Text, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
)


def _versioned(*, every: bool) -> tuple[Column[Any], ...]:
    """Return the columns of flags and segments, of every version or of the newest only."""
    return (
        Column("environment", Text, primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("version", Integer, primary_key=every, nullable=False, autoincrement=False),
        # Not as JSONB, which would lose the order of members.
        Column("definition", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("comment", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("revision", BigInteger, nullable=False),
    )


flag_items = Table(
    "flag_items", metadata, *_versioned(every=False), Index("flag_items_by_revision", "revision")
)

flag_versions = Table(
    "flag_versions",
    metadata,
    *_versioned(every=True),
    Index("flag_versions_by_revision", "revision"),
)

# The last revision of each environment's flags and segments: what a commit is based on.
flag_sets = Table(
    "flag_sets",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

flag_requests = Table(
    "flag_requests",
    metadata,
    Column("idempotency_key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("environment", Text, nullable=False),
    Column("first_revision", BigInteger, nullable=False),  # both 0 where nothing was written
    Column("last_revision", BigInteger, nullable=False),
)

flag_usage = Table(
    "flag_usage",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("flag", Text, primary_key=True),
    Column("variant", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_evaluated_at", DateTime(timezone=True), nullable=False),
)

_registered = text("state = 'registered'")

# No index on what a heartbeat moves, so that it moves no index.
instances = Table(
    "instances",
    metadata,
    Column("service", Text, primary_key=True),
    Column("instance_id", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("health", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("lease", Text, nullable=False),
    Column("ttl_seconds", Double, nullable=False),
    Column("registered_at", DateTime(timezone=True), nullable=False),
    Column("heartbeat_at", DateTime(timezone=True), nullable=False),
    Column("claimed_at", DateTime(timezone=True), nullable=False),  # or registered
    Column("draining_until", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("moved_at", DateTime(timezone=True), nullable=False),  # by the newest change
    Column("fingerprint", Text),  # keyed, of the definition
    Index("instances_by_revision", "revision"),
    Index("instances_by_owner", "owner", postgresql_where=_registered),
    Index("instances_by_service", "service", postgresql_where=_registered),
    Index("instances_by_drain", "draining_until", postgresql_where=_registered),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("token_class", Text, nullable=False),
    Column("environments", ARRAY(Text), nullable=False),
    Column("services", ARRAY(Text), nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("digest", LargeBinary, nullable=False),  # keyed; the secret itself is nowhere
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("revision", BigInteger, nullable=False),
    Index("tokens_by_revision", "revision"),
    Index("tokens_by_time", "created_at", "id"),
)


def open_engine(url: str) -> AsyncEngine:
    """Open a pool of at most ten connections to a `postgresql://` URL; connects at first use."""
    opened: WeakSet[asyncpg.Connection] = WeakSet()

    async def open_one() -> asyncpg.Connection:
        opening = asyncio.ensure_future(connect(url))
        try:
            connection = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The driver, cancelled in its first moments, leaves an error that nobody fetches.
            _abandoned.add(opening)
            opening.add_done_callback(_turn_away)
            raise
        opened.add(connection)
        return connection

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=open_one,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=1,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkout", partial(_refuse_lost, engine.sync_engine))
    event.listen(engine.sync_engine, "checkin", _note_contact)
    event.listen(engine.sync_engine, "invalidate", _leave_soon)
    _opened[engine] = opened
    return engine


async def close_engine(engine: AsyncEngine) -> None:
    """Close the pool in order; what does not close within two seconds is torn down."""
    loop = asyncio.get_running_loop()
    if mine := {task for task in _abandoned if task.get_loop() is loop}:
        await asyncio.wait(mine, timeout=_CLOSE_SECONDS)
    with suppress(*FAILURES):
        await within(_CLOSE_SECONDS, engine.dispose())
    for connection in tuple(_opened[engine]):
        if not connection.is_closed():
            connection.terminate()


async def connect(url: str) -> asyncpg.Connection:
    """Open one connection; the driver reads the URL, with its sslmode or several hosts."""
    return await asyncpg.connect(
        url,
        timeout=_CALL_SECONDS,
        command_timeout=_CALL_SECONDS,
        server_settings={
            "application_name": APPLICATION,
            "statement_timeout": f"{_CALL_SECONDS}s",
            "lock_timeout": f"{_CALL_SECONDS}s",
            # A replica that stops inside a transaction must not keep its locks.
            "idle_in_transaction_session_timeout": f"{_CALL_SECONDS}s",
        },
    )


def _note_contact(_connection: object, record: Any) -> None:
    record.info[_CONTACT] = monotonic()


def _leave_soon(connection: Any, _record: object, _why: object) -> None:
    """Give a server that still answers time to hear that a call was given up, and no more.

    The pool would wait for two seconds, and ten such calls would hold all its places.
    """
    driver_connection = connection.driver_connection
    asyncio.get_running_loop().call_later(_LEAVE_SECONDS, driver_connection.terminate)


def _refuse_lost(engine: Engine, connection: Any, record: Any, _proxy: object) -> None:
    """Let the pool replace what a restarted server has closed: no round trip, unlike pre-ping.

    And what may be as dead as one that gave no answer; see `doubt`.
    """
    if record.info.get(_CONTACT, inf) < _doubted.get(engine, -inf):
        connection.driver_connection.terminate()  # the pool would take leave of it, for a while
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def doubt(engine: AsyncEngine, began: float) -> None:
    """Use no connection again that was last used before `began`, when a call without answer began.

    What lies between may have lost them all without a word. Each would cost a time-out.
    """
    _doubted[engine.sync_engine] = began


async def within(seconds: float, call: Coroutine[Any, Any, T]) -> T:
    """Return what `call` returns, or raise TimeoutError after `seconds` and not later.

    `asyncio.timeout` waits until the cancelled call has cleaned up, and against a frozen server
    the driver cleans up for seconds; here that goes on without the caller.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        if task.done():
            _forget(task)  # a caller who is cancelled as it fails looks at it no more
        else:
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    raise TimeoutError(f"no answer within {seconds} s")


def _forget(task: asyncio.Future[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as never retrieved


def _turn_away(opening: asyncio.Future[Any]) -> None:
    _forget(opening)
    if not opening.cancelled() and opening.exception() is None:
        opening.result().terminate()


@contextmanager
def measured(operation: str) -> Iterator[None]:
    """Count and time one call."""
    began, outcome = perf_counter(), "failed"
    try:
        yield
        outcome = "ok"
    finally:
        DATABASE_CALLS.labels(operation, outcome).inc()
        DATABASE_CALL_DURATION.labels(operation).observe(perf_counter() - began)


class Calls:
    """An adapter's calls: each in time, measured, and failing with its port's own error."""

    def __init__(self, engine: AsyncEngine, away: Callable[[], Exception]) -> None:
        self._engine = engine
        self._away = away
        # A statement that is its own transaction costs one round trip, a BEGIN two more.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def run(
        self,
        operation: str,
        statement: Executable,
        parameters: Mapping[str, object] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        again: bool = True,
        silent: float | None = None,
    ) -> CursorResult[Any]:
        """Execute one statement; after `silent` seconds, if given, again on a new connection."""

        async def once() -> CursorResult[Any]:
            async with self._single.connect() as connection:
                return await connection.execute(statement, parameters)

        async def once_more_if_silent() -> CursorResult[Any]:
            assert silent is not None
            began = monotonic()
            try:
                return await within(silent, _twice_if_lost(once))
            except TimeoutError:
                doubt(self._engine, began)
            return await once()

        if silent is not None:
            return await self.ask(operation, once_more_if_silent, seconds, again=False)
        return await self.ask(operation, once, seconds, again=again)

    async def ask(
        self,
        operation: str,
        once: Callable[[], Coroutine[Any, Any, T]],
        seconds: float = ANSWER_SECONDS,
        *,
        again: bool = True,
    ) -> T:
        """Call `once`; with `again`, once more if the server closed the connection meanwhile."""
        began = monotonic()
        with measured(operation):
            try:
                return await within(seconds, _twice_if_lost(once) if again else once())
            except FAILURES as failure:
                if isinstance(failure, TimeoutError):
                    doubt(self._engine, began)
                raise self._away() from failure


async def _twice_if_lost(once: Callable[[], Awaitable[T]]) -> T:
    """Ask again over a new connection if the server closed the first, as a restart does."""
    try:
        return await once()
    except DBAPIError as failure:
        if not failure.connection_invalidated:
            raise
    return await once()


# Held until the commit: of several replicas the first migrates, the others find it done.
lock_migrations: Final = text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")


async def migrate(url: str) -> None:
    """Bring the database to the newest schema; replicas that start together take turns."""
    engine = open_migration_engine(url)
    try:
        async with engine.begin() as connection:
            # Taken before Alembic is entered: its context is one per process.
            await connection.execute(lock_migrations)
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
