"""What a release does next: a pure function of its state, the time and what was observed.

Any number of controllers may ask it at once: what they decide is written by compare-and-set on the
release's version, so that each step is taken once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from pilothouse_core.releases.plan import Health, Plan, Prometheus, Refused, Signal

State = Literal["running", "held", "finishing", "done", "aborted"]
Action = Literal["hold", "advance", "abort", "finish"]
Verdict = Literal["good", "bad", "no_data"]
NO_DATA: Final = "no_data"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a release has come; `step_since` is when its step began, or it was resumed."""

    plan: Plan
    state: State
    step: int
    step_since: datetime


@dataclass(frozen=True, slots=True)
class ArmHealth:
    """How many registered instances an arm has, and how many of them are down or suspect."""

    instances: int
    unhealthy: int

    @property
    def share(self) -> float:
        return self.unhealthy / self.instances if self.instances else 0.0


@dataclass(frozen=True, slots=True)
class Observations:
    """`queries`: whether a query was above its limit, by the query; without an answer, none."""

    refusals: int = 0
    candidate: ArmHealth | None = None
    stable: ArmHealth | None = None
    queries: Mapping[Prometheus, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """`signal`: the kind of what aborts the release, or of what has no data, else ""."""

    action: Action
    signal: str = ""


HOLD: Final = Decision("hold")


def next_action(release: Progress, now: datetime, observations: Observations) -> Decision:
    """Return what a controller does now.

    A bad signal aborts a release at any time, also while it is held. A step is over when its time
    is over and every signal has data, as far as the plan asks for it.
    """
    if release.state == "finishing":
        return Decision("finish")
    if release.state not in ("running", "held"):
        return HOLD
    verdicts = verdicts_of(release.plan.signals, observations)
    bad = next((signal.kind for signal, verdict in verdicts if verdict == "bad"), None)
    if bad is not None:
        return Decision("abort", bad)
    hold = timedelta(seconds=release.plan.hold(release.step))
    if release.state == "held" or now < release.step_since + hold:
        return HOLD
    silent = next((signal.kind for signal, verdict in verdicts if verdict == NO_DATA), None)
    if silent is not None and release.plan.no_data != "go_on":
        return _without_data(release.plan, silent)
    return Decision("finish" if release.step >= release.plan.last_step else "advance")


def _without_data(plan: Plan, signal: str) -> Decision:
    return Decision("abort", NO_DATA) if plan.no_data == "abort" else Decision("hold", signal)


def verdicts_of(
    signals: Sequence[Signal], observations: Observations
) -> list[tuple[Signal, Verdict]]:
    """Return every signal with what the observations say of it."""
    return [(signal, _verdict(signal, observations)) for signal in signals]


def _verdict(signal: Signal, observations: Observations) -> Verdict:
    match signal:
        case Refused():  # no refusal is what it looks for
            return "bad" if observations.refusals >= signal.at_least else "good"
        case Health():
            return _health_verdict(signal, observations)
        case Prometheus():
            above = observations.queries.get(signal)
            if above is None:
                return NO_DATA
            return "bad" if above else "good"


def _health_verdict(signal: Health, observations: Observations) -> Verdict:
    candidate, stable = observations.candidate, observations.stable
    if candidate is None or candidate.instances < signal.instances:
        return NO_DATA
    # Where nothing else is left, as in the last step, none that is well can be compared.
    before = stable.share if stable is not None else 0.0
    return "bad" if candidate.share - before >= signal.worse_by else "good"
