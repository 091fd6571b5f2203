"""Drafts of writes: what an edit makes of the current version, and whether it may be written."""

from dataclasses import dataclass

from app.changes.log.port import ChangeLog
from app.configs.checks.credentials import CredentialPolicy
from app.configs.documents.attempt import Write, is_large_write
from app.configs.documents.candidates import NO_CANDIDATES, Candidates
from app.configs.documents.document_judge import DocumentJudge
from app.configs.documents.reader import DocumentReader
from app.configs.errors import DocumentMalformed
from app.configs.model import Body, DocumentId, Draft
from app.errors import PilothouseError
from app.workers import run_apart


@dataclass(frozen=True, slots=True)
class Drafter:
    reader: DocumentReader
    log: ChangeLog
    credential_policy: CredentialPolicy
    judge: DocumentJudge | None = None
    candidates: Candidates = NO_CANDIDATES

    async def draft(self, write: Write) -> tuple[Body | None, Draft]:
        """Apply the edit to the current version.

        Nothing is refused or left undone for a version that is no longer current: another replica
        may have written on top, and this one may not have followed yet.
        """
        base = await self._read_base(write)
        try:
            draft = await self._apply(write, base)
        except PilothouseError:
            if not await self._catch_up(write.document, base):
                raise
        else:
            if draft.data is not None or not await self._catch_up(write.document, base):
                return base, draft
        base = await self._read_base(write)
        return base, await self._apply(write, base)

    async def _apply(self, write: Write, base: Body | None) -> Draft:
        return await run_apart(is_large_write(base), self._checked_draft, write, base)

    def _checked_draft(self, write: Write, base: Body | None) -> Draft:
        # The version the edit is based on, not the pointer, which may have moved since.
        write.refuse_unexpected(0 if base is None or base.deleted else base.version)
        draft = write.edit.apply(write.document, base)
        released = self.candidates.released_keys(write.document)
        if released is not None and released.release != write.release:
            released.refuse_changes(base, draft)
        if self.judge is not None:  # first, since what is sealed is no plain credential
            draft = self.judge.seal_secrets(write.document, base, draft)
        return self.credential_policy.check(write.document, base, draft)

    def draft_unchecked(self, write: Write, base: Body | None) -> Draft:
        """Return the draft of a write that passed every check before; secrets are sealed."""
        draft = write.edit.apply(write.document, base)
        if self.judge is None:
            return draft
        return self.judge.seal_secrets(write.document, base, draft, refuse=False)

    async def _catch_up(self, document: DocumentId, base: Body | None) -> bool:
        """Ask the log for the current version, and tell whether it is later than `base`."""
        logged = await self.log.pointer(document.path)
        if logged is None or logged.version <= (base.version if base is not None else 0):
            return False
        self.reader.follower.advance_pointer(logged)
        return True

    async def _read_base(self, write: Write) -> Body | None:
        try:
            return await self.reader.current(write.document, with_secrets=True)
        except DocumentMalformed as error:
            if not write.replaces:
                raise
            # A version that was not written by this service may still be replaced.
            return await self.reader.before_malformed(
                write.document, error.version, with_secrets=True
            )
