"""Flags of Unleash mean here what they mean there: its own engine is the judge."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.importers.model import ImportedFlags
from app.importers.unleash import read_unleash, unleash_answer
from tests.flags.drawn_unleash import contexts, documents
from tests.flags.imported import evaluate_imported, flag_set
from tests.flags.judges import unleash
from tests.trials import trials

Json = Any
many = settings(
    max_examples=trials(40),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # the engine logs what it cannot read
    yield
    logging.disable(logging.NOTSET)


def ours(imported: ImportedFlags, name: str, context: Mapping[str, str]) -> tuple[bool, str, Json]:
    """Return what isEnabled and getVariant would answer, and the value here."""
    (kind,) = [found["type"] for found in imported.flags if found["name"] == name]
    renamed = {"user_id" if key == "userId" else key: value for key, value in context.items()}
    found = evaluate_imported(imported, name, renamed, time.time())
    return *unleash_answer(kind, found.variant), found.value


def is_left_to_chance(document: Json, context: Mapping[str, str]) -> bool:
    """Whether somebody without what rollouts are sticky on would draw lots."""
    wanted = {"userId", "customField", "sessionId"}
    return "stickiness" in json.dumps(document) and not wanted <= context.keys()


@many
@given(documents, st.lists(contexts, min_size=4, max_size=8))
def test_a_feature_is_what_it_is_to_unleash_or_reported(
    document: Json, asked: list[dict[str, str]]
) -> None:
    imported = read_unleash(document)
    engine = unleash(*document["features"], segments=document["segments"])

    names = {found["name"] for found in imported.flags}
    assert names | {note.flag for note in imported.report} == {"child", "parent"}
    assert not names & {note.flag for note in imported.report}
    for context in asked:
        if is_left_to_chance(document, context):
            continue
        for name in names:
            is_enabled, variant, _ = ours(imported, name, context)
            judged = engine.check_variant(name, context).variant
            assert is_enabled is engine.check_enabled(name, context).is_enabled
            assert (is_enabled, variant) == (judged.feature_enabled, judged.name)


@many
@given(documents, st.lists(contexts, min_size=4, max_size=8))
def test_a_variant_says_what_its_payload_says(document: Json, asked: list[dict[str, str]]) -> None:
    imported = read_unleash(document)
    engine = unleash(*document["features"], segments=document["segments"])

    for context in asked:
        for found in imported.flags:
            if is_left_to_chance(document, context) or found["type"] == "boolean":
                continue
            judged = engine.check_variant(found["name"], context).variant
            *_, value = ours(imported, found["name"], context)
            assert value in expected_values(judged.payload, judged.name, judged.feature_enabled)


def expected_values(payload: Json, name: str, is_enabled: bool) -> list[Json]:  # noqa: FBT001
    if payload is None:
        marker = "enabled" if is_enabled and name == "disabled" else name
        return ["", {}, 0, marker]
    text = payload["value"]
    if payload["type"] == "json":
        return [json.loads(text) if text not in {"x", "a,b"} else payload, payload]
    if payload["type"] == "number":
        return [float(text) if text == "5" else payload, payload]
    return [text, payload]


def feature(name: str = "flag", **members: Json) -> Json:
    return {"name": name, "enabled": True, "strategies": [], **members}


def strategy(name: str = "default", **members: Json) -> Json:
    return feature(strategies=[{"name": name, **members}])


def strategy_with_constraint(name: str, operator: str, **members: Json) -> Json:
    return strategy(constraints=[{"contextName": name, "operator": operator, **members}])


def rollout_strategy(**parameters: Json) -> Json:
    return strategy("flexibleRollout", parameters={"rollout": "50", "groupId": "g", **parameters})


def feature_with_variants(*variants: Json) -> Json:
    return feature(variants=[{"name": "red", "weight": 1, **variant} for variant in variants])


IN_STRATEGY = "/strategies/0"
IN_CONSTRAINT = f"{IN_STRATEGY}/constraints/0"


@pytest.mark.parametrize(
    ("found", "pointer"),
    [
        (strategy("ours"), f"{IN_STRATEGY}/name"),
        (strategy_with_constraint("x", "LIKE", value="a"), f"{IN_CONSTRAINT}/operator"),
        (strategy_with_constraint("a.b", "IN", values=["a"]), f"{IN_CONSTRAINT}/contextName"),
        (strategy_with_constraint("user_id", "IN", values=["a"]), f"{IN_CONSTRAINT}/contextName"),
        (strategy_with_constraint("x", "NUM_EQ", value="five"), f"{IN_CONSTRAINT}/value"),
        (strategy_with_constraint("x", "DATE_AFTER", value="today"), f"{IN_CONSTRAINT}/value"),
        (strategy_with_constraint("x", "SEMVER_EQ", value="1"), f"{IN_CONSTRAINT}/value"),
        (strategy_with_constraint("x", "STR_CONTAINS", values=[]), f"{IN_CONSTRAINT}/values"),
        (strategy_with_constraint("x", "REGEX", value="(?=a)"), f"{IN_CONSTRAINT}/value"),
        (
            strategy_with_constraint("x", "IN_CIDR", values=["10.0.0.0/255.0.0.0"]),
            f"{IN_CONSTRAINT}/values/0",
        ),
        (strategy_with_constraint("currentTime", "IN", values=["a"]), f"{IN_CONSTRAINT}/operator"),
        (rollout_strategy(stickiness="random"), f"{IN_STRATEGY}/parameters/stickiness"),
        (rollout_strategy(rollout="12.5"), f"{IN_STRATEGY}/parameters/rollout"),
        (strategy(segments=[7]), f"{IN_STRATEGY}/segments/0"),
        (feature_with_variants({"name": "enabled"}), "/variants/0/name"),
        (feature_with_variants({"name": "red~2"}), "/variants/0/name"),
        (feature_with_variants({"weight": 0}), "/variants/0/weight"),
        (
            feature_with_variants({"stickiness": "random"}, {"name": "blue"}),
            "/variants/0/stickiness",
        ),
        (feature("with space"), ""),
        (feature(dependencies=[{"feature": "nobody"}]), "/dependencies/0/feature"),
        (feature(dependencies=[{"feature": "flag"}]), "/dependencies/0/feature"),
    ],
)
def test_what_cannot_be_said_exactly_is_reported_by_its_place(found: Json, pointer: str) -> None:
    imported = read_unleash({"version": 2, "features": [found], "segments": []})

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == [f"/features/0{pointer}"]


def test_a_flaw_of_a_segment_is_reported_for_every_feature_that_uses_it() -> None:
    users = [feature(name, strategies=[{"name": "default", "segments": [1]}]) for name in "ab"]
    segment = {"id": 1, "constraints": [{"contextName": "x", "operator": "LIKE"}]}

    imported = read_unleash({"features": [*users, feature("c")], "segments": [segment]})

    assert [found["name"] for found in imported.flags] == ["c"]
    assert imported.segments == ()
    assert [(note.flag, note.pointer) for note in imported.report] == [
        (name, "/segments/0/constraints/0/operator") for name in "ab"
    ]


def test_who_depends_on_what_is_left_out_is_left_out() -> None:
    parent = feature("parent", strategies=[{"name": "ours"}])
    child = feature("child", dependencies=[{"feature": "parent"}])

    imported = read_unleash({"features": [child, parent]})

    assert imported.flags == ()
    assert {note.flag for note in imported.report} == {"child", "parent"}


def test_a_feature_that_is_there_twice_is_reported() -> None:
    imported = read_unleash({"features": [feature(), feature(enabled=False)]})

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == ["/features/1"]


def test_a_parent_whose_cohort_depends_on_who_asks_is_no_prerequisite() -> None:
    parent = {**rollout_strategy(groupId=None), "name": "parent"}
    child = feature("child", dependencies=[{"feature": "parent"}])

    imported = read_unleash({"features": [child, parent]})

    assert [found["name"] for found in imported.flags] == ["parent"]
    assert [note.pointer for note in imported.report] == ["/features/0/dependencies/0/feature"]


def exported_feature(**members: Json) -> Json:
    """Build what administrators export: a feature `flag` that is on in `production`."""
    return {
        "features": [{"name": "flag", "description": "What for"}],
        "featureStrategies": [
            {"name": "userWithId", "featureName": "flag", "parameters": {"userIds": "u1"}}
        ],
        "featureEnvironments": [
            {"featureName": "flag", "environment": "production", "enabled": True}
        ],
        "featureTags": [{"featureName": "flag", "tagType": "simple", "tagValue": "web"}],
        "segments": [],
        **members,
    }


def test_an_export_becomes_flags_with_their_descriptions_and_tags() -> None:
    imported = read_unleash(exported_feature(), "production")

    (found,) = imported.flags
    assert (found["description"], found["tags"]) == ("What for", ["simple:web"])
    assert ours(imported, "flag", {"userId": "u1"})[0] is True
    assert ours(imported, "flag", {"userId": "u2"})[0] is False


def test_an_export_of_several_environments_asks_for_one() -> None:
    states = [
        {"featureName": "flag", "environment": name, "enabled": name == "dev"}
        for name in ("dev", "production")
    ]
    document = exported_feature(featureEnvironments=states, featureStrategies=[])

    assert [note.pointer for note in read_unleash(document).report] == ["/featureEnvironments"]
    assert [note.pointer for note in read_unleash(document, "qa").report] == [
        "/featureEnvironments"
    ]
    assert [found["enabled"] for found in read_unleash(document, "dev").flags] == [True]
    assert [found["enabled"] for found in read_unleash(document, "production").flags] == [False]


def test_strategies_of_several_environments_must_say_whose_they_are() -> None:
    states = [
        {"featureName": "flag", "environment": name, "enabled": True} for name in ("dev", "live")
    ]

    imported = read_unleash(exported_feature(featureEnvironments=states), "dev")

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == ["/featureStrategies/0/environment"]


def test_a_segment_of_an_export_comes_without_its_constraints_and_is_reported() -> None:
    strategies = [{"name": "default", "featureName": "flag", "segments": [1]}]
    document = exported_feature(featureStrategies=strategies, segments=[{"id": 1, "name": "Staff"}])

    assert [note.pointer for note in read_unleash(document).report] == ["/segments/0"]


def test_disabled_strategies_of_an_export_are_passed_over_unless_none_is_left() -> None:
    disabled = {"name": "default", "featureName": "flag", "disabled": True}
    (other,) = exported_feature()["featureStrategies"]

    mixed = read_unleash(exported_feature(featureStrategies=[disabled, other]))
    alone = read_unleash(exported_feature(featureStrategies=[disabled]))

    assert ours(mixed, "flag", {"userId": "u2"})[0] is False
    assert (alone.flags, len(alone.report)) == ((), 1)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner)
)


def spoil_document(document: Json, path: list[int], value: Json) -> Json:
    """Put anything at a place in a document."""
    if not path or not isinstance(document, (dict, list)) or not document:
        return value
    number = path[0] % len(document)
    if isinstance(document, list):
        inner = spoil_document(document[number], path[1:], value)
        return [*document[:number], inner, *document[number + 1 :]]
    name = list(document)[number]
    return {**document, name: spoil_document(document[name], path[1:], value)}


paths = st.lists(st.integers(0, 11), min_size=1, max_size=8)
ways = st.sampled_from([None, "production"])


@many
@given(documents | st.builds(exported_feature), paths, anything, ways)
def test_whatever_a_document_holds_it_is_read_or_reported(
    document: Json, path: list[int], value: Json, environment: str | None
) -> None:
    for found in (value, spoil_document(document, path, value)):
        imported = read_unleash(found, environment)

        flag_set(imported)
        assert not {one["name"] for one in imported.flags} & {one.flag for one in imported.report}


def nested_document(depth: int) -> Json:
    found: Json = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["name", "description", "strategies", "variants", "dependencies"])
def test_a_deep_document_is_reported(name: str) -> None:
    deep = nested_document(100_000)

    for value in (deep, [deep], [{"name": deep}], [{"name": "red", "weight": 1, "payload": deep}]):
        imported = read_unleash({"features": [{**feature(), name: value}]})

        assert (imported.flags, len(imported.report)) == ((), 1)


def test_a_payload_that_is_nested_too_deep_is_taken_as_text() -> None:
    payload = {"type": "json", "value": "[" * 100_000}

    (found,) = read_unleash({"features": [feature_with_variants({"payload": payload})]}).flags

    assert found["variants"]["red"] == payload


def test_a_large_document_is_read_in_time_that_grows_with_its_size() -> None:
    values = [f"u{number}" for number in range(2_000)]
    constraint = {"contextName": "userId", "operator": "IN", "values": values}
    names = [f"flag-{number}" for number in range(2_000)]
    document = exported_feature(
        features=[{"name": name} for name in names],
        featureEnvironments=[{"name": name, "enabled": True} for name in names],
        featureStrategies=[
            {"name": "default", "featureName": name, "segments": [1]} for name in names
        ],
        segments=[{"id": 1, "constraints": [constraint, MOMENT]}],
    )

    started = time.process_time()
    imported = read_unleash(document)

    assert (len(imported.flags), len(imported.segments)) == (2_000, 1)
    assert time.process_time() - started < 20


MOMENT = {"contextName": "currentTime", "operator": "DATE_AFTER", "value": "2030-01-01T00:00:00Z"}
FLAWED = {"contextName": "x", "operator": "LIKE"}
RED = {"name": "red", "weight": 1}


def using(count: int, *constraints: Json) -> Json:
    """Build many features that use one segment."""
    strategies = [{"name": "default", "segments": [1]}]
    features = [feature(f"flag-{number}", strategies=strategies) for number in range(count)]
    return {"features": features, "segments": [{"id": 1, "constraints": list(constraints)}]}


def timed_gates(gates: int, count: int) -> Json:
    strategies = [{"name": "default", "constraints": [MOMENT]}] * gates
    override = {"contextName": "x", "values": ["a"]}
    variants = [{"name": str(n), "weight": 1, "overrides": [override]} for n in range(count)]
    return {"features": [feature(strategies=strategies, variants=variants)]}


def children(count: int, variants: int) -> Json:
    parent = feature("parent", variants=[{**RED, "name": str(n)} for n in range(variants)])
    needs = [{"feature": "parent"}] * 20
    others = [feature(f"flag-{number}", dependencies=needs) for number in range(count)]
    return {"features": [parent, *others]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "document",
    [
        using(1_000, *[MOMENT] * 5_000),
        using(1_000, *[FLAWED] * 5_000),
        timed_gates(3_000, 3_000),
        children(300, 900),
        {"features": [strategy(constraints=[FLAWED] * 20_000)]},
    ],
    ids=["moments", "flaws", "rules", "children", "notes"],
)
def test_what_multiplies_itself_is_reported_in_time(document: Json) -> None:
    started = time.process_time()
    imported = read_unleash(document)

    assert imported.report
    assert time.process_time() - started < 20


def test_an_export_of_unleash_4_is_read_with_its_segments_and_variants() -> None:
    adults = {"contextName": "age", "operator": "NUM_GTE", "value": "18"}
    strategy = {"id": "s1", "featureName": "flag", "strategyName": "default", "parameters": {}}
    variants = [{"name": "red", "weight": 1000, "stickiness": "default"}]

    imported = read_unleash(
        exported_feature(
            version=4,
            features=[{"name": "flag", "variants": variants}],
            featureStrategies=[strategy | {"environment": "production"}],
            featureStrategySegments=[{"featureStrategyId": "s1", "segmentId": 7}],
            segments=[{"id": 7, "name": "adults", "constraints": [adults]}],
        )
    )

    assert imported.report == ()
    assert ours(imported, "flag", {"userId": "u", "age": "18"}) == (True, "red", "red")
    assert ours(imported, "flag", {"userId": "u", "age": "17"}) == (False, "disabled", "disabled")


def test_a_feature_of_one_strategy_is_reported_instead_of_being_on_for_all() -> None:
    old = {"name": "flag", "enabled": True, "strategy": "userWithId", "parameters": {}}

    imported = read_unleash({"version": 0, "features": [old]})

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == ["/features/0/strategy"]


def test_what_edge_saves_is_read_as_what_clients_are_sent() -> None:
    feature = {"name": "panel", "enabled": True, "strategies": [{"name": "default"}]}
    sent = {"version": 2, "features": [feature]}
    other = {"version": 2, "features": [{**feature, "name": "other"}]}
    pairs = [["development", other], ["production", sent]]

    assert [found["name"] for found in read_unleash([["production", sent]]).flags] == ["panel"]
    assert read_unleash(pairs, "production") == read_unleash([["production", sent]])
    assert [found["name"] for found in read_unleash(pairs, "development").flags] == ["other"]
    for document, chosen, reason in (
        (pairs, None, "choose one: development, production"),
        (pairs, "staging", "'staging' is not one of the environments"),
        ([], None, "is empty"),
        ([*pairs, pairs[0]], "production", "occurs twice"),
        ([["production"]], None, "is not a pair"),
        ([["production", {}]], None, "is missing"),
    ):
        imported = read_unleash(document, chosen)
        assert imported.flags == ()
        assert reason in imported.report[0].reason
