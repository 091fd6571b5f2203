"""Whatever flags and contexts there are, evaluations here and at the service are the same."""

import itertools
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openfeature.evaluation_context import EvaluationContext

from pilothouse.flags import Flags
from pilothouse.flags.state import FlagState, apply_update
from pilothouse.openfeature import PilothouseProvider
from tests.core.drawn import SEGMENTS, conditions, contexts, definitions
from tests.servers.service import ServiceProcess
from tests.trials import trials

_numbers = itertools.count()
FLAGS = "/api/v1/feature-flags"
worlds = st.fixed_dictionaries(
    {
        "segments": st.tuples(*(conditions() for _ in SEGMENTS)),
        "flags": st.lists(definitions(), min_size=2, max_size=4),
        "asked": st.lists(
            st.tuples(st.none() | st.sampled_from(["ana", "b", 7]), contexts),
            min_size=10,
            max_size=20,
        ),
    }
)


class World:
    """An environment at the service, and the same flags held here."""

    def __init__(self, process: ServiceProcess, drawn: Any) -> None:
        self.process = process
        self.environment = f"agreement-{next(_numbers)}"
        for name, when in zip(SEGMENTS, drawn["segments"], strict=True):
            self._write("/api/v1/segments", {"name": name, "when": when})
        for number, definition in enumerate(drawn["flags"]):
            self._write(FLAGS, {**definition, "name": f"flag-{number}", "prerequisites": []})
        body = process.request("GET", f"/api/v1/flag-set?environment={self.environment}").json()
        self.flags = Flags()
        self.provider = PilothouseProvider(self)
        self.flags.swap(apply_update(FlagState(), body, "service", ""))
        assert self.flags.last_error is None

    def _write(self, path: str, definition: dict[str, Any]) -> None:
        self.process.request("POST", path, {**definition, "environment": self.environment})

    def evaluations_of_service(self, user: Any, context: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the service answers for every flag, None where it refuses the context."""
        body = {"environment": self.environment, "user_id": user, "context": context}
        answer = self.process.request("POST", f"{FLAGS}/evaluate/batch", body)
        if answer.status != 200:
            return None
        evaluations: dict[str, Any] = answer.json()["evaluations"]
        return evaluations

    def ofrep(self, context: dict[str, Any]) -> list[dict[str, Any]] | None:
        headers = {"X-Environment": self.environment}
        answer = self.process.request(
            "POST", "/ofrep/v1/evaluate/flags", {"context": context}, headers=headers
        )
        flags: list[dict[str, Any]] | None = (
            answer.json()["flags"] if answer.status == 200 else None
        )
        return flags


@given(drawn=worlds)
@settings(max_examples=trials(30), suppress_health_check=list(HealthCheck))
def test_evaluations_are_those_of_the_service(service: ServiceProcess, drawn: Any) -> None:
    world = World(service, drawn)

    for user, context in drawn["asked"]:
        for name, of_service in (world.evaluations_of_service(user, context) or {}).items():
            # Keywords cannot be every name that JSON has.
            evaluation = world.flags.evaluate(name, user, dict(context))
            here = {
                "variant": evaluation.variant,
                "value": evaluation.value,
                "reason": evaluation.reason,
                "rule_id": evaluation.rule_id,
                "bucket": evaluation.bucket,
                "flag_version": evaluation.version,
            }
            there = {member: of_service[member] for member in here}
            assert json.dumps(here, sort_keys=True) == json.dumps(there, sort_keys=True)


@given(drawn=worlds)
@settings(max_examples=trials(20), suppress_health_check=list(HealthCheck))
def test_the_provider_answers_as_ofrep_does(service: ServiceProcess, drawn: Any) -> None:
    world = World(service, drawn)
    resolve = {
        "boolean": world.provider.resolve_boolean_details,
        "string": world.provider.resolve_string_details,
        "integer": world.provider.resolve_integer_details,
        "number": world.provider.resolve_float_details,
        "object": world.provider.resolve_object_details,
    }

    for user, context in drawn["asked"]:
        key = None if user is None else str(user)
        sent = context if key is None else {**context, "targetingKey": key}
        for evaluation in world.ofrep(sent) or []:
            kind = world.flags.kind(evaluation["key"])
            assert kind is not None
            here: Any = resolve[kind](evaluation["key"], None, EvaluationContext(key, context))  # type: ignore[operator]
            assert here.error_code == evaluation.get("errorCode")
            assert here.variant == evaluation.get("variant")
            assert json.dumps(here.value) == json.dumps(evaluation.get("value"))
            assert here.reason == evaluation.get("reason", "ERROR")
