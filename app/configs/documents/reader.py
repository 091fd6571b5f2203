"""Reading: exactly the version the log names, from memory, the shared cache or the store.

Memory and cache are for current versions only. An earlier one is always read from the store, which
may have destroyed, deleted or pruned it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from time import monotonic
from typing import Any, Generic, TypeVar

import structlog

from app.cache.provenance import Source, note_source
from app.changes.follower import Follower
from app.changes.model import EXTERNAL_ACTOR, Pointer
from app.configs.documents.cache import DocumentCache
from app.configs.documents.key_facts import key_facts
from app.configs.documents.members import tree_of
from app.configs.errors import (
    BadKey,
    DocumentLost,
    DocumentMalformed,
    DocumentNotFound,
    KeyConflict,
    StoreUnavailable,
    VersionGone,
    VersionIsDeletion,
    VersionMissing,
    VersionNotFound,
    VersionUnreadable,
)
from app.configs.model import KIND, Body, DocumentId, Stamp, decode, document_at, layers_of
from app.configs.secrets import find_bad_secret
from app.configs.store.port import ConfigStore
from app.telemetry import CONFIG_READS, DOCUMENTS_MALFORMED
from app.timeouts import timeout_while_running
from app.web.last_good import note_last_good
from app.workers import LARGE_TEXT, Slices, run_apart
from pilothouse_core.keys import key_of
from pilothouse_core.layers import Merged, merge
from pilothouse_core.strict_json import BadJson

READ_SECONDS = 0.8
_LOOK_AGAIN_SECONDS = 3.0
_STORE_READS_AT_ONCE = 24
_EXTERNAL_STEPS = 20
# Looking a label up costs as much as the read itself.
CONFIG_READS_FROM_MEMORY = CONFIG_READS.labels("memory")
_FAR_READS: dict[Source, Any] = {
    "hit-redis": CONFIG_READS.labels("redis"),
    "miss": CONFIG_READS.labels("store"),
}
_log = structlog.get_logger(__name__)
Key = TypeVar("Key")
Value = TypeVar("Value")


_Fill = asyncio.Task[tuple[Body, Source]]


@dataclass(frozen=True, slots=True)
class Effective:
    """The merged configuration and what it was merged from, lowest layer first.

    `stored` has by leaf key how its layer spells it, where names are relaxed and that differs.
    """

    addressed: DocumentId
    merged: Merged[DocumentId]
    layers: tuple[tuple[DocumentId, int], ...]
    bodies: dict[DocumentId, Body]
    revision: int
    stored: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Count the characters of the stored texts it is made from."""
        return sum(map(_size, self.bodies.values()))

    @property
    def without_secrets(self) -> bool:
        return any(body.without_secrets for body in self.bodies.values())


@dataclass(frozen=True, slots=True)
class _StandIn:
    """The substitute for the malformed `version`: the last good one, if there is any."""

    version: int
    error: DocumentMalformed
    body: Body | None
    looked_up: float


