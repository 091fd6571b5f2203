"""Which flags serve one value to everybody, and which have expired."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.evaluation import EMPTY
from pilothouse_core.flags.model import Flag
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.flags.staleness import SoleValue, expiry_of, sole_value
from pilothouse_core.times import seconds_of
from tests.core.drawn import MOMENTS, SEGMENTS, boolean, conditions, contexts, flags, rollout

Json = Any
START, END = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
T0, T2 = 1767225600.0, 1767398400.0
ON = {"serve": {"variant": "on"}}
STAFF = {"attribute": "plan", "op": "eq", "values": ["staff"]}


def ramp(first: float, last: float) -> Json:
    shares = {"from": {"at": START, "percent": first}, "to": {"at": END, "percent": last}}
    return {"serve": {"progressive": {"variant": "on", "otherwise": "off", **shares}}}


@given(
    flags,
    st.fixed_dictionaries({name: conditions() for name in SEGMENTS}),
    st.lists(contexts, min_size=1, max_size=5),
    st.sampled_from(MOMENTS),
    st.sampled_from([0.0, 1.0, 90_000.0, 1e9]),
)
def test_a_sole_value_is_what_every_context_gets_from_then_on(
    flag: Flag,
    segments: Mapping[str, Json],
    subjects: list[dict[str, Json]],
    now: float,
    later: float,
) -> None:
    sole = sole_value(flag, now)
    read = [(name, read_segment({"name": name, "when": when})) for name, when in segments.items()]
    flag_set = EMPTY.with_changes([(flag.name, flag, 1)], read)

    if sole is not None:
        value = None if sole.variant is None else flag.variants[sole.variant]
        for context in subjects:
            assert flag_set.evaluate(flag.name, context, now + later).value == value


@pytest.mark.parametrize(
    ("definition", "now", "expected"),
    [
        (boolean(), T0, SoleValue("off", None)),
        (boolean(enabled=False, default_variant="on"), T0, SoleValue("off", None)),
        (boolean(ON), T0, SoleValue("on", None)),
        (boolean({**ON, "when": STAFF}), T0, None),
        (boolean({**ON, "when": STAFF}, default_variant="on"), T0, SoleValue("on", None)),
        (boolean(rollout(30)), T0, None),
        (boolean(rollout(100)), T0, SoleValue("on", None)),
        (boolean(rollout(100, hash="unleash-1")), T0, None),
        (boolean(ramp(0, 100)), T0, None),
        (boolean(ramp(0, 100)), T2, SoleValue("on", T2)),
        (boolean(ramp(50, 0)), T2, SoleValue("off", T2)),
        (boolean(ramp(0, 60)), T2, None),
        (boolean({**ON, "active": {"from": START}}), T0 - 1, None),
        (boolean({**ON, "active": {"from": START}}), T0, SoleValue("on", T0)),
        (boolean({**ON, "active": {"until": END}}), T2 - 1, None),
        (boolean({**ON, "active": {"until": END}}), T2, SoleValue("off", T2)),
        (boolean(ON, prerequisites=[{"flag": "f", "variants": ["on"]}]), T0, None),
        (boolean(prerequisites=[{"flag": "f", "variants": ["on"]}]), T0, SoleValue("off", None)),
        (boolean(ON, variants={"on": True, "off": True}), T0, SoleValue("on", None)),
        (boolean(off_variant=None, enabled=False), T0, SoleValue(None, None)),
    ],
)
def test_windows_shares_and_prerequisites_count(
    definition: Json, now: float, expected: SoleValue | None
) -> None:
    assert sole_value(read_flag(definition), now) == expected


def test_one_and_true_are_two_values() -> None:
    values = {"type": "object", "variants": {"on": {"a": 1}, "off": {"a": True}}}

    assert sole_value(read_flag(boolean({**ON, "when": STAFF}, **values)), T0) is None


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], None),
        (["expires"], None),
        (["expires=never"], None),
        (["expires=2026"], None),
        (["expires=2026-13-01"], None),
        (["expires=2026-01-01"], "2026-01-01T00:00:00Z"),
        (["team=web", "expires=2026-01-01T12:00:00+02:00"], "2026-01-01T10:00:00Z"),
    ],
)
def test_a_tag_says_when_a_flag_expires(tags: list[str], expected: str | None) -> None:
    wanted = None if expected is None else seconds_of(expected)

    assert expiry_of(read_flag(boolean(tags=tags))) == wanted
