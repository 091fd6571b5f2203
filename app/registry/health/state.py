"""Health of an instance by its probes: up after one success, down after three failures in a row."""

from dataclasses import dataclass
from typing import Literal

_FAILURES = 3


@dataclass(frozen=True, slots=True)
class ProbedHealth:
    status: Literal["starting", "up", "down"] = "starting"
    failures: int = 0  # in a row


def health_after_probe(health: ProbedHealth, *, succeeded: bool) -> ProbedHealth:
    """Return the health after one more probe."""
    if succeeded:
        return ProbedHealth("up")
    failures = min(health.failures + 1, _FAILURES)
    return ProbedHealth("down" if failures == _FAILURES else health.status, failures)
