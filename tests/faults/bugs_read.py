"""Seeded bugs: what readers must not be shown, shown, so that the checker can show its teeth.

Each is a rule of docs/protocols.md B left out; none is in the service.
"""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

from app.changes.follower import _BATCH, Follower
from app.changes.model import Pointer
from app.configs.documents.cache import DocumentCache, _start, encode_entry
from app.configs.documents.version_reader import VersionReader
from app.configs.model import Body, DocumentId, decode

READ_BUGS = ("revision_first", "joins_older_fill", "key_without_version")
JOINED = "joined an older fill"  # what the second of them prints


def plant_in_reads(bug: str) -> None:
    match bug:
        case "revision_first":
            Follower.catch_up = _moves_the_revision_first  # type: ignore[method-assign]
        case "joins_older_fill":
            VersionReader._shared_fill = _joins_any_fill  # type: ignore[method-assign]  # noqa: SLF001
        case _:
            DocumentCache.get = _gets_what_is_there  # type: ignore[method-assign]
            DocumentCache._put = _puts_under_one_key  # type: ignore[method-assign]  # noqa: SLF001
            DocumentCache.drop_before = _drops_the_one_key  # type: ignore[method-assign]


async def _moves_the_revision_first(self: Any) -> None:
    known_revision = self.revision
    if changes := await self._log.since(known_revision, _BATCH):
        self.revision = changes[-1].revision
        self.wake_waiters()
        for change in await self._log.since(known_revision, _BATCH):
            self._apply(change)


def _joins_any_fill(self: Any, document: DocumentId, version: int, *, with_secrets: bool) -> Any:
    for (filled, older, _), task in self._under_way.items():
        if filled == document:
            if older != version:
                print(JOINED, flush=True)  # noqa: T201 - the test reads it in the log
            return task
    name = (document, version, with_secrets)
    task = asyncio.create_task(self._fill(document, version, with_secrets=with_secrets))
    self._under_way[name] = task
    task.add_done_callback(partial(self._forget_fill, name))
    return task


def _one_key(document: DocumentId) -> str:
    return f"config:{document.environment}:{document.service}"


async def _gets_what_is_there(self: Any, document: DocumentId, pointer: Pointer) -> Body | None:
    entry = await self._cache.get(_one_key(document))
    return entry and replace(decode(entry.partition(b"\n")[2].decode()), without_secrets=True)


async def _puts_under_one_key(self: Any, document: DocumentId, pointer: Pointer, body: Any) -> None:
    if entry := encode_entry(document, pointer, body):
        await self._cache.put(_one_key(document), entry)


def _drops_the_one_key(self: Any, document: DocumentId, version: int) -> None:
    _start(self._drops, self._cache.drop([_one_key(document)]))
