"""`audit verify` finds what somebody does to the stored audit who may do everything there."""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.__main__ import main
from app.audit.chain import BrokenRow, ChainHead
from app.audit.embedded import EmbeddedAuditLog
from app.audit.head_signing import head_event
from app.audit.keys import SigningKey, key_id_of, load_signing_key, public_key_pem
from app.audit.port import AuditEvent, AuditLog
from app.audit.postgres import PostgresAuditLog
from app.audit.verification import (
    VerificationResult,
    open_embedded_snapshot,
    open_postgres_snapshot,
    verify,
)
from app.postgres.engine import close_engine, open_engine
from app.postgres.migration import migrate
from app.sqlite.state import FILE, SQLiteState
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.anyio

SIGNER = SigningKey(Ed25519PrivateKey.generate())
KEYS = {key_id_of(SIGNER.public): SIGNER.public}
NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, UTC)
ROWS = 40
SIGNED = (10, 30)

# What is done, and what is found: the first row, and what is wrong with it.
DONE: dict[str, tuple[Sequence[str], int, str]] = {
    "an actor": (("UPDATE audit SET actor = 'eve' WHERE seq = 21",), 21, "changed"),
    "a time": (("UPDATE audit SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 7",), 7, "changed"),
    "a reason": (("UPDATE audit SET facts = NULL WHERE seq = 2",), 2, "changed"),
    "a hash": (("UPDATE audit SET hash = previous WHERE seq = 3",), 3, "changed"),
    "a row": (("DELETE FROM audit WHERE seq = 15",), 15, "deleted"),
    "the first": (("DELETE FROM audit WHERE seq = 1",), 1, "deleted"),
    "rows, closed up": (
        (
            "DELETE FROM audit WHERE seq = 15",
            "UPDATE audit SET seq = -seq WHERE seq > 15",
            "UPDATE audit SET seq = -seq - 1 WHERE seq < 0",
        ),
        15,
        "deleted",
    ),
    "a new row": (
        (
            "UPDATE audit SET seq = -seq WHERE seq >= 20",
            "UPDATE audit SET seq = 1 - seq WHERE seq < 0",
            (
                "INSERT INTO audit"
                " (at, actor, action, kind, environment, name, seq, previous, hash)"
                " SELECT at, 'eve', action, kind, environment, name, 20, previous, hash"
                " FROM audit WHERE seq = 21"
            ),
        ),
        20,
        "inserted",
    ),
    "places": (
        (
            "UPDATE audit SET seq = -seq WHERE seq IN (12, 17)",
            "UPDATE audit SET seq = CASE seq WHEN -12 THEN 17 ELSE 12 END WHERE seq < 0",
        ),
        12,
        "reordered",
    ),
    "the end": (("DELETE FROM audit WHERE seq > 35",), 36, "truncated"),
    "the end and the head": (
        (
            "DELETE FROM audit WHERE seq > 20",
            "UPDATE audit_head SET seq = 20, hash = (SELECT hash FROM audit WHERE audit.seq = 20)",
        ),
        21,
        "truncated",
    ),
    "everything": (("DELETE FROM audit", "DELETE FROM audit_head"), 1, "truncated"),
    "a signature": (("UPDATE audit_heads SET signature = hash WHERE seq = 30",), 30, "signature"),
    "a signer": (("UPDATE audit_heads SET key_id = 'eve' WHERE seq = 10",), 10, "signature"),
    "what was signed": (("UPDATE audit_heads SET seq = 31 WHERE seq = 30",), 11, "rewritten"),
}


async def fill(log: AuditLog) -> None:
    events = [
        AuditEvent(NOW, "ana", "denied", "config", "staging", f"s-{n}", facts={"n": n})
        for n in range(ROWS)
    ]
    for start in range(0, ROWS, 10):
        await log.record(events[start : start + 10])
        head = await log.head()
        if head.seq in SIGNED:
            await log.store_signed_head(SIGNER.sign(head, NOW))


# Postgres


@pytest.fixture(scope="module")
async def url(postgres_server: PostgresServer) -> str:
    made = postgres_server.fresh_database()
    await migrate(made)
    engine = open_engine(made, PATIENT_SECONDS)
    await fill(PostgresAuditLog(engine))
    await close_engine(engine)
    return made


@pytest.fixture
async def superuser(url: str) -> AsyncIterator[asyncpg.Connection]:
    """May do everything, and puts everything back."""
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")  # no trigger fires
    for table in ("audit", "audit_head", "audit_heads"):
        await connection.execute(f"CREATE TEMP TABLE kept_{table} AS TABLE {table}")
    yield connection
    for table in ("audit", "audit_head", "audit_heads"):
        await connection.execute(f"DELETE FROM {table}")
        override = "OVERRIDING SYSTEM VALUE" if table == "audit" else ""
        await connection.execute(f"INSERT INTO {table} {override} TABLE kept_{table}")
    await connection.close()


async def of_postgres(url: str, after: int = 0, **options: Any) -> VerificationResult:
    async with open_postgres_snapshot(url) as trail:
        return await verify(trail, after, options.pop("keys", KEYS), **options)


async def test_what_was_written_is_as_it_was(url: str) -> None:
    found = await of_postgres(url)

    assert (found.broken, found.rows, found.heads, found.last.seq) == (None, ROWS, 2, ROWS)


@pytest.mark.parametrize("what", DONE)
async def test_what_a_superuser_does_is_found(
    url: str, superuser: asyncpg.Connection, what: str
) -> None:
    statements, seq, fault = DONE[what]
    for statement in statements:
        await superuser.execute(statement)

    found = (await of_postgres(url)).broken

    assert found is not None
    assert (found.seq, found.fault) == (seq, fault)


