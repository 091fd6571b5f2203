"""The role that `audit grants` makes runs the service, and can only add to the audit."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from app.audit.port import AuditEvent, AuditFilter, SignedHead
from app.audit.postgres import PostgresAuditLog
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.intents import PostgresIntents
from app.changes.log.postgres.log import PostgresChangeLog
from app.changes.model import Disclosure, Entity, Intent, Written
from app.commands.audit import grant_statements
from app.flags.model import Commit, Edit
from app.flags.store.postgres import PostgresFlagStore
from app.postgres.engine import close_engine, open_engine
from app.postgres.migration import migrate
from app.registry.instances.postgres import PostgresInstanceStore
from app.registry.model import Registration
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ABOUT = Entity("config", "staging", "billing", "layers/staging/billing")
EVENT = AuditEvent(NOW, "ana", "denied", "config", "staging", "billing")


@pytest.fixture(scope="module")
async def url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A migrated database, as the restricted role reaches it."""
    owners = postgres_server.fresh_database()
    await migrate(owners)
    role, password = f"Role {uuid4().hex}", uuid4().hex
    owner = await asyncpg.connect(owners)
    await owner.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'")
    for statement in grant_statements(role):
        await owner.execute(statement)
    parts = urlsplit(owners)
    host = f"{parts.hostname}:{parts.port}"
    netloc = f"{role.replace(' ', '%20')}:{password}@{host}"
    yield parts._replace(netloc=netloc).geturl()
    await owner.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
    await owner.close()


async def test_the_service_runs_under_it(url: str) -> None:
    await migrate(url)  # as the service does at its start where there is nothing left to do
    engine = open_engine(url, PATIENT_SECONDS)
    connection, audit = LogConnection(engine, url), PostgresAuditLog(engine)
    log = PostgresChangeLog(connection)
    await PostgresIntents(connection).begin(
        Intent("i-1", ABOUT, 0, "created", "ana", "", "r-1", NOW)
    )
    await log.advance(ABOUT, [Written(1, "i-1", NOW)])
    await log.record_disclosure(Disclosure(ABOUT, ("key",), "ana", "r-2"))
    edit = Edit("flag", "beta", "{}", "created", {"after": "0f"})
    await PostgresFlagStore(engine).commit(Commit("staging", 0, [edit], "ana", "", "r-3"))
    instance = Registration(
        "billing", "one", "{}", "heartbeat", 30, "here", "ana", "r-4", "::1", "0f"
    )
    await PostgresInstanceStore(engine).register(instance)
    await PostgresInstanceStore(engine).deregister("billing", "one", None, "bob", "r-5", "::2")
    await audit.record([EVENT])
    await audit.store_signed_head(SignedHead(*await audit.head(), NOW, "k", b"signature"))

    rows = await audit.rows(0, 100, AuditFilter())

    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.request_id for row in rows] == ["r-1", "r-2", "r-3", "r-4", "r-5", None]
    assert [row.facts for row in rows[2:5]] == [
        {"after": "0f"},
        {"before": None, "after": "0f"},
        {"before": "0f", "after": None},
    ]
    assert [row.source for row in rows[3:5]] == ["::1", "::2"]
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'eve'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "UPDATE audit_head SET seq = 0",
        "DELETE FROM audit_head",
        "INSERT INTO audit_head VALUES (1, 0, '')",
        "UPDATE audit_heads SET seq = 0",
        "DELETE FROM audit_heads",
        "TRUNCATE audit_heads",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_refuse ON audit",
        "DROP TABLE audit",
        "SET session_replication_role = replica",
        "CREATE TRIGGER mine BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
        (
            "CREATE TEMP TABLE t (a int); CREATE TRIGGER mine BEFORE INSERT ON t"
            " FOR EACH ROW EXECUTE FUNCTION audit_chain()"
        ),
        (
            "CREATE OR REPLACE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END'"
        ),
    ],
)
async def test_it_can_take_nothing_back(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_it_says_of_the_chain_is_not_listened_to(url: str) -> None:
    engine = open_engine(url, PATIENT_SECONDS)
    audit = PostgresAuditLog(engine)
    await audit.record([EVENT])
    before = await audit.head()
    connection = await asyncpg.connect(url)
    # Its own tables of the same names stand before all others on its way.
    await connection.execute("CREATE TEMP TABLE audit_head AS SELECT 1 AS id, 7::bigint AS seq")

    await connection.execute(
        "INSERT INTO audit (at, actor, action, kind, environment, name, seq, previous, hash)"
        " VALUES (now(), 'eve', 'a', 'k', 'e', 'n', 999, '', '')"
    )

    await connection.close()
    after = await audit.head()
    (row,) = await audit.rows(before.seq, 10, AuditFilter())
    assert (after.seq, row.seq, row.actor) == (before.seq + 1, before.seq + 1, "eve")
    assert row.hash == after.hash
    await close_engine(engine)
