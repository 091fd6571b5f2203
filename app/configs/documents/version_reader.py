"""Single versions, from memory, the shared cache or the store.

Memory and cache are for current versions only. An earlier one is always read from the store, which
may have destroyed, deleted or pruned it.
"""

import asyncio
from functools import partial
from typing import Any

from app.cache.provenance import Source, note_source
from app.changes.follower import Follower
from app.changes.model import Pointer
from app.configs.documents.cache import DocumentCache
from app.configs.documents.fetcher import VersionFetcher
from app.configs.documents.memory import BoundedMemory
from app.configs.errors import StoreUnavailable
from app.configs.model import Body, DocumentId
from app.telemetry import CONFIG_READS
from app.timeouts import timeout_while_running

# Looking a label up costs as much as the read itself.
CONFIG_READS_FROM_MEMORY = CONFIG_READS.labels("memory")
_FAR_READS: dict[Source, Any] = {
    "hit-redis": CONFIG_READS.labels("redis"),
    "miss": CONFIG_READS.labels("store"),
}
_Fill = asyncio.Task[tuple[Body, Source]]


class VersionReader:
    """One look into cache and store takes `seconds` at most."""

    def __init__(
        self,
        fetcher: VersionFetcher,
        follower: Follower,
        cached: DocumentCache,
        *,
        memory_bytes: int,
        seconds: float,
    ) -> None:
        self._fetcher = fetcher
        self._follower = follower
        self._cached = cached
        self._seconds = seconds
        self._memory: BoundedMemory[tuple[DocumentId, int], Body] = BoundedMemory(memory_bytes)
        self._under_way: dict[tuple[DocumentId, int, bool], _Fill] = {}
        self._forgotten = 0
        self.hits = self.misses = 0
        follower.listeners.on_log_replaced(self._forget)

    def _forget(self) -> None:
        """Forget everything: adopted pointers may have belonged to another log."""
        self._memory.clear()
        self._under_way.clear()
        self._forgotten += 1

    async def forget_superseded(self) -> None:
        """Drop what the log no longer names from memory: it may be destroyed in the store."""
        await self._memory.keep(lambda named, _: self.current_pointer(*named) is not None)

    def current_pointer(self, document: DocumentId, version: int) -> Pointer | None:
        """Return the pointer if it names `version`: the cache is for what is current."""
        pointer = self._follower.pointers.get(document.path)
        return pointer if pointer is not None and pointer.version == version else None

    def count_hit(self) -> None:
        self.hits += 1
        CONFIG_READS_FROM_MEMORY.inc()

    def in_memory(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body | None:
        """Return a current version if it is in memory."""
        body = self._memory.get((document, version))
        if body is None or (with_secrets and body.without_secrets):
            return None
        self.count_hit()
        note_source("hit-local")
        return body

    async def read(
        self, document: DocumentId, version: int, *, with_secrets: bool, is_current: bool
    ) -> Body:
        """Return one version; concurrent misses share one look into cache and store.

        Without `with_secrets` the secrets of a body may be masks. Raises VersionGone,
        DocumentMalformed and StoreUnavailable.
        """
        remembered = None
        if is_current:
            remembered = self.in_memory(document, version, with_secrets=with_secrets)
        if remembered is not None:
            return remembered
        # Shielded: a reader who leaves must not take the answer from the others.
        body, source = await asyncio.shield(
            self._shared_fill(document, version, with_secrets=with_secrets)
        )
        self.hits += source == "hit-redis"
        self.misses += source == "miss"
        _FAR_READS[source].inc()
        note_source(source)
        return body

    def _shared_fill(self, document: DocumentId, version: int, *, with_secrets: bool) -> _Fill:
        """Join the look that is under way, also one for the whole; else begin one."""
        for is_whole in {True, with_secrets}:
            task = self._under_way.get((document, version, is_whole))
            if task is not None:
                return task
        task = asyncio.create_task(self._fill(document, version, with_secrets=with_secrets))
        self._under_way[document, version, with_secrets] = task
        task.add_done_callback(partial(self._forget_fill, (document, version, with_secrets)))
        return task

    def _forget_fill(self, name: tuple[DocumentId, int, bool], task: _Fill) -> None:
        if self._under_way.get(name) is task:
            del self._under_way[name]
        if not task.cancelled():
            task.exception()  # taken note of even when every reader has given up waiting

    async def _fill(
        self, document: DocumentId, version: int, *, with_secrets: bool
    ) -> tuple[Body, Source]:
        # One bound for all who wait, counted from when the look begins: with one for each, the
        # first of a crowd would time out because of the work of the others.
        try:
            async with timeout_while_running(self._seconds):
                return await self._look_up(document, version, with_secrets=with_secrets)
        except TimeoutError as error:
            raise StoreUnavailable("the configuration store did not answer in time") from error

    async def _look_up(
        self, document: DocumentId, version: int, *, with_secrets: bool
    ) -> tuple[Body, Source]:
        forgotten = self._forgotten
        pointer = self.current_pointer(document, version)
        body = await self._cached.get(document, pointer) if pointer and not with_secrets else None
        source: Source = "hit-redis"
        if body is None:
            source = "miss"
            body = await self._fetcher.fetch(document, version)
            self._share(document, body)
        if forgotten == self._forgotten:
            self._remember_if_current(document, body)
        return body, source

    def _share(self, document: DocumentId, body: Body) -> None:
        pointer = self.current_pointer(document, body.version)
        if pointer is not None:
            self._cached.put_later(document, pointer, body)

    def _remember_if_current(self, document: DocumentId, body: Body) -> None:
        if self.current_pointer(document, body.version) is None:
            return  # superseded: only the store knows whether it may still be read
        present = self._memory.get((document, body.version))
        if present is None or present.without_secrets:  # what is whole stays whole
            self._memory.put((document, body.version), body, body.size)

    def remember(self, document: DocumentId, body: Body) -> None:
        """Keep a version that was just written here."""
        if self.current_pointer(document, body.version) is not None:
            self._memory.put((document, body.version), body, body.size)
        self._cached.drop_before(document, body.version)
        self._share(document, body)
