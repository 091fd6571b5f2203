"""Why an evaluation came out as it did: every rule and condition with its outcome."""

from typing import Any

from pilothouse_core.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Context,
    InSegment,
    Not,
    compiled,
    written,
)
from pilothouse_core.evaluation import FlagSet, compiled_flag
from pilothouse_core.flags import Fixed, Flag, Rule, Serve, Window
from pilothouse_core.times import seconds_of

_VALUES_SHOWN = 10


def explained(flags: FlagSet, name: str, context: Context, now: float) -> dict[str, Any]:
    """Return the trace of one flag as JSON members; every condition is tried, also the later ones.

    `{"enabled", "prerequisites": [{flag, variants, served, met}], "rules": [{id, matched, active,
    when, serve}]}`, where `when` repeats the condition with `holds` at each of its nodes.
    """
    found = flags.flags.get(name)
    if found is None:
        return {"flag": name, "found": False}
    flag = found.flag
    return {
        "flag": name,
        "found": True,
        "enabled": flag.enabled,
        "prerequisites": [
            {
                "flag": need.flag,
                "variants": list(need.variants),
                "served": (served := flags.evaluate(need.flag, context, now).variant),
                "met": served in need.variants,
            }
            for need in flag.prerequisites
        ],
        "rules": [_rule(flags, flag, rule, context, now) for rule in flag.rules],
    }


def _rule(flags: FlagSet, flag: Flag, rule: Rule, context: Context, now: float) -> dict[str, Any]:
    active = rule.active is None or _is_active(rule.active, now)
    holds = rule.when is None or compiled(rule.when)(context, flags)
    served = _served(flags, flag, rule, context, now) if active and holds else None
    return {
        "id": rule.id,
        "matched": served is not None and "skipped" not in served,
        "active": active,
        "when": None if rule.when is None else _condition(flags, rule.when, context),
        "serve": served,
    }


def _is_active(window: Window, now: float) -> bool:
    start = None if window.start is None else seconds_of(window.start)
    until = None if window.until is None else seconds_of(window.until)
    return (start is None or start <= now) and (until is None or now < until)


def _served(flags: FlagSet, flag: Flag, rule: Rule, context: Context, now: float) -> dict[str, Any]:
    """Tell what a rule serves, as if it stood alone."""
    serve: Serve = rule.serve
    if isinstance(serve, Fixed):
        return {"variant": serve.variant}
    alone = Flag(flag.name, flag.type, flag.variants, None, None, enabled=True, rules=(rule,))
    answer = compiled_flag(alone, 0).decide(context, now, flags)
    if answer.skipped:
        return {"skipped": f"no {serve.by}", "by": serve.by}
    return {
        "variant": answer.variant,
        "bucket": answer.bucket,
        "by": serve.by,
        "salt": serve.salt,
        "hash": serve.hash,
    }


def _condition(flags: FlagSet, condition: Condition, context: Context) -> dict[str, Any]:
    holds = compiled(condition)(context, flags)
    match condition:
        case AllOf(inner):
            members: dict[str, Any] = {"all": [_condition(flags, one, context) for one in inner]}
        case AnyOf(inner):
            members = {"any": [_condition(flags, one, context) for one in inner]}
        case Not(one):
            members = {"not": _condition(flags, one, context)}
        case InSegment(name):
            segment = flags.segment_definitions.get(name)
            when = None if segment is None else segment.when
            shown = None if when is None else _condition(flags, when, context)
            members = {"segment": name, "when": shown}
        case _:
            members = _shortened(written(condition))
    return {**members, "holds": holds}


def _shortened(members: dict[str, Any]) -> dict[str, Any]:
    """Name a long list by its first values: a trace is for people."""
    values = members.get("values", [])
    if len(values) > _VALUES_SHOWN:
        return {**members, "values": values[:_VALUES_SHOWN], "values_count": len(values)}
    return members
