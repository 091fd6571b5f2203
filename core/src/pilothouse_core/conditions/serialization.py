"""Conditions as JSON members."""

from typing import Any

from pilothouse_core.conditions.model import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    InSegment,
    Not,
    Share,
)


def condition_json(condition: Condition) -> dict[str, Any]:
    """Return a condition as JSON members: what `read_condition` reads."""
    match condition:
        case AllOf(conditions):
            return {"all": [condition_json(inner) for inner in conditions]}
        case AnyOf(conditions):
            return {"any": [condition_json(inner) for inner in conditions]}
        case Not(inner):
            return {"not": condition_json(inner)}
        case InSegment(name):
            return {"segment": name}
        case Share(by, salt, hash_, percent):
            return {"rollout": {"by": by, "salt": salt, "hash": hash_, "percent": percent}}
        case Comparison(attribute, operator, values, folds, loose):
            members: dict[str, Any] = {"attribute": attribute, "op": operator}
            if operator != "exists":
                members["values"] = list(values)
            if folds:
                members["case_insensitive"] = True
            if loose:
                members["loose"] = True
            return members
