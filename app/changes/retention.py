"""Retention of changes and intents in the log."""

from dataclasses import dataclass

from app.changes.log.port import Maintenance

TRIM_SECONDS = 600.0
_DAY_SECONDS = 24 * 3600.0
KEPT_OF_EACH = 200


@dataclass(frozen=True, slots=True)
class Retention:
    """Of each entity the last versions stay whatever their age, so that its history does."""

    maintenance: Maintenance
    days: int
    keep: int
    relayed: bool

    async def trim(self) -> None:
        """Delete all that need not be kept any longer."""
        age = self.days * _DAY_SECONDS
        while await self.maintenance.trim(age, self.keep, relayed=self.relayed):
            pass
        while await self.maintenance.forget(age):  # no idempotency key lives longer than a day
            pass
