"""The embedded adapters' durable state: one SQLite file, written by one thread of one service."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

import structlog

from app.errors import Unavailable
from app.hash_chain import HASHED_FIELDS, epoch_microseconds, hash_row

FILE: Final = "pilothouse.db"
_LOCK_FILE: Final = "pilothouse.lock"
_BUSY_SECONDS: Final = 0.9

# The primary codes of lasting failures: no space, no permission, no disk.
_LASTING: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)
_SETTLED_SECONDS: Final = 5.0  # without a failed write, until writes count as recovered
_log = structlog.get_logger(__name__)

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

    -- Every new row is chained to the row before it.
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
    """
    ALTER TABLE instances ADD COLUMN released_at TEXT;
    """,
    """
    CREATE TABLE definition_items (
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
        scopes TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    );
    CREATE INDEX definition_items_by_revision ON definition_items (revision);

    CREATE TABLE definition_versions (
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
        PRIMARY KEY (kind, name, version)
    );

    ALTER TABLE intents ADD COLUMN seq INTEGER;
    CREATE INDEX intents_by_seq ON intents (seq);
    CREATE INDEX intents_reserved ON intents (look_after) WHERE state = 'reserved';
    """,
    """
    CREATE TABLE releases (
        id TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        flag TEXT NOT NULL,
        plan TEXT NOT NULL,
        keys TEXT NOT NULL,
        base INTEGER NOT NULL,
        proposal TEXT,
        round INTEGER,
        item INTEGER,
        members TEXT NOT NULL,
        state TEXT NOT NULL,
        step INTEGER NOT NULL,
        step_since TEXT NOT NULL,
        started_at TEXT NOT NULL,
        started_by TEXT NOT NULL,
        ended_at TEXT,
        signal TEXT NOT NULL,
        actor TEXT NOT NULL,
        comment TEXT NOT NULL,
        revision INTEGER NOT NULL
    );
    CREATE INDEX releases_by_revision ON releases (revision);
    CREATE INDEX releases_by_start ON releases (started_at, id);
    CREATE UNIQUE INDEX releases_active ON releases (kind, environment, service, flag)
        WHERE state IN ('running', 'held', 'finishing');

    CREATE TABLE readers (
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        instance TEXT NOT NULL,
        etag TEXT NOT NULL,
        revision INTEGER NOT NULL,
        release TEXT,
        arm TEXT,
        read_at TEXT,
        outcome TEXT,
        code TEXT NOT NULL,
        reported_at TEXT,
        seen_at TEXT NOT NULL,
        PRIMARY KEY (environment, service, instance)
    );
    CREATE INDEX readers_by_time ON readers (seen_at);

    CREATE TABLE release_reports (
        release TEXT NOT NULL,
        instance TEXT NOT NULL,
        arm TEXT NOT NULL,
        outcome TEXT NOT NULL,
        code TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (release, instance)
    );
    """,
    """
    ALTER TABLE tokens ADD COLUMN created_by_id TEXT;
    """,
    """
    CREATE TABLE webhook_cursors (
        webhook TEXT PRIMARY KEY,
        cursor INTEGER NOT NULL,
        owner TEXT,
        lease_until TEXT NOT NULL,
        opened_at TEXT NOT NULL,
        attempted INTEGER NOT NULL DEFAULT 0,
        gaps INTEGER NOT NULL DEFAULT 0
    );

    CREATE TABLE webhook_deliveries (
        webhook TEXT NOT NULL,
        id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        entity TEXT NOT NULL,
        message TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        queued_at TEXT NOT NULL,
        due_at TEXT NOT NULL,
        dead_at TEXT,
        status INTEGER,
        reason TEXT NOT NULL,
        PRIMARY KEY (webhook, id)
    );
    CREATE INDEX webhook_deliveries_waiting
        ON webhook_deliveries (webhook, entity, revision, id) WHERE dead_at IS NULL;
    CREATE INDEX webhook_deliveries_dead
        ON webhook_deliveries (webhook, revision, id) WHERE dead_at IS NOT NULL;

    CREATE TABLE webhook_attempts (
        webhook TEXT NOT NULL,
        number INTEGER NOT NULL,
        id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        status INTEGER,
        reason TEXT NOT NULL,
        seconds REAL NOT NULL,
        attempt INTEGER NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (webhook, number)
    );
    """,
    """
    CREATE TABLE proposals (
        id TEXT PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        is_open INTEGER NOT NULL,
        author TEXT NOT NULL,
        environments TEXT NOT NULL,
        apply_at TEXT,
        document TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        revision INTEGER NOT NULL,
        idempotency_key TEXT UNIQUE,
        digest TEXT
    );
    CREATE INDEX proposals_open ON proposals (state) WHERE is_open;

    CREATE TABLE proposal_bodies (
        name TEXT PRIMARY KEY,
        body TEXT NOT NULL
    );
    """,
    """
    CREATE INDEX audit_bypasses ON audit (seq)
        WHERE json_extract(facts, '$.bypass_reason') IS NOT NULL;
    """,
    """
    CREATE TABLE promotions (
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        kind TEXT NOT NULL,
        service TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        actor TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (source, target, kind, service, key)
    );

    CREATE TABLE promotion_pins (
        environment TEXT NOT NULL,
        kind TEXT NOT NULL,
        service TEXT NOT NULL,
        key TEXT NOT NULL,
        actor TEXT NOT NULL,
        comment TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (environment, kind, service, key)
    );
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


