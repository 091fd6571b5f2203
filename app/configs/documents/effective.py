"""Effective configurations: layers merged as the log names them now."""

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.configs.documents.candidates import ReleaseArm
from app.configs.documents.last_good import LastGoodVersions
from app.configs.documents.memory import BoundedMemory
from app.configs.documents.pairs import PresentDocuments
from app.configs.documents.reader import DocumentReader
from app.configs.model import Body, DocumentId, layers_of
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.layers import Merged, merge


@dataclass(frozen=True, slots=True)
class Effective:
    """The merged configuration and what it was merged from, lowest layer first.

    `stored` has by leaf key how its layer spells it, where names are relaxed and that differs.
    `release`: the arm of the reading instance, where a release is running.
    """

    addressed: DocumentId
    merged: Merged[DocumentId]
    layers: tuple[tuple[DocumentId, int], ...]
    bodies: dict[DocumentId, Body]
    revision: int
    stored: Mapping[str, str] = field(default_factory=dict)
    release: ReleaseArm | None = None

    @property
    def size(self) -> int:
        """Count the characters of the stored texts it is made from."""
        return sum(map(_size, self.bodies.values()))

    @property
    def without_secrets(self) -> bool:
        return any(body.without_secrets for body in self.bodies.values())


class EffectiveReader:
    """`with_secrets=True` reads layers with their secrets, which only the store has."""

    def __init__(self, reader: DocumentReader, *, memory_bytes: int) -> None:
        self.reader = reader
        self.present = PresentDocuments(reader.follower)
        self.last_good = LastGoodVersions(reader)
        self._merges: BoundedMemory[tuple[tuple[DocumentId, int], ...], Effective] = BoundedMemory(
            memory_bytes
        )
        self._forgotten = 0
        reader.follower.listeners.on_log_replaced(self._forget)

    def _forget(self) -> None:
        """Forget everything: adopted pointers may have belonged to another log."""
        self._merges.clear()
        self._forgotten += 1

    async def forget_superseded(self) -> None:
        """Drop what was merged from versions that the log no longer names."""
        await self._merges.keep(lambda versions, _: self.reader.is_current(versions))

    async def effective(self, document: DocumentId, *, with_secrets: bool = False) -> Effective:
        """Merge the layers that contribute to `document` as the log names them now."""
        remembered = self.effective_in_memory(document)
        if remembered is not None and not (with_secrets and remembered.without_secrets):
            return remembered
        forgotten = self._forgotten
        versions, revision = self._contributing(document)
        bodies = await self._bodies({document}, versions, with_secrets=with_secrets)
        is_large = sum(map(_size, bodies.values())) > LARGE_TEXT
        served = tuple((layer, body.version) for layer, body in bodies.items())
        merged = await run_apart(is_large, _merge, document, served, bodies)
        # An earlier version that replaces a malformed one may vanish from the store.
        if forgotten == self._forgotten and served == versions:
            self._merges.put(versions, merged, sum(map(_size, merged.bodies.values())))
        return replace(merged, revision=revision)

    async def bodies(self, documents: Iterable[DocumentId]) -> dict[DocumentId, Body]:
        """Return all layers that contribute to any of these, as the log names them now.

        Each is read once. Raises as `effective`.
        """
        addressed = frozenset(documents)
        layers = dict.fromkeys(layer for each in addressed for layer in layers_of(each))
        return await self._bodies(addressed, self._live_versions(layers)[0], with_secrets=False)

    def effective_in_memory(self, document: DocumentId) -> Effective | None:
        """Return the effective configuration if these very versions were merged already."""
        versions, revision = self._contributing(document)
        merged = self._merges.get(versions)
        if merged is None:
            return None
        self.reader.versions.count_hit()
        if merged.addressed == document and merged.revision == revision:
            return merged
        return replace(merged, addressed=document, revision=revision)

    def _contributing(self, document: DocumentId) -> tuple[tuple[tuple[DocumentId, int], ...], int]:
        """Return the live layers' versions, lowest first, and the newest contributing change."""
        return self._live_versions(layers_of(document))

    def _live_versions(
        self, layers: Iterable[DocumentId]
    ) -> tuple[tuple[tuple[DocumentId, int], ...], int]:
        pointers = [(layer, self.reader.pointer(layer)) for layer in layers]
        known = [(layer, pointer) for layer, pointer in pointers if pointer is not None]
        versions = tuple(
            (layer, pointer.version) for layer, pointer in known if not pointer.deleted
        )
        return versions, max((pointer.revision for _, pointer in known), default=0)

    def newest(self, document: DocumentId) -> int:
        """Return the revision of the newest change that contributes to `document`."""
        return self._contributing(document)[1]

    async def _bodies(
        self,
        addressed: Container[DocumentId],
        versions: Sequence[tuple[DocumentId, int]],
        *,
        with_secrets: bool,
    ) -> dict[DocumentId, Body]:
        """Return what each layer contributes; one that is malformed, its last good version.

        A malformed layer of which there is no good version contributes nothing, unless it is
        addressed: then DocumentMalformed is raised.
        """
        # A task for each would cost more than all that a shared write needs of a layer in memory.
        bodies: dict[DocumentId, Body | None] = {
            layer: self.reader.versions.in_memory(layer, version, with_secrets=with_secrets)
            for layer, version in versions
        }
        missing = [(layer, version) for layer, version in versions if bodies[layer] is None]
        if missing:
            read = await asyncio.gather(
                *(
                    self.last_good.contribution(
                        layer, version, with_secrets=with_secrets, is_needed=layer in addressed
                    )
                    for layer, version in missing
                )
            )
            bodies.update(zip((layer for layer, _ in missing), read, strict=True))
        return {layer: body for layer, body in bodies.items() if body is not None}

    async def layer_only(self, document: DocumentId, *, with_secrets: bool = False) -> Effective:
        """Return one layer alone in the shape of an effective configuration."""
        pointer = self.reader.pointer(document)
        if pointer is None or pointer.deleted:
            return Effective(document, Merged(), (), {}, pointer.revision if pointer else 0)
        body = await self.reader.current_at(document, pointer.version, with_secrets=with_secrets)
        alone = await run_apart(body.size > LARGE_TEXT, as_effective, document, body)
        return replace(alone, revision=pointer.revision)

    async def last_good_layer(
        self, document: DocumentId, *, with_secrets: bool = False
    ) -> Effective:
        """The same for the last good version where the current one is malformed; else nothing."""
        pointer = self.reader.pointer(document)
        body = None
        if pointer is not None and not pointer.deleted:
            body = await self.last_good.contribution(
                document, pointer.version, with_secrets=with_secrets, is_needed=False
            )
        if pointer is None or body is None:
            return Effective(document, Merged(), (), {}, revision=0)
        alone = await run_apart(body.size > LARGE_TEXT, as_effective, document, body)
        return replace(alone, revision=pointer.revision)


def as_effective(document: DocumentId, body: Body) -> Effective:
    """Return one version of one layer in the shape of an effective configuration."""
    return _merge(document, ((document, body.version),), {document: body})


def _merge(
    document: DocumentId,
    versions: tuple[tuple[DocumentId, int], ...],
    bodies: dict[DocumentId, Body],
) -> Effective:
    merged = merge((layer, body.data) for layer, body in bodies.items())
    return Effective(document, merged, versions, bodies, revision=0)


def _size(body: Body) -> int:
    return body.size
