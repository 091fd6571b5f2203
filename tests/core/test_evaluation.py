from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.evaluation import (
    DEFAULT,
    DISABLED,
    EMPTY,
    ERROR,
    FLAG_NOT_FOUND,
    PROGRESS_SECONDS,
    SPLIT,
    STATIC,
    TARGETING_MATCH,
    Evaluation,
    FlagSet,
    with_subject,
)
from pilothouse_core.flags.model import Flag, Progressive, Rollout, Segment
from pilothouse_core.flags.reading import read_flag, read_segment
from tests.core.drawn import (
    MOMENTS,
    SEGMENTS,
    boolean,
    conditions,
    contexts,
    definitions,
    rollout,
    texts,
)
from tests.trials import trials

Json = Any
quick = settings(max_examples=trials(40))
START, END = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
T0 = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DAY = 86_400.0
ON = {"serve": {"variant": "on"}}
STAFF = {"attribute": "plan", "op": "eq", "values": ["staff"]}


def flag_set(*definitions: Json, **segments: Json) -> FlagSet:
    read = [read_flag(definition) for definition in definitions]
    return EMPTY.with_changes(
        [(flag.name, flag, 1) for flag in read],
        [(name, segment(name, when)) for name, when in segments.items()],
    )


def segment(name: str, when: Json) -> Segment:
    return read_segment({"name": name, "when": when})


def evaluate(definition: Json, context: Mapping[str, Json], now: float = T0) -> Evaluation:
    return flag_set(definition).evaluate(definition["name"], context, now)


def moving(first: float, last: float, **members: Json) -> Json:
    progressive = {
        "variant": "on",
        "otherwise": "off",
        "from": {"at": START, "percent": first},
        "to": {"at": END, "percent": last},
        **members,
    }
    return {"id": "moving", "serve": {"progressive": progressive}}


# The order of the reasons.


def test_a_flag_without_rules_is_static() -> None:
    answer = evaluate(boolean(default_variant="on"), {})

    assert answer == Evaluation("new-checkout", 1, "on", True, STATIC)  # noqa: FBT003


def test_a_flag_that_is_not_enabled_serves_its_off_variant() -> None:
    definition = boolean(ON, enabled=False, default_variant="on", off_variant="off")

    assert evaluate(definition, {}) == Evaluation("new-checkout", 1, "off", False, DISABLED)  # noqa: FBT003


@pytest.mark.parametrize("enabled", [True, False])
def test_where_there_is_no_variant_the_callers_default_holds(*, enabled: bool) -> None:
    definition = boolean(enabled=enabled, default_variant=None, off_variant=None)

    answer = evaluate(definition, {})

    assert (answer.variant, answer.value) == (None, None)
    assert answer.reason == (DEFAULT if enabled else DISABLED)
    assert answer.error_code is None


def test_an_unknown_flag_is_an_error_with_its_code() -> None:
    answer = EMPTY.evaluate("none", {}, T0)

    assert (answer.reason, answer.error_code) == (ERROR, FLAG_NOT_FOUND)
    assert (answer.flag, answer.variant, answer.value) == ("none", None, None)


def test_the_first_rule_that_matches_answers() -> None:
    definition = boolean(
        {"id": "one", "when": {"any": []}, "serve": {"variant": "on"}},
        {"id": "two", "when": STAFF, "serve": {"variant": "off"}},
        {"id": "three", "serve": {"variant": "on"}},
    )

    staff, other = (evaluate(definition, {"plan": plan}) for plan in ("staff", "free"))

    assert (staff.variant, staff.reason, staff.rule_id) == ("off", TARGETING_MATCH, "two")
    assert (other.variant, other.reason, other.rule_id) == ("on", TARGETING_MATCH, "three")


@pytest.mark.parametrize("others", [[], [{"when": {"any": []}, **ON}]])
def test_where_no_rule_matches_the_default_is_served(others: list[Json]) -> None:
    answer = evaluate(boolean({"when": STAFF, **ON}, *others), {"plan": "free"})

    assert (answer.variant, answer.reason, answer.rule_id) == ("off", DEFAULT, None)
    assert answer.skipped == ()


