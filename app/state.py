"""The embedded adapters' durable state: one SQLite file, written by one thread of one service."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from app.errors import Unavailable
from app.links import FIELDS, link, microseconds

FILE: Final = "pilothouse.db"
_LOCK_FILE: Final = "pilothouse.lock"
_BUSY_SECONDS: Final = 0.9

T = TypeVar("T")

# Each step brings the file from its index to the next `user_version`; a released step stays as
# it is. Timestamps are UTC text of one width, so that text order is time order.
_STEPS: Final = (
    """
    CREATE TABLE changes (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        doc TEXT NOT NULL,
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        action TEXT NOT NULL,
        actor TEXT NOT NULL,
        comment TEXT NOT NULL,
        at TEXT NOT NULL,
        deleted INTEGER NOT NULL,
        facts TEXT,
        UNIQUE (doc, version)
    );
    CREATE INDEX changes_by_environment ON changes (environment, revision);
    CREATE INDEX changes_by_kind ON changes (kind, revision);
    CREATE INDEX changes_by_name ON changes (name, revision);
    CREATE INDEX changes_by_time ON changes (at);

    CREATE TABLE documents (
        doc TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        name TEXT NOT NULL,
        logged_version INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        updated_at TEXT NOT NULL,
        updated_by TEXT NOT NULL
    );

    CREATE TABLE intents (
        id TEXT PRIMARY KEY,
        doc TEXT NOT NULL,
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        name TEXT NOT NULL,
        base_version INTEGER NOT NULL,
        action TEXT NOT NULL,
        actor TEXT NOT NULL,
        comment TEXT NOT NULL,
        request_id TEXT NOT NULL,
        at TEXT NOT NULL,
        idempotency_key TEXT UNIQUE,
        digest TEXT,
        state TEXT NOT NULL,
        version INTEGER,
        revision INTEGER,
        looks INTEGER NOT NULL DEFAULT 0,
        look_after TEXT NOT NULL
    );
    CREATE INDEX intents_undecided_by_look ON intents (look_after)
        WHERE state IN ('open', 'expired');
    CREATE INDEX intents_undecided_by_doc ON intents (doc, base_version)
        WHERE state IN ('open', 'expired');

    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER,
        revision INTEGER,
        request_id TEXT,
        facts TEXT
    );
    CREATE INDEX audit_by_time ON audit (at);

    CREATE TABLE claims (
        task TEXT PRIMARY KEY,
        at TEXT NOT NULL
    );

    CREATE TABLE versions (
        doc TEXT NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (doc, version)
    );

    CREATE TABLE heads (
        doc TEXT PRIMARY KEY,
        version INTEGER NOT NULL
    );
    """,
    """
    ALTER TABLE changes ADD COLUMN logged_at TEXT NOT NULL DEFAULT '';
    ALTER TABLE changes ADD COLUMN sent_at TEXT;
    UPDATE changes SET logged_at = at;
    CREATE INDEX changes_unsent ON changes (revision) WHERE sent_at IS NULL;

    CREATE TABLE horizon (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL
    );
    INSERT INTO horizon VALUES (1, 0);
    """,
    """
    CREATE TABLE flag_items (
        environment TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        definition TEXT NOT NULL,
        action TEXT NOT NULL,
        actor TEXT NOT NULL,
        comment TEXT NOT NULL,
        at TEXT NOT NULL,
        created_at TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (environment, kind, name)
    );
    CREATE INDEX flag_items_by_revision ON flag_items (revision);

    CREATE TABLE flag_versions (
        environment TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        definition TEXT NOT NULL,
        action TEXT NOT NULL,
        actor TEXT NOT NULL,
        comment TEXT NOT NULL,
        at TEXT NOT NULL,
        created_at TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (environment, kind, name, version)
    );
    CREATE INDEX flag_versions_by_revision ON flag_versions (revision);

    CREATE TABLE flag_sets (
        environment TEXT PRIMARY KEY,
        revision INTEGER NOT NULL
    );

    CREATE TABLE flag_requests (
        idempotency_key TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        at TEXT NOT NULL,
        environment TEXT NOT NULL,
        first_revision INTEGER NOT NULL,
        last_revision INTEGER NOT NULL
    );

    CREATE TABLE flag_usage (
        environment TEXT NOT NULL,
        flag TEXT NOT NULL,
        variant TEXT NOT NULL,
        count INTEGER NOT NULL,
        last_evaluated_at TEXT NOT NULL,
        PRIMARY KEY (environment, flag, variant)
    );
    """,
    """
    CREATE TABLE instances (
        service TEXT NOT NULL,
        instance_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        term INTEGER NOT NULL,
        state TEXT NOT NULL,
        health TEXT NOT NULL,
        owner TEXT NOT NULL,
        definition TEXT NOT NULL,
        lease TEXT NOT NULL,
        ttl_seconds REAL NOT NULL,
        registered_at TEXT NOT NULL,
        heartbeat_at TEXT NOT NULL,
        claimed_at TEXT NOT NULL,
        draining_until TEXT,
        version INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        moved_at TEXT NOT NULL,
        PRIMARY KEY (service, instance_id)
    );
    CREATE INDEX instances_by_revision ON instances (revision);
    """,
    """
    ALTER TABLE audit RENAME TO audit_before;
    DROP INDEX audit_by_time;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER,
        revision INTEGER,
        request_id TEXT,
        source TEXT,
        facts TEXT,
        seq INTEGER UNIQUE,
        previous BLOB,
        hash BLOB
    );
    CREATE INDEX audit_by_time ON audit (at);

    CREATE TABLE audit_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL
    );
    INSERT INTO audit_head VALUES (1, 0, zeroblob(32));

    CREATE TABLE audit_heads (
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL,
        at TEXT NOT NULL,
        key_id TEXT NOT NULL,
        signature BLOB NOT NULL,
        PRIMARY KEY (seq, at)
    );

    -- Whoever writes a row, it follows the one before.
    CREATE TRIGGER audit_chain AFTER INSERT ON audit BEGIN
        UPDATE audit SET
            seq = head.seq + 1,
            previous = head.hash,
            hash = audit_link(
                head.hash, head.seq + 1, NEW.at, NEW.actor, NEW.action, NEW.kind, NEW.environment,
                NEW.name, NEW.version, NEW.revision, NEW.request_id, NEW.source, NEW.facts
            )
        FROM audit_head AS head WHERE audit.id = NEW.id;
        UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit WHERE id = NEW.id);
    END;
    CREATE TRIGGER audit_keeps_rows BEFORE UPDATE ON audit WHEN OLD.hash IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'the audit is append-only');
    END;
    CREATE TRIGGER audit_loses_none BEFORE DELETE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit is append-only');
    END;
    CREATE TRIGGER audit_heads_stay BEFORE UPDATE ON audit_heads BEGIN
        SELECT RAISE(ABORT, 'the audit is append-only');
    END;
    CREATE TRIGGER audit_heads_lose_none BEFORE DELETE ON audit_heads BEGIN
        SELECT RAISE(ABORT, 'the audit is append-only');
    END;

    INSERT INTO audit (
        at, actor, action, kind, environment, name, version, revision, request_id, facts
    )
    SELECT at, actor, action, kind, environment, name, version, revision, request_id, facts
    FROM audit_before ORDER BY id;
    DROP TABLE audit_before;

    ALTER TABLE intents ADD COLUMN source TEXT;
    ALTER TABLE intents ADD COLUMN facts TEXT;
    ALTER TABLE instances ADD COLUMN fingerprint TEXT;
    """,
    """
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        token_class TEXT NOT NULL,
        environments TEXT NOT NULL,
        services TEXT NOT NULL,
        roles TEXT NOT NULL,
        digest BLOB NOT NULL,
        created_at TEXT NOT NULL,
        created_by TEXT NOT NULL,
        expires_at TEXT,
        revoked_at TEXT,
        last_used_at TEXT,
        revision INTEGER NOT NULL
    );
    CREATE INDEX tokens_by_revision ON tokens (revision);
    CREATE INDEX tokens_by_time ON tokens (created_at, id);
    """,
    """
    CREATE INDEX intents_decided_by_time ON intents (at) WHERE state IN ('applied', 'lost');
    """,
)


class StateUnavailable(Unavailable):
    code = "state_unavailable"


class StateInUse(StateUnavailable):
    code = "state_in_use"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"another service keeps its state in {str(folder)!r}; one folder serves one process"
        )
        self.folder = folder


class State:
    def __init__(self, folder: Path) -> None:
        """Open the state in `folder`, made if missing; raises StateInUse or StateUnavailable."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(folder)
            try:
                self._connection = _open(folder / FILE)
            except BaseException:
                os.close(self._lock)
                raise
        except (OSError, sqlite3.Error) as failure:
            raise StateUnavailable(f"no state can be kept in {str(folder)!r}") from failure
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one writing transaction, on the disk before this returns.

        What `work` raises rolls it back and is raised here; StateUnavailable if the file fails.
        """
        return await self._transact("BEGIN IMMEDIATE", work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on one consistent view; raises StateUnavailable if the file fails."""
        return await self._transact("BEGIN", work)

    async def _transact(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StateUnavailable("the state is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._in_turn, begin, work)

    def _in_turn(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return _transaction(self._connection, begin, work)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise  # a mistake of the caller's, not of the disk
        except sqlite3.DatabaseError as failure:
            raise StateUnavailable(f"the state failed: {failure}") from failure

    async def close(self) -> None:
        """Finish what was begun and give the folder free."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        os.close(self._lock)


def _lock(folder: Path) -> int:
    """Hold the folder as long as the returned file is open: the kernel frees it after a kill."""
    lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StateInUse(folder) from None
    return lock


def _open(file: Path) -> sqlite3.Connection:
    # Made by us, so that nobody else can read it at any moment; SQLite gives its side files
    # the same mode.
    made = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    os.fchmod(made, 0o600)
    os.close(made)
    connection = sqlite3.connect(
        file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.create_function("audit_link", 1 + len(FIELDS), _link, deterministic=True)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _link(previous: bytes, seq: int, at: str, *others: str | int | None) -> bytes:
    return link(previous, (seq, microseconds(datetime.fromisoformat(at)), *others))


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_STEPS):
        raise StateUnavailable("the state was written by a newer release of this service")
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT")


def _transaction(
    connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]
) -> T:
    connection.execute(begin)
    try:
        result = work(connection)
        if isinstance(result, sqlite3.Cursor):
            result.close()  # here: the caller's thread would, while this one uses the connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise
    return result
