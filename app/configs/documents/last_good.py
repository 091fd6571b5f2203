"""Layers whose current version is malformed: their last good version is served instead."""

from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import structlog

from app.changes.model import EXTERNAL_ACTOR
from app.configs.documents.reader import DocumentReader
from app.configs.errors import DocumentLost, DocumentMalformed, StoreUnavailable
from app.configs.model import KIND, Body, DocumentId, document_at
from app.telemetry import DOCUMENTS_MALFORMED
from app.web.last_good import note_last_good

_LOOK_AGAIN_SECONDS = 3.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _StandIn:
    """The substitute for the malformed `version`: the last good one, if there is any."""

    version: int
    error: DocumentMalformed
    body: Body | None
    looked_up: float


class LastGoodVersions:
    def __init__(self, reader: DocumentReader) -> None:
        self._reader = reader
        self._stand_ins: dict[DocumentId, _StandIn] = {}  # for malformed current versions
        self._looked_at: dict[DocumentId, int] = {}
        reader.follower.listeners.on_log_replaced(self._forget)

    def _forget(self) -> None:
        """Forget everything: adopted pointers may have belonged to another log."""
        self._stand_ins.clear()
        self._looked_at.clear()

    async def contribution(
        self, layer: DocumentId, version: int, *, with_secrets: bool, is_needed: bool
    ) -> Body | None:
        """Return what a layer contributes at its current version, None if that is nothing.

        A malformed layer without a good version contributes nothing; if it `is_needed`,
        DocumentMalformed is raised.
        """
        stand_in = self._stand_ins.get(layer)
        error = None if stand_in is None or stand_in.version != version else stand_in.error
        if error is None:
            try:
                return await self._reader.current_at(layer, version, with_secrets=with_secrets)
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
            body = await self._reader.last_readable(layer, version - 1, with_secrets=True)
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
        return sum(
            self._reader.is_current([(layer, stand_in.version)]) for layer, stand_in in known
        )

    async def find_malformed(self) -> None:
        """Look once at every current version that was written past this service."""
        for pointer in list(self._reader.follower.pointers.values()):
            document = document_at(pointer.entity.key) if pointer.entity.kind == KIND else None
            if document is None or pointer.deleted or pointer.actor != EXTERNAL_ACTOR:
                continue
            if self._looked_at.get(document) == pointer.version:
                continue
            with suppress(DocumentLost):
                await self.contribution(
                    document, pointer.version, with_secrets=False, is_needed=False
                )
            self._looked_at[document] = pointer.version
        superseded = [
            layer
            for layer, stand_in in self._stand_ins.items()
            if not self._reader.is_current([(layer, stand_in.version)])
        ]
        for layer in superseded:
            del self._stand_ins[layer]
        DOCUMENTS_MALFORMED.set(self.malformed_count)