def test_a_rollout_splits_and_tells_the_bucket() -> None:
    answer = evaluate(boolean(rollout(50)), {"user_id": "u1"})

    assert (answer.reason, answer.rule_id, answer.bucket) == (SPLIT, "share", 91507)
    assert answer.value is False


# The last two cannot even be printed.
NO_SUBJECTS: tuple[Json, ...] = (None, True, 1.0, [], {}, ["u1"], 10**5000, -(10**5000))


@pytest.mark.parametrize("subject", NO_SUBJECTS, ids=range(len(NO_SUBJECTS)))
@pytest.mark.parametrize("share", [rollout(50), {**moving(50, 50), "id": "share"}])
def test_a_rollout_without_its_subject_does_not_match(subject: Json, share: Json) -> None:
    context = {"user_id": subject}

    alone = evaluate(boolean(share), context)
    first = evaluate(boolean(share, ON), context)
    last = evaluate(boolean({"when": STAFF, **ON}, share), context)

    assert alone.skipped == first.skipped == last.skipped == (("share", "user_id"),)
    assert (alone.variant, alone.reason) == (last.variant, last.reason) == ("off", DEFAULT)
    assert (first.variant, first.rule_id, first.reason) == ("on", "rule-2", TARGETING_MATCH)
    assert alone.lacks_targeting_key
    assert not first.lacks_targeting_key


@pytest.mark.parametrize("subject", NO_SUBJECTS, ids=range(len(NO_SUBJECTS)))
@pytest.mark.parametrize("percent", [0, 100])
def test_a_variant_that_owns_all_buckets_is_served_without_a_subject(
    subject: Json, percent: int
) -> None:
    variant = "on" if percent else "off"
    expected = (variant, SPLIT, None, ())

    for share in (rollout(percent), moving(percent, percent)):
        for rules in ([share], [{"when": STAFF, **ON}, share]):
            answer = evaluate(boolean(*rules), {"user_id": subject})

            assert (answer.variant, answer.reason, answer.bucket, answer.skipped) == expected
    condition = {"rollout": {"by": "user_id", "salt": "s", "percent": percent}}
    matched = evaluate(boolean({"when": condition, **ON}), {"user_id": subject})
    assert matched.variant == variant


def test_a_moving_share_needs_a_subject_only_on_its_way() -> None:
    flag = boolean(moving(0, 100))

    found = [evaluate(flag, {}, now) for now in (T0, T0 + DAY, T0 + 2 * DAY)]

    assert [answer.variant for answer in found] == ["off", "off", "on"]
    assert [answer.lacks_targeting_key for answer in found] == [False, True, False]


def test_every_rule_that_was_skipped_is_told() -> None:
    by_org = {**rollout(50, by="org.id"), "id": "org"}

    answer = evaluate(boolean(by_org, rollout(50)), {"org": {"id": None}})
    served = evaluate(boolean(by_org, rollout(50)), {"user_id": "u1"})

    assert answer.skipped == (("org", "org.id"), ("share", "user_id"))
    assert (served.skipped, served.reason) == ((("org", "org.id"),), SPLIT)


def test_an_integer_is_a_subject_by_its_decimals() -> None:
    definition = boolean(rollout(50))

    for number in (0, -7, 123, 2**70):
        assert evaluate(definition, {"user_id": number}) == evaluate(
            definition, {"user_id": str(number)}
        )


def test_a_subject_is_found_by_both_of_its_names() -> None:
    assert with_subject({"a": 1}, "u1") == {"a": 1, "user_id": "u1", "targetingKey": "u1"}
    assert with_subject({"user_id": "u2"}, "u1")["user_id"] == "u1"
    assert with_subject({"user_id": "u2"}, None) == {"user_id": "u2"}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("integer", 1, int), ("number", 1, float), ("number", 1.0, float), ("boolean", True, bool)],
)
def test_the_type_of_an_answer_is_that_of_the_flag(kind: str, value: Json, expected: type) -> None:
    members = {"type": kind, "variants": {"v": value}, "default_variant": "v", "off_variant": None}

    assert type(evaluate(boolean(**members), {}).value) is expected


# Prerequisites.


