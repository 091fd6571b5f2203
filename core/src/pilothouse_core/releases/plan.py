"""The plan of a release: its steps, how long each is held, and what takes it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from pilothouse_core.bucketing import percent
from pilothouse_core.durations import duration_text, seconds_of
from pilothouse_core.releases.arms import HASH, TOTAL

Pick = Literal["share", "count"]
NoData = Literal["hold", "abort", "go_on"]
MOST_STEPS: Final = 20
MOST_SIGNALS: Final = 10
LONGEST_SECONDS: Final = 30 * 86_400
_MOST_INSTANCES: Final = 10_000
_LONGEST_QUERY: Final = 1000
_MEMBERS: Final = frozenset({"steps", "bake", "pick", "no_data", "signals"})


class BadPlan(ValueError):
    """A plan cannot be used; `pointer` is the place in it."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(reason)
        self.pointer, self.reason = pointer, reason


@dataclass(frozen=True, slots=True)
class Step:
    """`size`: buckets of the share, or instances; `hold`: seconds until the next step."""

    size: int
    hold: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Bad as soon as `at_least` instances of the candidate have refused it."""

    at_least: int
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Health:
    """Bad if the share of unhealthy instances is `worse_by` more among those of the candidate.

    Without that many registered `instances` of the candidate there is no data.
    """

    worse_by: float
    instances: int
    kind: Literal["health"] = "health"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Bad if a series of the query was `above` the limit for that many seconds."""

    query: str
    above: float
    seconds: int
    kind: Literal["prometheus"] = "prometheus"


Signal: TypeAlias = Refused | Health | Prometheus


@dataclass(frozen=True, slots=True)
class Plan:
    """`bake`: seconds that every instance has the candidate before it becomes the stable one.

    `no_data`: what happens at the end of a step while a signal has no data.
    """

    steps: tuple[Step, ...]
    bake: int = 0
    pick: Pick = "share"
    no_data: NoData = "hold"
    signals: tuple[Signal, ...] = ()

    def hold(self, step: int) -> int:
        """Return how many seconds a step is held; the one after the last is the bake."""
        return self.steps[step].hold if step < len(self.steps) else self.bake

    def share(self, step: int) -> int:
        """Return the buckets of the candidate in a step of a share."""
        return self.steps[step].size if step < len(self.steps) else TOTAL

    @property
    def last_step(self) -> int:
        """The step after which the release ends: all instances, where there is a bake."""
        return len(self.steps) if self.bake else len(self.steps) - 1


