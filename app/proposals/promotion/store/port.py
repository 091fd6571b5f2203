"""The port: what was promoted between environments, and what no promotion changes.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_promotion_store.py`. Every
method is one transaction, committed before it returns, and raises `PromotionsUnavailable` within
its deadline. No configuration value is stored.
"""

from collections.abc import Sequence
from typing import Protocol

from app.proposals.promotion.model import Base, Pin, Promotion


class PromotionStore(Protocol):
    async def record(self, promotion: Promotion) -> None:
        """Remember what was promoted; of each subject only the newest promotion is kept."""
        ...

    async def bases(self, source: str, target: str, services: Sequence[str]) -> Sequence[Base]:
        """Return what was promoted last from one environment to another, in any order.

        Of keys of these services; "" has those of flags and segments.
        """
        ...

    async def put_pin(self, pin: Pin) -> None:
        """Write a pin, whether it exists or not."""
        ...

    async def delete_pin(self, pin: Pin) -> bool:
        """Delete a pin; false if there is none."""
        ...

    async def pins_of(self, environment: str) -> Sequence[Pin]:
        """Return the pins of an environment, in order."""
        ...

    async def pins_after(self, place: tuple[str, str, str, str], limit: int) -> Sequence[Pin]:
        """Return pins after a place, in order of environment, kind, service and key."""
        ...