class DocumentReader:
    """`whole=True` reads bodies with their secrets, which only the store has.

    Without it the secrets of a body may be masks. One look into cache and store takes `seconds` at
    most.
    """

    def __init__(
        self,
        store: ConfigStore,
        follower: Follower,
        cached: DocumentCache,
        *,
        max_versions: int,
        memory_bytes: int,
        seconds: float = READ_SECONDS,
    ) -> None:
        self._seconds = seconds
        self._store = store
        self._follower = follower
        self._cached = cached
        self._max_versions = max_versions
        self._memory: BoundedMemory[tuple[DocumentId, int], Body] = BoundedMemory(memory_bytes // 2)
        self._merges: BoundedMemory[tuple[tuple[DocumentId, int], ...], Effective] = BoundedMemory(
            memory_bytes // 2
        )
        self._under_way: dict[tuple[DocumentId, int, bool], _Fill] = {}
        self._bulkhead = asyncio.Semaphore(_STORE_READS_AT_ONCE)
        self._stand_ins: dict[DocumentId, _StandIn] = {}  # for malformed current versions
        self._looked_at: dict[DocumentId, int] = {}
        self._forgotten = 0
        self.hits = self.misses = 0
        follower.listeners.on_log_replaced(self._forget)

    def _forget(self) -> None:
        """Forget everything: adopted pointers may have belonged to another log."""
        self._memory.clear()
        self._merges.clear()
        self._under_way.clear()
        self._stand_ins.clear()
        self._looked_at.clear()
        self._forgotten += 1

    @property
    def follower(self) -> Follower:
        return self._follower

    def pointer(self, document: DocumentId) -> Pointer | None:
        note_source("hit-local")
        return self._follower.pointer(document.path)

    async def current(self, document: DocumentId, *, with_secrets: bool = False) -> Body | None:
        """Return the current version (a deletion too), None where there never was one."""
        pointer = self.pointer(document)
        if pointer is None:
            return None
        return await self._current_at(document, pointer.version, with_secrets=with_secrets)

    async def _current_at(self, document: DocumentId, version: int, *, with_secrets: bool) -> Body:
        """Return the version that the pointer named just now, though it may have moved since."""
        try:
            return await self._read(document, version, with_secrets=with_secrets, is_current=True)
        except VersionGone as error:
            raise DocumentLost(str(document), version) from error

    async def current_or_last_readable(
        self, document: DocumentId, *, with_secrets: bool = False
    ) -> Body:
        """Return the current version, or what is known of one that is no document of ours."""
        try:
            body = await self.current(document, with_secrets=with_secrets)
        except DocumentMalformed as error:
            body = await self.before_malformed(document, error.version, with_secrets=with_secrets)
        if body is None:
            raise DocumentNotFound(str(document))
        return body

    async def require_current(self, document: DocumentId, *, with_secrets: bool = False) -> Body:
        """Return the current version, or raise DocumentNotFound."""
        body = await self.current(document, with_secrets=with_secrets)
        if body is None or body.deleted:
            raise DocumentNotFound(str(document))
        return body

    async def version_or_raise(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """Return a version by number, deletions too; raises VersionNotFound or VersionGone."""
        pointer = self.pointer(document)
        if pointer is None:
            raise DocumentNotFound(str(document))
        if not 1 <= version <= pointer.version:
            raise VersionNotFound(str(document), version)
        return await self.version(document, version, with_secrets=with_secrets)

    async def undeleted_version(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """The same without deletions, which have nothing to show."""
        body = await self.version_or_raise(document, version, with_secrets=with_secrets)
        if body.deleted:
            raise VersionIsDeletion(str(document), version)
        return body

    async def version(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """Return one immutable version; only the current one may come from memory or cache."""
        is_current = self._pointer_at(document, version) is not None
        return await self._read(document, version, with_secrets=with_secrets, is_current=is_current)

    async def _read(
        self, document: DocumentId, version: int, *, with_secrets: bool, is_current: bool
    ) -> Body:
        """Concurrent misses share one look into cache and store."""
        remembered = self._memory.get((document, version)) if is_current else None
        if remembered is not None and not (with_secrets and remembered.without_secrets):
            self.hits += 1
            CONFIG_READS_FROM_MEMORY.inc()
            note_source("hit-local")
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
        for found in {True, with_secrets}:
            task = self._under_way.get((document, version, found))
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
        pointer = self._pointer_at(document, version)
        body = await self._cached.get(document, pointer) if pointer and not with_secrets else None
        source: Source = "hit-redis"
        if body is None:
            source = "miss"
            body = await self._fetch(document, version, _EXTERNAL_STEPS)
            self._share(document, body)
        if forgotten == self._forgotten:
            self._remember_if_current(document, body)
        return body, source

    def _pointer_at(self, document: DocumentId, version: int) -> Pointer | None:
        """Return the pointer if it names `version`: the cache is for what is current."""
        pointer = self._follower.pointers.get(document.path)
        return pointer if pointer is not None and pointer.version == version else None

    def _share(self, document: DocumentId, body: Body) -> None:
        pointer = self._pointer_at(document, body.version)
        if pointer is not None:
            self._cached.put_later(document, pointer, body)

    def _remember_if_current(self, document: DocumentId, body: Body) -> None:
        if self._pointer_at(document, body.version) is None:
            return  # superseded: only the store knows whether it may still be read
        present = self._memory.get((document, body.version))
        if present is None or present.without_secrets:  # what is whole stays whole
            self._memory.put((document, body.version), body, body.size)

    async def _fetch(self, document: DocumentId, version: int, steps: int) -> Body:
        text = await self._text(document, version)
        if text is None:
            raise DocumentMalformed(str(document), version, "it has no text named 'document'")
        try:
            body = await run_apart(len(text) > LARGE_TEXT, decode, text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            flaw, key = _flaw_text(error), _key_of(error)
            raise DocumentMalformed(str(document), version, flaw, key) from error
        bad = await run_apart(len(text) > LARGE_TEXT, find_bad_secret, body.data)
        if bad is not None:
            key, reason = bad
            raise DocumentMalformed(str(document), version, reason, key)
        if body.version != version:
            return await self._complete_external(document, version, body, steps)
        return body

    async def _text(self, document: DocumentId, version: int) -> str | None:
        try:
            async with self._bulkhead:
                return await self._store.read(document, version)
        except (VersionMissing, VersionUnreadable) as error:
            raise VersionGone(str(document), version) from error

    async def _complete_external(
        self, document: DocumentId, version: int, body: Body, steps: int
    ) -> Body:
        """Complete a version written past this service: its key facts tell of another version.

        What the edit changed is found by comparing with the version before it.
        """
        before = await self._version_before(document, version, steps)
        try:
            data = await run_apart(body.size > LARGE_TEXT, tree_of, body.data)
        except (BadKey, KeyConflict) as error:
            found = error.facts.get("key") or error.facts.get("keys")
            key = found[-1] if isinstance(found, list) else found
            raise DocumentMalformed(str(document), version, str(error), str(key)) from error
        pointer = self.pointer(document)
        # The stored time is that of the copied version; the log knows when it was found.
        at = pointer.at.isoformat() if pointer and pointer.version == version else ""
        keep = self._max_versions
        facts = await run_apart(
            body.size > LARGE_TEXT, key_facts, before, data, version, EXTERNAL_ACTOR, at, keep=keep
        )
        stamp = Stamp("", "external", EXTERNAL_ACTOR, "", at)
        return replace(body, version=version, change=stamp, data=data, keys=facts)

    async def _version_before(self, document: DocumentId, version: int, steps: int) -> Body | None:
        if version == 1 or steps == 0:
            return None
        try:
            return await self._fetch(document, version - 1, steps - 1)
        except (VersionGone, DocumentMalformed):
            return None

    async def last_readable(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body | None:
        """Return the newest version up to `version` that can still be read, if one is near."""
        for candidate in range(version, max(0, version - _EXTERNAL_STEPS), -1):
            try:
                return await self.version(document, candidate, with_secrets=with_secrets)
            except (VersionGone, DocumentMalformed):
                continue
        return None

    async def before_malformed(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """Return what is known of a document whose current version is no document of ours."""
        before = await self.last_readable(document, version - 1, with_secrets=with_secrets)
        if before is not None:
            return replace(before, version=version, deleted=False)
        return Body(version, Stamp("", "external", EXTERNAL_ACTOR, "", ""), EXTERNAL_ACTOR, "")

    def remember(self, document: DocumentId, body: Body) -> None:
        """Keep a version that was just written here."""
        if self._pointer_at(document, body.version) is not None:
            self._memory.put((document, body.version), body, body.size)
        self.drop_cached(document, body.version)
        self._share(document, body)

    def drop_cached(self, document: DocumentId, version: int) -> None:
        """Take the versions before `version` out of the cache that all replicas share."""
        self._cached.drop_before(document, version)

    def is_current(self, versions: Iterable[tuple[DocumentId, int]]) -> bool:
        """Tell whether the log still names each of these versions."""
        return all(self._pointer_at(*named) is not None for named in versions)

    async def forget_superseded(self) -> None:
        """Drop what the log no longer names from memory: it may be destroyed in the store."""
        await self._memory.keep(lambda named, _: self.is_current([named]))
        await self._merges.keep(lambda versions, _: self.is_current(versions))

    async def effective(self, document: DocumentId, *, with_secrets: bool = False) -> Effective:
        """Merge the layers that contribute to `document` as the log names them now."""
        remembered = self.effective_in_memory(document)
        if remembered is not None and not (with_secrets and remembered.without_secrets):
            return remembered
        forgotten = self._forgotten
        versions, revision = self._contributing(document)
        bodies = await self._bodies(document, versions, with_secrets=with_secrets)
        is_large = sum(map(_size, bodies.values())) > LARGE_TEXT
        served = tuple((layer, body.version) for layer, body in bodies.items())
        merged = await run_apart(is_large, self._merge, document, served, bodies)
        # An earlier version that replaces a malformed one may vanish from the store.
        if forgotten == self._forgotten and served == versions:
            self._merges.put(versions, merged, sum(map(_size, merged.bodies.values())))
        return replace(merged, revision=revision)

    def effective_in_memory(self, document: DocumentId) -> Effective | None:
        """Return the effective configuration if these very versions were merged already."""
        versions, revision = self._contributing(document)
        found = self._merges.get(versions)
        if found is None:
            return None
        self.hits += 1
        CONFIG_READS_FROM_MEMORY.inc()
        if found.addressed == document and found.revision == revision:
            return found
        return replace(found, addressed=document, revision=revision)

    def _contributing(self, document: DocumentId) -> tuple[tuple[tuple[DocumentId, int], ...], int]:
        """Return the live layers' versions, lowest first, and the newest contributing change."""
        found = [(layer, self.pointer(layer)) for layer in layers_of(document)]
        known = [(layer, pointer) for layer, pointer in found if pointer is not None]
        versions = tuple(
            (layer, pointer.version) for layer, pointer in known if not pointer.deleted
        )
        return versions, max((pointer.revision for _, pointer in known), default=0)

    def newest(self, document: DocumentId) -> int:
        """Return the revision of the newest change that contributes to `document`."""
        return self._contributing(document)[1]

    async def layer_only(self, document: DocumentId, *, with_secrets: bool = False) -> Effective:
        """Return one layer alone in the shape of an effective configuration."""
        pointer = self.pointer(document)
        if pointer is None or pointer.deleted:
            return Effective(document, Merged(), (), {}, pointer.revision if pointer else 0)
        body = await self._current_at(document, pointer.version, with_secrets=with_secrets)
        is_large = body.size > LARGE_TEXT
        alone = await run_apart(is_large, self.as_effective, document, body)
        return replace(alone, revision=pointer.revision)

    async def last_good_layer(
        self, document: DocumentId, *, with_secrets: bool = False
    ) -> Effective:
        """The same for the last good version where the current one is malformed; else nothing."""
        pointer = self.pointer(document)
        body = None
        if pointer is not None and not pointer.deleted:
            body = await self._contribution(
                document, pointer.version, with_secrets=with_secrets, is_needed=False
            )
        if pointer is None or body is None:
            return Effective(document, Merged(), (), {}, revision=0)
        alone = await run_apart(body.size > LARGE_TEXT, self.as_effective, document, body)
        return replace(alone, revision=pointer.revision)

    def documents(self) -> Sequence[DocumentId]:
        """Return every layer that exists, those of users too, in order."""
        found = (
            document_at(path)
            for path, pointer in self._follower.pointers.items()
            if pointer.entity.kind == KIND and not pointer.deleted
        )
        return sorted(
            (document for document in found if document is not None),
            key=lambda each: (each.environment, each.service, each.user or ""),
        )

    def as_effective(self, document: DocumentId, body: Body) -> Effective:
        """Return one version of one layer in the same shape."""
        return self._merge(document, ((document, body.version),), {document: body})

    async def _bodies(
        self,
        addressed: DocumentId,
        versions: Sequence[tuple[DocumentId, int]],
        *,
        with_secrets: bool,
    ) -> dict[DocumentId, Body]:
        """Return what each layer contributes; one that is malformed, its last good version.

        A malformed layer of which there is no good version contributes nothing, unless it is the
        addressed one: then DocumentMalformed is raised.
        """
        asked = (
            self._contribution(
                layer, version, with_secrets=with_secrets, is_needed=layer == addressed
            )
            for layer, version in versions
        )
        found = await asyncio.gather(*asked)
        return {
            layer: body
            for (layer, _), body in zip(versions, found, strict=True)
            if body is not None
        }

    async def _contribution(
        self, layer: DocumentId, version: int, *, with_secrets: bool, is_needed: bool
    ) -> Body | None:
        stand_in = self._stand_ins.get(layer)
        error = None if stand_in is None or stand_in.version != version else stand_in.error
        if error is None:
            try:
                return await self._current_at(layer, version, with_secrets=with_secrets)
            except DocumentMalformed as malformed:
                error = malformed
        body = await self._last_good(layer, version, error)
        if body is None and is_needed:
            raise error
        note_last_good(f"{layer.environment}/{layer.entity.name}@{body.version if body else 0}")
        return None if body is None or body.deleted else body

    async def _last_good(
        self, layer: DocumentId, version: int, error: DocumentMalformed
    ) -> Body | None:
        """Return the substitute of a malformed version, looked up again after some seconds."""
        known = self._stand_ins.get(layer)
        is_known = known is not None and known.version == version
        if known is not None and is_known and monotonic() - known.looked_up < _LOOK_AGAIN_SECONDS:
            return known.body
        if not is_known:
            self._log_malformed(layer, error)
        try:
            body = await self.last_readable(layer, version - 1, with_secrets=True)
        except StoreUnavailable:
            if known is None or not is_known:
                raise
            body = known.body
        self._stand_ins[layer] = _StandIn(version, error, body, monotonic())
        DOCUMENTS_MALFORMED.set(self.malformed_count)
        return body

    def _log_malformed(self, layer: DocumentId, error: DocumentMalformed) -> None:
        _log.error(
            "document_malformed",
            document=layer.path,
            version=error.version,
            key=error.key,
            reason=error.reason,
        )

    @property
    def malformed_count(self) -> int:
        """The number of documents whose current version is known to be malformed."""
        known = self._stand_ins.items()
        return sum(self._pointer_at(layer, found.version) is not None for layer, found in known)

    async def find_malformed(self) -> None:
        """Look once at every current version that was written past this service."""
        for pointer in list(self._follower.pointers.values()):
            document = document_at(pointer.entity.key) if pointer.entity.kind == KIND else None
            if document is None or pointer.deleted or pointer.actor != EXTERNAL_ACTOR:
                continue
            if self._looked_at.get(document) == pointer.version:
                continue
            with suppress(DocumentLost):
                await self._contribution(
                    document, pointer.version, with_secrets=False, is_needed=False
                )
            self._looked_at[document] = pointer.version
        superseded = [
            layer
            for layer, found in self._stand_ins.items()
            if self._pointer_at(layer, found.version) is None
        ]
        for layer in superseded:
            del self._stand_ins[layer]
        DOCUMENTS_MALFORMED.set(self.malformed_count)

    def _merge(
        self,
        document: DocumentId,
        versions: tuple[tuple[DocumentId, int], ...],
        bodies: dict[DocumentId, Body],
    ) -> Effective:
        merged = merge((layer, body.data) for layer, body in bodies.items())
        return Effective(document, merged, versions, bodies, revision=0)


def _flaw_text(error: Exception) -> str:
    """Describe the flaw of a stored text without quoting its values."""
    match error:
        case BadJson():
            return error.reason
        case KeyError():
            return f"its member {error.args[0]!r} is missing"
        case _:
            return "its members are not those of a document"


def _key_of(error: Exception) -> str | None:
    """Return the key at which a stored text has the flaw, if it is known."""
    match getattr(error, "place", ()):
        case ("data", *steps):
            names = takewhile(lambda step: isinstance(step, str), steps)
            return key_of([str(name) for name in names])
    return None


def _size(body: Body) -> int:
    return body.size


class BoundedMemory(Generic[Key, Value]):
    """A least-recently-used cache, bounded by the bytes of the stored texts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        _, replaced = self._entries.pop(key, (None, 0))
        self._entries[key] = (value, size)
        self._size += size - replaced
        while self._size > self._limit and self._entries:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._size -= dropped

    async def keep(self, is_wanted: Callable[[Key, Value], bool]) -> None:
        """Drop every entry that is not wanted; others are served in between."""
        slices = Slices()
        for key in list(self._entries):
            entry = self._entries.get(key)
            if entry is not None and not is_wanted(key, entry[0]):
                del self._entries[key]
                self._size -= entry[1]
            await slices.rest()

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0