class SQLiteState:
    def __init__(self, folder: Path) -> None:
        """Open the state in `folder`, created if missing; raises StateInUse or StateUnavailable."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock_folder(folder)
            try:
                self._connection = _open_file(folder / FILE)
            except BaseException:
                os.close(self._lock)
                raise
        except (OSError, sqlite3.Error) as failure:
            raise StateUnavailable(f"no state can be kept in {str(folder)!r}") from failure
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._closed = False
        self._write_failure: str | None = None
        self._failed_at = 0.0

    def write_failure(self) -> str | None:
        """Return why writes fail although reads work; None if they do not fail."""
        return self._write_failure

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one writing transaction, on disk before this returns.

        An exception of `work` rolls back and is raised here; StateUnavailable if the file fails.
        """
        try:
            result = await self._transact("BEGIN IMMEDIATE", work)
        except StateUnavailable as unavailable:
            cause = unavailable.__cause__
            if isinstance(cause, sqlite3.Error) and _is_lasting(cause):
                self._record_failure(str(cause))
            raise
        self._record_success()
        return result

    def _record_failure(self, failure: str) -> None:
        if self._write_failure is None:
            _log.error("state_not_writable", reason=failure)
        self._write_failure, self._failed_at = failure, monotonic()

    def _record_success(self) -> None:
        # On a full disk a small write may still succeed.
        if self._write_failure is not None and monotonic() - self._failed_at > _SETTLED_SECONDS:
            _log.warning("state_writable_again")
            self._write_failure = None

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on one consistent view; raises StateUnavailable if the file fails."""
        return await self._transact("BEGIN", work)

    async def _transact(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StateUnavailable("the state is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run_in_thread, begin, work)

    def _run_in_thread(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return _run_transaction(self._connection, begin, work)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise  # a fault of the caller, not of the disk
        except sqlite3.DatabaseError as failure:
            raise StateUnavailable(f"the state failed: {failure}") from failure

    async def close(self) -> None:
        """Finish pending work and release the folder."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        os.close(self._lock)


def _is_lasting(failure: sqlite3.Error) -> bool:
    code = getattr(failure, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _LASTING


def _lock_folder(folder: Path) -> int:
    """Lock the folder while the returned file is open; the kernel releases it after a kill."""
    lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StateInUse(folder) from None
    return lock


def _open_file(file: Path) -> sqlite3.Connection:
    # Created here with a private mode, which SQLite also gives to its side files.
    made = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    os.fchmod(made, 0o600)
    os.close(made)
    connection = sqlite3.connect(
        file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.create_function(
            "audit_link", 1 + len(HASHED_FIELDS), _hash_stored_row, deterministic=True
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _hash_stored_row(previous: bytes, seq: int, at: str, *others: str | int | None) -> bytes:
    return hash_row(previous, (seq, epoch_microseconds(datetime.fromisoformat(at)), *others))


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_STEPS):
        raise StateUnavailable("the state was written by a newer release of this service")
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT")


def _run_transaction(
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
