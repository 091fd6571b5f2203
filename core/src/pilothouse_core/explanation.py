"""Explanation of an evaluation: every rule and condition with its outcome."""

from typing import Any

from pilothouse_core.conditions.attributes import getter, is_too_long
from pilothouse_core.conditions.compiler import compile_condition
from pilothouse_core.conditions.model import (
    MAX_TEXT,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Context,
    InSegment,
    Not,
    Share,
)
from pilothouse_core.conditions.serialization import condition_json
from pilothouse_core.evaluation import FlagSet, compile_flag
from pilothouse_core.flags.model import Fixed, Flag, Rule, Segment, Serve, Window
from pilothouse_core.times import seconds_of

_VALUES_SHOWN = 10
# Of segments: one can be named a thousand times, and each time by others that are.
_LETTERS_SHOWN = 256 * 1024
_NODE_LETTERS = 50


def explain_flag(flags: FlagSet, name: str, context: Context, now: float) -> dict[str, Any]:
    """Return the trace of one flag as JSON members; every condition is tried, also the later ones.

    `{"enabled", "prerequisites": [{flag, variants, served, met}], "rules": [{id, matched, active,
    when, serve}]}`, where `when` repeats the condition with `holds` at each of its nodes, and with
    `too_long` where an attribute has more characters than operators look at. What segments hold is
    left out (`left_out`) where that would tell too much.
    """
    compiled_flag = flags.flags.get(name)
    if compiled_flag is None:
        return {"flag": name, "found": False}
    flag = compiled_flag.flag
    trace = _Trace(flags, context, now)
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
        "rules": [trace.rule(flag, rule) for rule in flag.rules],
    }


class _Trace:
    def __init__(self, flags: FlagSet, context: Context, now: float) -> None:
        self._flags = flags
        self._context = context
        self._now = now
        self._left = _LETTERS_SHOWN
        self._in_segment = False

    def rule(self, flag: Flag, rule: Rule) -> dict[str, Any]:
        active = rule.active is None or _is_active(rule.active, self._now)
        when = None if rule.when is None else self._condition(rule.when)
        served = (
            self._serve_trace(flag, rule) if active and (when is None or when["holds"]) else None
        )
        return {
            "id": rule.id,
            "matched": served is not None and "skipped" not in served,
            "active": active,
            "when": when,
            "serve": served,
        }

    def _serve_trace(self, flag: Flag, rule: Rule) -> dict[str, Any]:
        """Return what a rule serves where its condition holds, as if it were the only rule."""
        serve: Serve = rule.serve
        if isinstance(serve, Fixed):
            return {"variant": serve.variant}
        always = Rule(rule.id, None, serve)
        alone = Flag(flag.name, flag.type, flag.variants, None, None, enabled=True, rules=(always,))
        answer = compile_flag(alone, 0).evaluate(self._context, self._now, self._flags)
        if answer.skipped:
            return {"skipped": f"no {serve.by}", "by": serve.by, **self._too_long(serve.by)}
        return {
            "variant": answer.variant,
            "bucket": answer.bucket,
            "by": serve.by,
            "salt": serve.salt,
            "hash": serve.hash,
        }

    def _condition(self, condition: Condition) -> dict[str, Any]:
        self._flags.pause()
        match condition:
            case AllOf(inner):
                nodes = [self._condition(one) for one in inner]
                return {"all": nodes, "holds": all(one["holds"] for one in nodes)}
            case AnyOf(inner):
                nodes = [self._condition(one) for one in inner]
                return {"any": nodes, "holds": any(one["holds"] for one in nodes)}
            case Not(one):
                inverse = self._condition(one)
                return {"not": inverse, "holds": not inverse["holds"]}
            case InSegment(name):
                return self._segment(name, self._flags.segment_definitions.get(name))
            case _:
                return self._test(condition)

    def _segment(self, name: str, segment: Segment | None) -> dict[str, Any]:
        if segment is None or segment.when is None:
            return {"segment": name, "when": None, "holds": segment is not None}
        if self._left <= 0:
            holds = compile_condition(InSegment(name))(self._context, self._flags)
            return {"segment": name, "when": None, "left_out": True, "holds": holds}
        outside, self._in_segment = self._in_segment, True
        when = self._condition(segment.when)
        self._in_segment = outside
        return {"segment": name, "when": when, "holds": when["holds"]}

    def _test(self, condition: Comparison | Share) -> dict[str, Any]:
        members = _with_first_values(condition_json(condition))
        if self._in_segment:
            self._left -= _NODE_LETTERS + sum(len(str(v)) for v in members.get("values", ()))
        attribute = condition.by if isinstance(condition, Share) else condition.attribute
        holds = compile_condition(condition)(self._context, self._flags)
        return {**members, "holds": holds, **self._too_long(attribute)}

    def _too_long(self, attribute: str) -> dict[str, Any]:
        if not is_too_long(getter(attribute)(self._context)):
            return {}
        return {"too_long": f"{attribute} has more than {MAX_TEXT:,} characters"}


def _is_active(window: Window, now: float) -> bool:
    start = None if window.start is None else seconds_of(window.start)
    until = None if window.until is None else seconds_of(window.until)
    return (start is None or start <= now) and (until is None or now < until)


def _with_first_values(members: dict[str, Any]) -> dict[str, Any]:
    """Name a long list by its first values: a trace is for people."""
    values = members.get("values", [])
    if len(values) > _VALUES_SHOWN:
        return {**members, "values": values[:_VALUES_SHOWN], "values_count": len(values)}
    return members
