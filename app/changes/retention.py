"""Retention of changes and intents in the log."""

from dataclasses import dataclass

from app.changes.log.port import ChangeLog

TRIM_SECONDS = 600.0
_DAY_SECONDS = 24 * 3600.0
KEPT_OF_EACH = 200


@dataclass(frozen=True, slots=True)
class Retention:
    """Of each entity the last versions stay whatever their age, so that its history does."""

    log: ChangeLog
    days: int
    keep: int
    relayed: bool

    async def trim(self) -> None:
        """Delete all that need not be kept any longer."""
        age = self.days * _DAY_SECONDS
        while await self.log.trim(age, self.keep, relayed=self.relayed):
            pass
        while await self.log.forget(age):  # no idempotency key lives longer than a day
            pass
