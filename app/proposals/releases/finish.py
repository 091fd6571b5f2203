"""The end of a release: its change is written as one version, once (docs/protocols.md F)."""

from dataclasses import dataclass
from typing import Final

import structlog

from app.changes.model import Idempotency
from app.configs.documents.attempt import Write
from app.configs.documents.candidates import Candidates
from app.configs.documents.edits import Edit
from app.configs.documents.writer import DocumentWriter
from app.configs.errors import WriteConflict
from app.configs.model import DocumentId
from app.errors import OutcomeUnknown, PilothouseError, Unavailable
from app.proposals.releases.model import Move, Origin, Release
from app.proposals.releases.store.port import ReleaseStore
from app.rules.policies.model import OWN_AUTHORITY, Authority
from app.telemetry import RELEASE_ABORTS

NOT_WRITABLE: Final = "not_writable"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReleaseFinisher:
    store: ReleaseStore
    candidates: Candidates
    writer: DocumentWriter

    async def finish(self, release: Release) -> None:
        """Write the change of a release that is `finishing`, and record that it is done.

        May be repeated, here and elsewhere. One that is refused for good, as by a schema that was
        changed since, is aborted instead. Raises Unavailable and OutcomeUnknown where it has
        to be repeated.
        """
        origin = Origin(actor_of(release), actor_of(release))
        try:
            await self.writer.write(self._write(release, await self.candidates.edit(release.id)))
        except (Unavailable, OutcomeUnknown, WriteConflict):
            raise
        except PilothouseError as refusal:
            _log.warning("release_not_writable", release=release.id, code=refusal.code)
            move = Move(release.id, release.version, "aborted", release.step, signal=NOT_WRITABLE)
            await self.store.move(move, origin)
            RELEASE_ABORTS.labels(NOT_WRITABLE).inc()
            return
        await self.store.move(Move(release.id, release.version, "done", release.step), origin)

    def _write(self, release: Release, edit: Edit) -> Write:
        key = f"release/{release.id}"
        return Write(
            DocumentId(release.subject.environment, release.subject.service),
            edit,
            actor_of(release),
            actor_of(release),
            comment=f"release {release.id}",
            idempotency=Idempotency(key, key),
            authority=_authority(release),
            release=release.id,
        )


def _authority(release: Release) -> Authority:
    return OWN_AUTHORITY if release.item is None else Authority(proposal=release.item.proposal)


def actor_of(release: Release) -> str:
    return f"release:{release.id}"
