"""One round of deliveries: what may be sent now, and what is recorded at its end. Pure.

The deliveries of one entity form a line: the next is sent once the one before it was delivered or
given up, so that none overtakes an earlier one. The lines do not wait for each other.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from app.webhooks.model import Attempt, Delivery, Kept, RoundResult, Waiting

GIVE_UP_SECONDS: Final = 24 * 3600.0
FIRST_DELAY_SECONDS: Final = 1.0
LONGEST_DELAY_SECONDS: Final = 900.0
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
_JITTER: Final = 0.5  # of a delay, at most, is left out


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delivery failed; `retry_after` in seconds is what the receiver has asked for."""

    status: int | None
    reason: str
    retry_after: float | None = None


def retry_delay(
    attempts: int, retry_after: float | None, chance: Callable[[], float] = random.random
) -> float:
    """Return the seconds until the next attempt after `attempts` failed ones.

    They double from a second to 15 minutes, less a random part of up to a half. A receiver that
    asks for more time gets it, up to an hour.
    """
    doubled = FIRST_DELAY_SECONDS * 2.0 ** min(attempts - 1, 30)
    delay = min(doubled, LONGEST_DELAY_SECONDS) * (1 - _JITTER * chance())
    return max(delay, min(retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS))


class Round:
    """Hands out deliveries that may be sent at the same time, and collects their outcomes.

    `fresh` come from the log; those of entities in `waiting` are only queued behind.
    """

    def __init__(self, cursor: int, waiting: Waiting, fresh: Sequence[Delivery]) -> None:
        self._cursor = cursor
        self._lines: dict[str, deque[Delivery]] = {}
        self._ready: deque[str] = deque()  # entities whose first delivery may be sent
        self._queued = frozenset(each.id for each in waiting.due)
        self._delivered: list[str] = []
        self._kept: list[Kept] = []
        self._attempts: list[Attempt] = []
        for delivery in waiting.due:
            self._append(delivery)
        for delivery in fresh:
            if delivery.entity in waiting.entities:
                self._kept.append(Kept(delivery, delivery.attempts))
            else:
                self._append(delivery)

    def _append(self, delivery: Delivery) -> None:
        if delivery.entity not in self._lines:
            self._lines[delivery.entity] = deque()
            self._ready.append(delivery.entity)
        self._lines[delivery.entity].append(delivery)

    def take(self) -> Delivery | None:
        """Return a delivery to send now, which `record_*` is called for; None if there is none."""
        return self._lines[self._ready.popleft()][0] if self._ready else None

    def record_success(self, delivery: Delivery, attempt: Attempt) -> None:
        """Let the next of its line follow."""
        self._attempts.append(attempt)
        if delivery.id in self._queued:
            self._delivered.append(delivery.id)
        self._advance(delivery)

    def record_failure(self, delivery: Delivery, failure: Failure, attempt: Attempt) -> None:
        """Keep it for another attempt, and all behind it; after a day it is a dead letter."""
        self._attempts.append(attempt)
        attempts = delivery.attempts + 1
        is_dead = is_given_up(delivery)
        delay = 0.0 if is_dead else retry_delay(attempts, failure.retry_after)
        self._kept.append(Kept(delivery, attempts, delay, is_dead, failure.status, failure.reason))
        if is_dead:
            self._advance(delivery)
        else:
            self._lines[delivery.entity].popleft()
            self._keep_line(delivery.entity)

    def _advance(self, delivery: Delivery) -> None:
        line = self._lines[delivery.entity]
        line.popleft()
        if line:
            self._ready.append(delivery.entity)

    def _keep_line(self, entity: str) -> None:
        """Queue what is not yet, without an attempt."""
        line = self._lines.pop(entity)
        self._kept += [Kept(each, each.attempts) for each in line if each.id not in self._queued]

    def finish(self) -> RoundResult:
        """Return what is recorded: what was not sent is kept, and is due at once."""
        for entity in list(self._lines):
            self._keep_line(entity)
        self._ready.clear()
        return RoundResult(self._cursor, self._delivered, self._kept, self._attempts)


def is_given_up(delivery: Delivery) -> bool:
    """Tell whether a delivery becomes a dead letter if it fails now."""
    return delivery.age >= GIVE_UP_SECONDS
