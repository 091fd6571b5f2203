"""The text that the plan of a release is stored as."""

import json
from functools import lru_cache

from pilothouse_core.releases.plan import Plan, plan_json, read_plan


def plan_text(plan: Plan) -> str:
    return json.dumps(plan_json(plan))


@lru_cache(maxsize=1000)
def plan_of_text(text: str) -> Plan:
    """Return a stored plan; raises ValueError if a newer release of this service has written it."""
    return read_plan(json.loads(text))
