"""What the other systems' own packages say, so that nobody here has to be believed."""

import json
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from openfeature.contrib.tools.flagd.core.targeting.custom_ops import fractional
from yggdrasil_engine.engine import UnleashEngine

Json = Any
_CORE = "openfeature.contrib.tools.flagd.core"
_CORE_1 = Path(__file__).parents[2] / ".venv/flagd-core-1"  # installed by make


@cache
def flagd_core_1() -> Any:
    """Return the core of flagd that hashes as version 2, beside the newest one of this run."""
    folder = _CORE_1.joinpath(*_CORE.split("."))
    newest = {name: sys.modules.pop(name) for name in [*sys.modules] if name.startswith(_CORE)}
    try:
        spec = spec_from_file_location(
            _CORE, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        core = sys.modules[_CORE] = module_from_spec(spec)
        spec.loader.exec_module(core)
        core.fractional = sys.modules[f"{_CORE}.targeting.custom_ops"].fractional  # type: ignore[attr-defined]
        return core
    finally:
        for name in [name for name in sys.modules if name.startswith(_CORE)]:
            del sys.modules[name]
        sys.modules.update(newest)


def flagd_1_bucket(value: str, total: int) -> int:
    """flagd of version 2 hashes the key of the flag and the targeting key, joined."""
    return int(str(flagd_core_1().fractional({}, value, *_each(total))))


def flagd_bucket(flag: str, subject: str, total: int) -> int:
    """flagd names one variant a bucket; it refuses an empty subject."""
    data = {"targetingKey": subject, "$flagd": {"flagKey": flag}}
    return int(str(fractional(data, *_each(total))))


def flagd_value_bucket(value: str | int, total: int) -> int:
    return int(str(fractional({}, value, *_each(total))))


@cache
def _each(total: int) -> tuple[list[str | int], ...]:
    return tuple([str(number), 1] for number in range(total))


def unleash(*features: Json, **members: Json) -> UnleashEngine:
    engine = UnleashEngine()
    engine.take_state(json.dumps({"version": 2, "features": list(features), **members}))
    return engine


def _feature(name: str, parameters: Json, **members: Json) -> Json:
    strategy = {"name": "flexibleRollout", "parameters": parameters, **members}
    return {"name": name, "enabled": True, "strategies": [strategy]}


def unleash_bucket(group: str, subject: str) -> int:
    """A subject is in from the rollout of one percent more than its bucket."""
    parameters = {"groupId": group, "stickiness": "userId"}
    features = [_feature(f"at {n}", {**parameters, "rollout": str(n)}) for n in range(101)]
    engine = unleash(*features)
    inside = [engine.check_enabled(f"at {n}", {"userId": subject}).is_enabled for n in range(101)]
    return inside.index(True) - 1


def unleash_variant_bucket(group: str, subject: str, total: int) -> int:
    """Unleash names one variant a bucket."""
    parameters = {"groupId": group, "stickiness": "userId", "rollout": "100"}
    variants = [{"name": str(number), "weight": 1} for number in range(total)]
    engine = unleash(_feature("one", parameters, variants=variants))
    return int(engine.check_variant("one", {"userId": subject}).variant.name)