def needing(name: str, flag: str, *variants: str, **members: Json) -> Json:
    needs = [{"flag": flag, "variants": list(variants)}]
    return boolean(name=name, prerequisites=needs, default_variant="on", **members)


def test_a_prerequisite_that_is_not_met_turns_a_flag_off() -> None:
    flags = flag_set(
        boolean({"when": STAFF, **ON}, name="base"),
        needing("next", "base", "on"),
        needing("last", "next", "on", off_variant=None),
    )

    for name in ("next", "last"):
        assert flags.evaluate(name, {"plan": "staff"}, T0).reason == STATIC
    off = flags.evaluate("next", {}, T0)
    assert (off.variant, off.reason, off.prerequisite) == ("off", DISABLED, "base")
    off = flags.evaluate("last", {}, T0)
    assert (off.variant, off.reason, off.prerequisite) == (None, DISABLED, "next")


def test_the_first_prerequisite_that_is_not_met_is_told() -> None:
    needs = [{"flag": name, "variants": ["on"]} for name in ("a", "b", "c")]
    flags = flag_set(
        boolean(name="a", default_variant="on"),
        boolean(name="b"),
        boolean(name="c"),
        boolean(name="d", prerequisites=needs),
    )

    assert flags.evaluate("d", {}, T0).prerequisite == "b"


def test_a_prerequisite_that_serves_no_variant_or_is_gone_is_not_met() -> None:
    flags = flag_set(boolean(name="base", default_variant=None), needing("next", "base", "on"))

    assert flags.evaluate("next", {}, T0).reason == DISABLED
    assert flags.with_changes([("base", None, 2)]).evaluate("next", {}, T0).prerequisite == "base"


# Time.


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ({"from": START}, [T0, T0 + 9 * DAY], [T0 - 0.001, 0.0]),
        ({"until": START}, [T0 - 0.001, 0.0], [T0, T0 + DAY]),
        ({"from": START, "until": END}, [T0, T0 + 2 * DAY - 0.001], [T0 - 1, T0 + 2 * DAY]),
        ({}, [0.0, T0], []),
    ],
)
def test_a_window_holds_from_its_start_up_to_not_including_its_end(
    window: Json, inside: list[float], outside: list[float]
) -> None:
    for rules in ([{"active": window, **ON}], [{"active": window, **ON}, {"when": STAFF, **ON}]):
        flags = flag_set(boolean(*rules))

        assert all(flags.evaluate("new-checkout", {}, now).value for now in inside)
        assert not any(flags.evaluate("new-checkout", {}, now).value for now in outside)


SUBJECTS = [f"user-{number}" for number in range(300)]


def insiders(flags: FlagSet, now: float) -> set[str]:
    return {s for s in SUBJECTS if flags.evaluate("new-checkout", {"user_id": s}, now).value}


@pytest.mark.parametrize(("first", "last"), [(0, 100), (12.345, 50), (80, 20), (50, 50)])
def test_a_progressive_share_moves_one_way_and_is_exact_at_its_ends(
    first: float, last: float
) -> None:
    flags = flag_set(boolean(moving(first, last)))
    seen = [insiders(flags, T0 + step * DAY / 12) for step in range(-2, 27)]

    for before, after in pairwise(seen):
        assert before <= after if first <= last else after <= before
    assert seen[0] == seen[2] == insiders(flag_set(boolean(rollout(first))), 0)
    assert seen[-1] == seen[-3] == insiders(flag_set(boolean(rollout(last))), 0)


@quick
@given(
    st.sampled_from([0, 12.345, 50, 99.999, 100]),
    st.sampled_from([0, 12.345, 50, 100]),
    st.floats(-0.5, 1.5),
)
def test_a_progressive_share_is_linear_in_time(first: float, last: float, part: float) -> None:
    flags = flag_set(boolean(moving(first, last)))
    percent = first + (last - first) * min(max(part, 0), 1)

    for subject in SUBJECTS[:50]:
        answer = flags.evaluate("new-checkout", {"user_id": subject}, T0 + part * 2 * DAY)
        assert answer.bucket is not None
        assert answer.reason == SPLIT
        if abs(answer.bucket - percent * 1000) > 1:
            assert answer.value is (answer.bucket < percent * 1000)


