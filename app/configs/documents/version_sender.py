"""Step 2 of a write: the version is sent to the store until it is decided (docs/protocols.md A).

A write with compare-and-set base N can only become version N + 1, so that version alone decides
the outcome; until it exists the write has not failed.
"""

import asyncio
import random
from dataclasses import dataclass
from enum import Enum

from app.configs.documents.attempt import WriteAttempt
from app.configs.documents.log_advance import parse_written
from app.configs.errors import (
    StoreUnavailable,
    VersionMissing,
    VersionTaken,
    VersionUnreadable,
    WriteOutcomeUnknown,
    WriteUnanswered,
)
from app.configs.store.port import ConfigStore

_PAUSE_SECONDS = 0.03


class ReadBack(Enum):
    """Whose version base + 1 is."""

    MINE = "mine"
    OTHER = "other"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class VersionSender:
    store: ConfigStore

    async def send(self, attempt: WriteAttempt, deadline: float) -> bool:
        """Send until version base + 1 exists, and tell whether it is the one that was sent.

        Raises StoreUnavailable if nothing was written, else WriteOutcomeUnknown.
        """
        try:
            async with asyncio.timeout_at(deadline):
                while (outcome := await self._send_once(attempt)) is ReadBack.ABSENT:
                    await pause()
        except StoreUnavailable as error:
            if not attempt.may_have_been_sent:
                raise
            raise WriteOutcomeUnknown(attempt.intent.id) from error
        except TimeoutError as error:
            raise WriteOutcomeUnknown(attempt.intent.id) from error
        return outcome is ReadBack.MINE

    async def _send_once(self, attempt: WriteAttempt) -> ReadBack:
        """Send once and, where the answer does not decide, look at version base + 1."""
        try:
            await self.store.write(attempt.document, attempt.text, base=attempt.intent.base)
        except VersionTaken:
            pass
        except WriteUnanswered:
            attempt.may_have_been_sent = True
        except StoreUnavailable:
            if not attempt.may_have_been_sent:
                raise
        else:
            return ReadBack.MINE
        try:
            return await self._read_back(attempt)
        except StoreUnavailable:
            if not attempt.may_have_been_sent:
                raise
            return ReadBack.ABSENT

    async def _read_back(self, attempt: WriteAttempt) -> ReadBack:
        version = attempt.intent.base + 1
        try:
            text = await self.store.read(attempt.document, version)
        except VersionMissing:
            return ReadBack.ABSENT
        except VersionUnreadable:
            return ReadBack.OTHER
        is_mine = parse_written(version, text).change_id == attempt.intent.id
        return ReadBack.MINE if is_mine else ReadBack.OTHER


async def pause() -> None:
    """Wait for a moment, not the same one for all writers, before something is tried again."""
    await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
