"""The port: the registered instances of a service, as releases see them; over the registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from app.proposals.releases.model import Release, Subject
from app.registry.view import RegistryView
from pilothouse_core.releases.arms import pick_members
from pilothouse_core.releases.control import ArmHealth
from pilothouse_core.releases.plan import Plan

_UNHEALTHY = frozenset({"down", "suspect"})


class Instances(Protocol):
    def health(self, subject: Subject) -> Mapping[str, bool]:
        """Return whether each registered instance of a service there is healthy, by its id."""
        ...


@dataclass(frozen=True, slots=True)
class RegisteredInstances:
    """Those of the environment, and those that state none."""

    view: RegistryView

    def health(self, subject: Subject) -> Mapping[str, bool]:
        return {
            one.id: one.status not in _UNHEALTHY
            for one in self.view.service(subject.service).instances
            if one.row is not None and one.environment in (None, subject.environment)
        }


def health_by_arm(release: Release, health: Mapping[str, bool]) -> tuple[ArmHealth, ArmHealth]:
    """Return the health of the candidate's arm and of the stable one."""
    arms = {instance: release.arm(instance) for instance in health}
    return (
        _arm_health([is_healthy for one, is_healthy in health.items() if arms[one] == "candidate"]),
        _arm_health([is_healthy for one, is_healthy in health.items() if arms[one] == "stable"]),
    )


def _arm_health(states: list[bool]) -> ArmHealth:
    return ArmHealth(len(states), states.count(False))


def members_of_step(
    release: str, plan: Plan, step: int, members: frozenset[str], instances: Mapping[str, bool]
) -> frozenset[str] | None:
    """Return the instances that have the candidate in a step; None where none are counted."""
    if plan.pick != "count" or step >= len(plan.steps):
        return None
    return frozenset(pick_members(release, members, instances, plan.steps[step].size))