def test_the_epoch_moves_at_every_boundary() -> None:
    window = {"active": {"from": START, "until": END}, **ON}
    flags = flag_set(boolean(window), boolean({"active": {"until": START}, **ON}, name="other"))
    moments = [T0 - 0.001, T0, T0 + 2 * DAY - 0.001, T0 + 2 * DAY, T0 + 9 * DAY]

    before, start, inside, end, after = map(flags.epoch, moments)

    assert len({before, start, end}) == 3
    assert start == inside
    assert end == after


def test_the_epoch_moves_in_steps_while_a_share_moves() -> None:
    flags = flag_set(boolean(moving(0, 100)))
    epochs = [flags.epoch(T0 + second) for second in range(-100, int(2 * DAY) + 100)]
    moves = [n - 100 for n in range(1, len(epochs)) if epochs[n] != epochs[n - 1]]

    assert moves[0] == 0
    assert moves[-1] == 2 * DAY
    assert all(b - a == PROGRESS_SECONDS for a, b in pairwise(moves))
    assert len(set(epochs)) == len(moves) + 1


def test_without_times_the_epoch_never_moves() -> None:
    assert flag_set(boolean(rollout(50))).epoch(0) == EMPTY.epoch(T0) == (0, 0)


@quick
@given(definitions(), contexts, st.lists(st.floats(T0 - 2 * DAY, T0 + 4 * DAY), min_size=2))
def test_answers_change_with_the_epoch_alone(
    definition: Json, context: Json, moments: list[float]
) -> None:
    flags = flag_set(definition, **dict.fromkeys(SEGMENTS))
    progressive = any(compiled.progress for compiled in flags.flags.values())
    seen: dict[tuple[int, int], Evaluation] = {}
    for now in moments:
        moving = progressive and T0 <= now < T0 + 2 * DAY
        answer = flags.evaluate(definition["name"], context, now)
        assert moving or seen.setdefault(flags.epoch(now), answer) == answer


# Any context at all.


@settings(quick, max_examples=trials(120))
@given(definitions(), contexts, st.sampled_from(MOMENTS), st.none() | conditions(("staff",)))
def test_any_context_gets_an_answer(
    definition: Json, context: Json, now: float, beta: Json
) -> None:
    flags = flag_set(definition, beta=beta, staff=STAFF)
    flag = flags.flags[definition["name"]].flag

    answer = flags.evaluate(definition["name"], context, now)

    assert answer == flags.evaluate(definition["name"], dict(context), now)
    assert answer.variant is None or answer.value is flag.variants[answer.variant]
    assert answer.reason in expected_reasons(flag)
    assert (answer.rule_id is not None) == (answer.reason in {SPLIT, TARGETING_MATCH})
    # Only a variant that owns all buckets is served without one.
    assert answer.bucket is None or answer.reason == SPLIT
    if answer.reason == SPLIT and answer.bucket is None:
        rule = next(rule for rule in flag.rules if rule.id == answer.rule_id)
        assert isinstance(rule.serve, Progressive) or (
            isinstance(rule.serve, Rollout) and len(rule.serve.ranges) == 1
        )


def expected_reasons(flag: Flag) -> set[str]:
    if not flag.enabled:
        return {DISABLED}
    if flag.rules:
        return {DEFAULT, SPLIT, TARGETING_MATCH}
    return {DEFAULT if flag.default_variant is None else STATIC}


def deep(levels: int) -> Json:
    value: Json = "u1"
    for _ in range(levels):
        value = {"a": value}
    return value


