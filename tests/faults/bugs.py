"""Seeded bugs: what the service must not do, done, so that the checkers can show their teeth.

Each is a rule of the protocols left out (docs/protocols.md); none is in the service.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg

from app.changes.log.port import ChangeLog
from app.changes.model import Entity, Pointer, Written
from app.configs.documents.attempt import WriteAttempt
from app.configs.documents.version_sender import ReadBack, VersionSender
from app.configs.errors import VersionMissing, VersionTaken
from app.configs.model import DocumentId
from app.configs.store.port import ConfigStore
from app.settings import Settings
from app.wiring import Backends
from tests.faults.bugs_flags import FLAG_BUGS, planted_in_flags
from tests.faults.bugs_read import READ_BUGS, plant_in_reads
from tests.faults.bugs_schemas import SCHEMA_BUGS, planted_in_judging
from tests.faults.bugs_told import RELAY_BUGS, STREAM_BUGS, plant_in_stream, planted_in_relay

BUGS = ("unconditional_commit", "reads_current", "conflict_unread", "commits_out_of_order")

# The table's own guard would turn the bug into an error: who forgets one forgets the other.
_WITHOUT_GUARD = """
ALTER TABLE changes
    DROP CONSTRAINT IF EXISTS changes_doc_version_key, DROP CONSTRAINT IF EXISTS changes_id_key
"""
_ROW = """
INSERT INTO changes
    (id, doc, kind, environment, name, version, action, actor, comment, at, deleted)
SELECT id, doc, kind, environment, name, $2, action, actor, comment, at, false
FROM intents WHERE id = $1 RETURNING revision
"""
_APPLIED = "UPDATE intents SET state = 'applied', version = $2, revision = $3 WHERE id = $1"
_MOVED = """
INSERT INTO documents VALUES ($1, $2, $3, $4, $5, $6, false, now(), '')
ON CONFLICT (doc) DO UPDATE SET
    logged_version = greatest(documents.logged_version, excluded.logged_version),
    revision = greatest(documents.revision, excluded.revision)
"""
# The id that this request itself has stored.
_stored = ContextVar("stored", default="")


def plant_bug(bug: str, backends: Backends, settings: Settings) -> Backends:
    """Return backends with the bug in them, or plant it in the writer."""
    match bug:
        case "":
            return backends
        case "unconditional_commit" | "commits_out_of_order":
            assert settings.database_url is not None
            url = settings.database_url.get_secret_value()
            log = CarelessLog(backends.changes.log, url, own_only=bug == "commits_out_of_order")
            store = cast("ConfigStore", _Remembering(backends.store))
            changes = replace(backends.changes, log=cast("ChangeLog", log))
            return replace(backends, changes=changes, store=store)
        case "reads_current":
            VersionSender._read_back = _looks_at_the_current_version  # type: ignore[method-assign]  # noqa: SLF001
        case "conflict_unread":
            VersionSender._send_once = _takes_a_400_for_a_conflict  # type: ignore[method-assign]  # noqa: SLF001
        case _ if bug in READ_BUGS:
            plant_in_reads(bug)
        case _ if bug in FLAG_BUGS:
            return planted_in_flags(bug, backends, settings)
        case _ if bug in SCHEMA_BUGS:
            return planted_in_judging(bug, backends)
        case _ if bug in RELAY_BUGS:
            return planted_in_relay(bug, backends)
        case _ if bug in STREAM_BUGS:
            plant_in_stream(bug)
        case _:
            raise ValueError(f"no bug is called {bug!r}")
    return backends


async def _looks_at_the_current_version(self: Any, attempt: WriteAttempt) -> ReadBack:
    head = await self.store.head(attempt.document)
    if head.version == attempt.intent.base:
        return ReadBack.ABSENT
    try:
        text = await self.store.read(attempt.document, head.version)
    except VersionMissing:
        return ReadBack.ABSENT
    is_mine = json.loads(text)["change"]["id"] == attempt.intent.id
    return ReadBack.MINE if is_mine else ReadBack.OTHER


async def _takes_a_400_for_a_conflict(self: Any, attempt: WriteAttempt) -> ReadBack:
    try:
        await self.store.write(attempt.document, attempt.text, base=attempt.intent.base)
    except VersionTaken:
        return ReadBack.OTHER
    return ReadBack.MINE


class _Remembering:
    """A store that remembers what the request under way has stored."""

    def __init__(self, store: ConfigStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, document: DocumentId, text: str, *, base: int) -> None:
        _stored.set(json.loads(text)["change"]["id"])
        await self._store.write(document, text, base=base)


class CarelessLog:
    """Commits what it is given: no guard, no look at what is logged, no gap noticed.

    `own_only`: it leaves versions of others out, for them to log, and counts them as logged.
    """

    def __init__(self, log: ChangeLog, url: str, *, own_only: bool) -> None:
        self._log = log
        self._url = url
        self._own_only = own_only

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        async with self._transaction() as connection:
            for found in written:
                await self._commit(connection, entity, found)
        pointer = await self._log.pointer(entity.key)
        return pointer or Pointer(entity, 0, 0, deleted=False, at=datetime.now(UTC), actor="")

    async def _commit(self, connection: Any, entity: Entity, found: Written) -> None:
        revision = 0
        if not self._own_only or found.change_id == _stored.get():
            revision = await connection.fetchval(_ROW, found.change_id, found.version)
            await connection.execute(_APPLIED, found.change_id, found.version, revision)
        names = (entity.key, entity.kind, entity.environment, entity.name)
        await connection.execute(_MOVED, *names, found.version, revision)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(_WITHOUT_GUARD)
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()