def read_plan(raw: Any) -> Plan:
    """Return the plan that a client has sent; raises BadPlan with the place of the first flaw."""
    if not isinstance(raw, Mapping):
        raise BadPlan("", "a release is an object with `steps`")
    unknown = sorted(raw.keys() - _MEMBERS)
    if unknown:
        raise BadPlan(f"/{unknown[0]}", f"a release has no member {unknown[0][:80]!r}")
    pick = _choice(raw, "pick", ("share", "count"), "share")
    no_data = _choice(raw, "no_data", ("hold", "abort", "go_on"), "hold")
    bake = _seconds(raw.get("bake", "0s"), "/bake")
    signals = _list(raw.get("signals", []), "/signals", MOST_SIGNALS, least=0)
    return Plan(
        _read_steps(raw.get("steps"), pick),
        bake,
        pick,
        no_data,
        tuple(_read_signal(each, f"/signals/{place}") for place, each in enumerate(signals)),
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as `read_plan` reads it."""
    steps = [
        {plan.pick: _size_json(plan, step.size), "hold": duration_text(step.hold)}
        for step in plan.steps
    ]
    return {
        "steps": steps,
        "bake": duration_text(plan.bake),
        "pick": plan.pick,
        "no_data": plan.no_data,
        "signals": [_signal_json(signal) for signal in plan.signals],
    }


def _size_json(plan: Plan, size: int) -> float:
    if plan.pick == "count":
        return size
    share = percent(size, TOTAL)
    return int(share) if share == int(share) else share


def _signal_json(signal: Signal) -> dict[str, Any]:
    match signal:
        case Refused():
            return {"kind": "refused", "at_least": signal.at_least}
        case Health():
            return {
                "kind": "health",
                "worse_by": signal.worse_by,
                "instances": signal.instances,
            }
        case Prometheus():
            return {
                "kind": "prometheus",
                "query": signal.query,
                "above": signal.above,
                "for": duration_text(signal.seconds),
            }


def _read_steps(raw: Any, pick: Pick) -> tuple[Step, ...]:
    steps: list[Step] = []
    for place, each in enumerate(_list(raw, "/steps", MOST_STEPS, least=1)):
        pointer = f"/steps/{place}"
        _check_members(each, pointer, {pick, "hold"})
        step = Step(_size(each[pick], pick, f"{pointer}/{pick}"), _seconds(each["hold"], pointer))
        if steps and step.size <= steps[-1].size:
            raise BadPlan(f"{pointer}/{pick}", "each step is larger than the one before")
        steps.append(step)
    return tuple(steps)


def _size(raw: Any, pick: Pick, pointer: str) -> int:
    if pick == "count":
        return _whole(raw, pointer, _MOST_INSTANCES)
    if not _is_number(raw) or not raw:
        raise BadPlan(pointer, "a share is a percentage above 0")
    try:
        return HASH.share(raw)
    except ValueError as error:
        raise BadPlan(pointer, str(error)) from None


def _read_signal(raw: Any, pointer: str) -> Signal:
    kind = raw.get("kind") if isinstance(raw, Mapping) else None
    match kind:
        case "refused":
            _check_members(raw, pointer, {"kind", "at_least"})
            return Refused(_whole(raw["at_least"], f"{pointer}/at_least", _MOST_INSTANCES))
        case "health":
            _check_members(raw, pointer, {"kind", "worse_by", "instances"})
            worse_by = raw["worse_by"]
            if not _is_number(worse_by) or not 0 < worse_by <= 1:
                raise BadPlan(f"{pointer}/worse_by", "a difference of shares lies above 0, up to 1")
            instances = _whole(raw["instances"], f"{pointer}/instances", _MOST_INSTANCES)
            return Health(worse_by, instances)
        case "prometheus":
            _check_members(raw, pointer, {"kind", "query", "above", "for"})
            query, above = raw["query"], raw["above"]
            if not isinstance(query, str) or not 0 < len(query) <= _LONGEST_QUERY:
                raise BadPlan(f"{pointer}/query", f"a query has 1 to {_LONGEST_QUERY} characters")
            if not _is_number(above):
                raise BadPlan(f"{pointer}/above", "the limit is a number")
            return Prometheus(query, above, _seconds(raw["for"], f"{pointer}/for"))
        case _:
            raise BadPlan(f"{pointer}/kind", "a signal is `refused`, `health` or `prometheus`")


def _check_members(raw: Any, pointer: str, members: set[str]) -> None:
    if not isinstance(raw, Mapping) or raw.keys() != members:
        names = ", ".join(f"`{name}`" for name in sorted(members))
        raise BadPlan(pointer, f"this is an object with the members {names}")


def _list(raw: Any, pointer: str, most: int, *, least: int) -> list[Any]:
    if not isinstance(raw, list) or not least <= len(raw) <= most:
        raise BadPlan(pointer, f"this is a list of {least} to {most}")
    return raw


def _whole(raw: Any, pointer: str, most: int) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or not 1 <= raw <= most:
        raise BadPlan(pointer, f"this is a whole number from 1 to {most}")
    return raw


def _is_number(raw: Any) -> bool:
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    return is_number and abs(raw) < float("inf")


def _seconds(raw: Any, pointer: str) -> int:
    try:
        return seconds_of(raw, at_most=LONGEST_SECONDS)
    except ValueError as error:
        raise BadPlan(pointer, str(error)) from None


def _choice(raw: Mapping[str, Any], name: str, choices: tuple[Any, ...], default: Any) -> Any:
    value = raw.get(name, default)
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(f"`{choice}`" for choice in choices)
        raise BadPlan(f"/{name}", f"this is one of {listed}")
    return value
