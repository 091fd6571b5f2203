"""Seeded bugs: what must not become of flags, done, so that the checker can show its teeth.

Each is a promise of `app/flags/store/port.py` left out; none is in the service.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import asyncpg

from app.flags.model import Commit, Item, RecordedCommit
from app.flags.store.port import FlagStore
from app.settings import Settings
from app.wiring import Backends

FLAG_BUGS = ("forgets_keys", "hides_deletes", "unlogged_flags", "rewrites_history")
# Without the row, no replica that has not read it yet would ever reach its revision.
_UNLOGGED = "UPDATE changes SET environment = 'another' WHERE revision = $1"
_REWRITTEN = "DELETE FROM flag_versions WHERE revision = $1"


def planted_in_flags(bug: str, backends: Backends, settings: Settings) -> Backends:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    return replace(backends, flags=cast("FlagStore", _Careless(backends.flags, bug, url)))


class _Careless:
    def __init__(self, store: FlagStore, bug: str, url: str) -> None:
        self._store = store
        self._bug = bug
        self._url = url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commit: Commit) -> Sequence[Item]:
        if self._bug == "forgets_keys":
            commit = replace(commit, idempotency_key=None)
        items = await self._store.commit(commit)
        if self._bug in {"unlogged_flags", "rewrites_history"}:
            connection = await asyncpg.connect(self._url)
            lost = _UNLOGGED if self._bug == "unlogged_flags" else _REWRITTEN
            await connection.execute(lost, items[0].revision)
            await connection.close()
        return items

    async def commit_by_idempotency_key(self, idempotency_key: str) -> RecordedCommit | None:
        found = await self._store.commit_by_idempotency_key(idempotency_key)
        return None if self._bug == "forgets_keys" else found

    async def items_after(self, after: int, limit: int) -> Sequence[Item]:
        found = await self._store.items_after(after, limit)
        if self._bug == "hides_deletes":
            return [item for item in found if not item.is_deleted]
        return found
