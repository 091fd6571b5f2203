"""What probes say about an instance: up after one success, down after three failures in a row."""

from dataclasses import dataclass
from typing import Literal

_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Health:
    status: Literal["starting", "up", "down"] = "starting"
    failures: int = 0  # in a row


def after(health: Health, *, succeeded: bool) -> Health:
    """Return what is known after one more probe."""
    if succeeded:
        return Health("up")
    failures = min(health.failures + 1, _FAILURES)
    return Health("down" if failures == _FAILURES else health.status, failures)
