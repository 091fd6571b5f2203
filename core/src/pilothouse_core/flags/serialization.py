"""Flags and segments as JSON members."""

from typing import Any

from pilothouse_core.conditions.serialization import condition_json
from pilothouse_core.flags.model import Fixed, Flag, Progressive, Rollout, Rule, Segment, Serve


def flag_json(flag: Flag) -> dict[str, Any]:
    """Return a flag as JSON members: what `read_flag` reads."""
    return {
        "name": flag.name,
        "description": flag.description,
        "owner": flag.owner,
        "tags": list(flag.tags),
        "type": flag.type,
        "variants": dict(flag.variants),
        "default_variant": flag.default_variant,
        "off_variant": flag.off_variant,
        "enabled": flag.enabled,
        "rules": [_rule_json(rule) for rule in flag.rules],
        "prerequisites": [
            {"flag": need.flag, "variants": list(need.variants)} for need in flag.prerequisites
        ],
    }


def segment_json(segment: Segment) -> dict[str, Any]:
    when = segment.when
    return {
        "name": segment.name,
        "description": segment.description,
        "when": None if when is None else condition_json(when),
    }


def _rule_json(rule: Rule) -> dict[str, Any]:
    members: dict[str, Any] = {
        "id": rule.id,
        "when": None if rule.when is None else condition_json(rule.when),
        "serve": _serve_json(rule.serve),
    }
    if rule.active is not None:
        members["active"] = {"from": rule.active.start, "until": rule.active.until}
    return members


def _serve_json(serve: Serve) -> dict[str, Any]:
    match serve:
        case Fixed(variant):
            return {"variant": variant}
        case Rollout():
            members = {"by": serve.by, "salt": serve.salt, "hash": serve.hash}
            weights = {name: _number(weight) for name, weight in serve.weights.items()}
            ranges = [list(span) for span in serve.ranges]
            return {"rollout": {**members, "weights": weights, "ranges": ranges}}
        case Progressive():
            return {
                "progressive": {
                    "by": serve.by,
                    "salt": serve.salt,
                    "hash": serve.hash,
                    "variant": serve.variant,
                    "otherwise": serve.otherwise,
                    "from": {"at": serve.starts, "percent": _number(serve.first)},
                    "to": {"at": serve.ends, "percent": _number(serve.last)},
                }
            }


def _number(value: float) -> float:
    """Write whole percentages without a fraction, as people do."""
    return int(value) if value == int(value) else value
