"""How long changes are kept in the log."""

from dataclasses import dataclass

from app.changes.port import ChangeLog

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
        while await self.log.trim(self.days * _DAY_SECONDS, self.keep, relayed=self.relayed):
            pass
