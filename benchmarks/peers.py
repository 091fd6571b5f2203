"""One condition and a 50 % rollout in the process: ours beside other systems', in one run."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any

from growthbook import GrowthBook
from ldclient import Config, Context, LDClient
from ldclient.integrations import Files
from openfeature.contrib.tools.flagd.core.flagd_core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from yggdrasil_engine.engine import UnleashEngine

from pilothouse_core.evaluation import EMPTY, with_subject
from pilothouse_core.flags.reading import read_flag

_USERS = 1000
_ROUNDS = 15
_COUNTRIES = ["DE", "FR"]
_OURS = "Pilothouse"
Evaluate = Callable[[int], bool]


def ours() -> Evaluate:
    rule = {
        "when": {"attribute": "country", "op": "in", "values": _COUNTRIES},
        "serve": {"rollout": {"weights": {"on": 50, "off": 50}}},
    }
    definition = {
        "name": "ramp",
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        "off_variant": "off",
        "enabled": True,
        "rules": [rule],
    }
    flags = EMPTY.with_changes([("ramp", read_flag(definition), 1)])
    contexts = [with_subject({"country": "DE"}, f"u{n}") for n in range(_USERS)]
    return lambda n: flags.evaluate("ramp", contexts[n], time()).value is True


def flagd() -> Evaluate:
    split = {"fractional": [["on", 50], ["off", 50]]}
    flag = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": {"if": [{"in": [{"var": "country"}, _COUNTRIES]}, split, "off"]},
    }
    core = FlagdCore()
    core.set_flags({"flags": {"ramp": flag}})
    contexts = [EvaluationContext(f"u{n}", {"country": "DE"}) for n in range(_USERS)]
    return lambda n: core.resolve_boolean_value("ramp", False, contexts[n]).value  # noqa: FBT003


def unleash() -> Evaluate:
    strategy = {
        "name": "flexibleRollout",
        "parameters": {"groupId": "ramp", "stickiness": "userId", "rollout": "50"},
        "constraints": [{"contextName": "country", "operator": "IN", "values": _COUNTRIES}],
    }
    feature = {"name": "ramp", "enabled": True, "strategies": [strategy]}
    engine = UnleashEngine()
    engine.take_state(json.dumps({"version": 2, "features": [feature]}))
    contexts = [{"userId": f"u{n}", "properties": {"country": "DE"}} for n in range(_USERS)]
    return lambda n: bool(engine.check_enabled("ramp", contexts[n]).is_enabled)


def growthbook() -> Evaluate:
    rule = {"condition": {"country": {"$in": _COUNTRIES}}, "force": True, "coverage": 0.5}
    features = {"ramp": {"defaultValue": False, "rules": [{**rule, "hashAttribute": "id"}]}}
    book = GrowthBook(features=features)
    contexts = [{"id": f"u{n}", "country": "DE"} for n in range(_USERS)]

    def evaluate(number: int) -> bool:
        book.set_attributes(contexts[number])
        return bool(book.eval_feature("ramp").value)

    return evaluate


def launchdarkly(client: LDClient) -> Evaluate:
    contexts = [Context.builder(f"u{n}").set("country", "DE").build() for n in range(_USERS)]
    return lambda n: bool(client.variation_detail("ramp", contexts[n], False).value)  # noqa: FBT003


def _launchdarkly_client(folder: str) -> LDClient:
    # By its file source: that for tests has no rollouts.
    half = [{"variation": number, "weight": 50_000} for number in (0, 1)]
    clause = {"attribute": "country", "op": "in", "values": _COUNTRIES, "contextKind": "user"}
    rollout = {"contextKind": "user", "variations": half}
    flag = {
        "key": "ramp",
        "version": 1,
        "on": True,
        "salt": "ramp",
        "variations": [True, False],
        "offVariation": 1,
        "fallthrough": {"variation": 1},
        "rules": [{"id": "ramp", "clauses": [clause], "rollout": rollout}],
    }
    path = Path(folder) / "flags.json"
    path.write_text(json.dumps({"flags": {"ramp": flag}}))
    source = Files.new_data_source(paths=[str(path)])
    return LDClient(Config("none", update_processor_class=source, send_events=False))


def side_by_side() -> Mapping[str, float]:
    """Return seconds for one evaluation: the least of many rounds in turns, less the loop's own."""
    with TemporaryDirectory() as folder, closing(_launchdarkly_client(folder)) as client:
        evaluators = {
            _OURS: ours(),
            "GrowthBook 4.0": growthbook(),
            "flagd (openfeature-flagd-core 2.0)": flagd(),
            "LaunchDarkly server SDK 9.18": launchdarkly(client),
            "Unleash (yggdrasil-engine 2.0)": unleash(),
        }
        least = dict.fromkeys(evaluators, float("inf"))
        loop = float("inf")
        for _ in range(_ROUNDS):
            loop = min(loop, _round(lambda number: number % 2 == 0))
            for name, evaluate in evaluators.items():
                least[name] = min(least[name], _round(evaluate))
    return {name: seconds - loop for name, seconds in least.items()}


def _round(evaluate: Evaluate) -> float:
    started = perf_counter()
    on = sum(map(evaluate, range(_USERS)))
    seconds = perf_counter() - started
    assert 0.4 < on / _USERS < 0.6, on  # whoever answers something else has no figure
    return seconds / _USERS


def peers() -> str:
    """Return the table."""
    costs: Mapping[str, Any] = side_by_side()
    lines = ["| evaluator | us per evaluation | times ours |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {seconds * 1e6:.2f} | {seconds / costs[_OURS]:.1f} |"
        for name, seconds in costs.items()
    ]
    return "\n".join(lines)