async def test_it_is_found_in_whatever_parts_the_rows_are_read(
    url: str, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.audit.verification._BATCH", 3)
    assert (await of_postgres(url)).broken is None
    for statement in DONE["rows, closed up"][0]:
        await superuser.execute(statement)

    found = (await of_postgres(url, after=4)).broken

    assert found is not None
    assert (found.seq, found.fault) == (15, "deleted")


async def test_a_row_without_a_number_is_found(url: str, superuser: asyncpg.Connection) -> None:
    await superuser.execute("ALTER TABLE audit ALTER seq DROP NOT NULL")
    await superuser.execute("UPDATE audit SET seq = NULL WHERE seq = 40")

    found = (await of_postgres(url)).broken

    await superuser.execute("DELETE FROM audit WHERE seq IS NULL")
    await superuser.execute("ALTER TABLE audit ALTER seq SET NOT NULL")
    assert found is not None
    assert found.fault == "inserted"


async def test_rows_before_a_trusted_one_are_not_looked_at(
    url: str, superuser: asyncpg.Connection
) -> None:
    await superuser.execute("UPDATE audit SET actor = 'eve' WHERE seq = 5")

    assert (await of_postgres(url, after=8)).broken is None
    assert (await of_postgres(url, after=4)).broken is not None
    await superuser.execute("DELETE FROM audit WHERE seq = 5")
    assert (await of_postgres(url, after=5)).broken == BrokenRow(
        5, "deleted", "the row to begin after is missing"
    )


async def test_heads_that_are_kept_elsewhere_find_what_is_done_to_all_tables(
    url: str, superuser: asyncpg.Connection
) -> None:
    async with open_postgres_snapshot(url) as trail:
        heard = await trail.signed_heads()
    for statement in (*DONE["the end and the head"][0], "DELETE FROM audit_heads WHERE seq = 30"):
        await superuser.execute(statement)

    alone = await of_postgres(url)
    found = (await of_postgres(url, heard=heard)).broken

    assert alone.broken is None
    assert found is not None
    assert (found.seq, found.fault) == (21, "truncated")


async def test_without_a_key_what_was_signed_is_compared_all_the_same(
    url: str, superuser: asyncpg.Connection
) -> None:
    await superuser.execute("UPDATE audit_heads SET signature = hash WHERE seq = 30")
    assert (await of_postgres(url, keys=None)).broken is None

    await superuser.execute("UPDATE audit_heads SET hash = signature WHERE seq = 10")
    assert (await of_postgres(url, keys=None)).broken is not None


# Embedded, as a command


@pytest.fixture(scope="module")
async def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    state = SQLiteState(folder)
    log = EmbeddedAuditLog(state)
    await fill(log)
    signer = load_signing_key(None, folder)
    await log.store_signed_head(signer.sign(await log.head(), NOW))
    await state.close()
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = copytree(original, tmp_path / "data")
    monkeypatch.setenv("PILOTHOUSE_DATA_DIR", str(made))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return made


def run_statements(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / FILE)
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in triggers.fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def of_folder(folder: Path) -> BrokenRow | None:
    async with open_embedded_snapshot(folder) as trail:
        return (await verify(trail, 0, {**KEYS, **own(folder)})).broken


def own(folder: Path) -> dict[str, Any]:
    public = load_signing_key(None, folder).public
    return {key_id_of(public): public}


@pytest.mark.parametrize("what", DONE)
async def test_what_is_done_to_the_file_is_found(folder: Path, what: str) -> None:
    assert await of_folder(folder) is None
    statements, seq, fault = DONE[what]
    run_statements(folder, *statements)

    found = await of_folder(folder)

    assert found is not None
    assert (found.seq, found.fault) == (seq, fault)


def keys(folder: Path) -> Iterator[str]:
    """Write the public keys of the two who have signed."""
    for number, signer in enumerate((SIGNER, load_signing_key(None, folder))):
        file = folder / f"{number}.pem"
        file.write_text(public_key_pem(signer))
        yield f"--public-key={file}"


def test_the_command_says_that_all_is_well(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "verify", *keys(folder)]) == 0
    assert "40 rows are as they were written, the last is 40; 3 signed heads" in (
        capsys.readouterr().out
    )


def test_the_command_names_the_first_broken_row(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_statements(folder, "UPDATE audit SET actor = 'eve' WHERE seq IN (21, 30)")

    assert main(["audit", "verify", *keys(folder)]) == 1
    assert main(["audit", "verify", "--from-seq=31", *keys(folder)]) == 0
    assert capsys.readouterr().out.startswith("row 21: changed: ")


def test_the_command_takes_what_kafka_has_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = folder / "heads"
    heard.write_bytes(head_event(SIGNER.sign(ChainHead(50, bytes(32)), NOW)).value)

    assert main(["audit", "verify", f"--heads={heard}", *keys(folder)]) == 1
    assert "row 41: truncated" in capsys.readouterr().out
    heard.write_text(json.dumps({"type": "pilothouse.config.updated", "data": {}}))
    assert main(["audit", "verify", f"--heads={heard}"]) == 2


def test_the_command_cannot_verify_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PILOTHOUSE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)

    assert main(["audit", "verify"]) == 2
    assert main(["audit", "key"]) == 2
    assert list(tmp_path.iterdir()) == []
    assert "could not be read" in capsys.readouterr().err
