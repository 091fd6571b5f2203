"""Step 3 of a write: the log is brought up to a version of the store (docs/protocols.md A)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.changes.errors import Gap
from app.changes.follower import Follower
from app.changes.log.port import ChangeLog
from app.changes.model import Pointer, Written
from app.configs.errors import VersionMissing, VersionUnreadable
from app.configs.model import DocumentId, decode
from app.configs.store.port import ConfigStore

_LOGGED_AT_ONCE = 100  # versions


@dataclass(frozen=True, slots=True)
class LogAdvancer:
    """The only way to write versions to the log: for writer, reconciler and scanner."""

    store: ConfigStore
    log: ChangeLog
    follower: Follower

    async def advance(
        self, document: DocumentId, upto: int, known: Written | None = None
    ) -> Pointer:
        """Bring the log up to version `upto`.

        `known` saves reading the newest version back when it was just written here.
        """
        try:
            if known is None:
                logged = await self.log.pointer(document.path)
                pointer = await self._log_missing(document, logged.version if logged else 0, upto)
            else:
                pointer = await self.log.advance(document.entity, [known])
        except Gap as gap:
            pointer = await self._log_missing(document, gap.logged, upto)
        self.follower.advance_pointer(pointer)
        return pointer

    async def _log_missing(self, document: DocumentId, logged: int, upto: int) -> Pointer:
        """Log what lies between; versions are immutable, so they are read outside the log."""
        missing = range(logged + 1, upto + 1)
        # In portions: thousands at once would not be logged in time, at this or any later attempt.
        while len(missing) > _LOGGED_AT_ONCE:
            portion, missing = missing[:_LOGGED_AT_ONCE], missing[_LOGGED_AT_ONCE:]
            await self.log.advance(document.entity, await self._written_versions(document, portion))
        return await self.log.advance(
            document.entity, await self._written_versions(document, missing)
        )

    async def _written_versions(
        self, document: DocumentId, versions: Iterable[int]
    ) -> list[Written]:
        return [await self._written_version(document, version) for version in versions]

    async def _written_version(self, document: DocumentId, version: int) -> Written:
        try:
            return parse_written(version, await self.store.read(document, version))
        except (VersionMissing, VersionUnreadable):
            return Written(version, change_id=None)


def parse_written(version: int, text: str | None) -> Written:
    """Return what the log needs of a stored text, which need not be one of ours."""
    try:
        body = decode(text or "")
        return Written(
            version,
            body.change.id,
            datetime.fromisoformat(body.change.at),
            body.change.comment,
            deleted=body.deleted,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Written(version, change_id=None)