ODD = ("\ud800", "\udfff" * 3, "", "\0", "x" * 1_000_000, 10**5000, -(10**5000), 0, -0.0, 1e308)


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_values_get_an_answer_everywhere(value: Json) -> None:
    everywhere = [
        {"attribute": "a", "op": op, "values": values}
        for op, values in [
            ("in", ["x"]),
            ("not_in", [1]),
            ("eq", [1.5]),
            ("neq", [True]),
            ("gt", [1]),
            ("lte", [0.5]),
            ("contains", ["x"]),
            ("matches", ["x$"]),
            ("cidr", ["::/0"]),
            ("before", [START]),
            ("semver_lt", ["1.0.0"]),
        ]
    ]
    unheard = {"all": [{"any": [*everywhere, {"not": {"any": everywhere}}]}, {"any": []}]}
    methods = ("murmur3-1", "unleash-1")
    rules = [
        {"when": unheard, **ON},
        {"when": {"rollout": {"by": "a", "salt": "\ud800", "percent": 0}}, **ON},
        *(
            {"when": {"any": []}, "serve": {"rollout": {"weights": {"on": 100}, "hash": method}}}
            for method in methods
        ),
        {"serve": {"rollout": {"by": "a", "salt": "\udfff", "weights": {"on": 100}}}},
    ]

    answer = evaluate(boolean(*rules), {"a": value, "": value})

    assert answer.reason in {SPLIT, DEFAULT}


def test_a_context_may_be_as_deep_as_it_likes() -> None:
    path = ".".join(["a"] * 500)
    found = {"attribute": path, "op": "exists"}
    definition = boolean(
        {"when": found, "serve": {"rollout": {"by": path, "weights": {"on": 99.999, "off": 0.001}}}}
    )

    assert evaluate(definition, deep(500)).value is True
    for context in (deep(499), deep(20_000), {"a": [deep(500)]}, {}):
        assert evaluate(definition, context).reason == DEFAULT


# Sets that change.


def test_a_changed_set_leaves_the_one_before_as_it_was() -> None:
    definitions = [boolean(rollout(50), name=name) for name in ("a", "b", "c")]
    before = flag_set(*definitions, beta=STAFF, staff=None)
    moment = before.epoch(T0)

    after = before.with_changes(
        [
            ("a", read_flag(boolean(moving(0, 100), name="a")), 2),
            ("b", None, 3),
            ("d", read_flag(boolean(name="d")), 4),
            ("never", None, 5),
        ],
        [("beta", segment("beta", None)), ("staff", None), ("never", None)],
    )

    assert set(before.flags) == {"a", "b", "c"}
    assert set(after.flags) == {"a", "c", "d"}
    assert after.flags["c"] is before.flags["c"]
    assert before.flags["a"].version == before.evaluate("a", {}, T0).version == 1
    assert after.flags["a"].version == after.evaluate("a", {}, T0).version == 2
    assert before.evaluate("d", {}, T0).error_code == FLAG_NOT_FOUND
    assert after.evaluate("b", {}, T0).error_code == FLAG_NOT_FOUND
    assert (set(before.segments), set(after.segments)) == ({"beta", "staff"}, {"beta"})
    assert before.segment_definitions["beta"].when is not None
    assert before.epoch(T0) == moment != after.epoch(T0)


def test_a_change_compiles_nothing_else() -> None:
    before = flag_set(*(boolean(rollout(50), name=f"f{n}") for n in range(50)), beta=STAFF)

    after = before.with_changes([("f7", before.flags["f7"].flag, 2)])

    assert {n for n in before.flags if after.flags[n] is not before.flags[n]} == {"f7"}
    assert after.segments["beta"] is before.segments["beta"]


def test_a_flag_asks_for_the_segments_of_the_set_it_is_evaluated_in() -> None:
    before = flag_set(boolean({"when": {"segment": "beta"}, **ON}), beta=STAFF)
    after = before.with_changes(segments=[("beta", segment("beta", None))])

    assert before.evaluate("new-checkout", {}, T0).value is False
    assert after.evaluate("new-checkout", {}, T0).value is True
    assert after.flags["new-checkout"] is before.flags["new-checkout"]


@quick
@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | definitions()), max_size=8), texts)
def test_a_set_is_the_same_however_it_came_to_be(
    edits: list[tuple[str, Json]], subject: str
) -> None:
    steps, last = EMPTY, dict[str, Flag | None]()
    for name, definition in edits:
        flag = None if definition is None else read_flag({**definition, "name": name})
        steps, last[name] = steps.with_changes([(name, flag, 1)]), flag
    at_once = EMPTY.with_changes([(name, flag, 1) for name, flag in last.items()])

    for name in "abc":
        context = {"user_id": subject}
        assert steps.evaluate(name, context, T0) == at_once.evaluate(name, context, T0)
