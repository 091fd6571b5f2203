"""What plans make of an environment, and plans as JSON: pure, hence exhaustively."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.changes.model import Action
from app.errors import PilothouseError
from app.flags.cache import EnvironmentFlags
from app.flags.definitions.plan_json import plan_from_json, plan_to_json
from app.flags.definitions.planned_change import PlanFacts
from app.flags.definitions.planned_edits import planned_edits
from app.flags.definitions.plans import (
    ArchiveFlag,
    ChangeFlag,
    ChangeSegment,
    ChangeTargets,
    CopyFlag,
    CreateFlag,
    CreateSegment,
    DeleteFlag,
    DeleteSegment,
    ImportItems,
    KillFlag,
    Plan,
    ReplaceFlag,
    ReplaceSegment,
    RestoreFlag,
    RestoreVersion,
)
from app.flags.definitions.representations import definition_text, read_flag_body
from app.flags.errors import FlagExists, FlagNotFound, FlagStale, FlagTypeInUse, ReferencesMissing
from app.flags.model import Edit, Item, Kind
from app.web.conditional import IfMatch
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.evaluation import EMPTY
from pilothouse_core.flags.model import Flag, Segment
from pilothouse_core.flags.reading import read_flag, read_segment
from tests.core import drawn

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FACTS = PlanFacts(NOW)


def item(definition: Flag | Segment, *, is_archived: bool = False) -> Item:
    kind: Kind = "flag" if isinstance(definition, Flag) else "segment"
    action: Action = "deleted" if is_archived else "created"
    text = definition_text(definition)
    return Item(kind, "staging", definition.name, 3, text, action, "ann", "", NOW, NOW, 7)


def environment(*items: Item) -> EnvironmentFlags:
    live = [one for one in items if not one.is_deleted]
    flags = EMPTY.with_changes(
        [(f.name, read_flag(json.loads(f.definition)), 3) for f in live if f.kind == "flag"],
        [(s.name, read_segment(json.loads(s.definition))) for s in live if s.kind == "segment"],
    )
    return EnvironmentFlags(
        "staging", flags, {(one.kind, one.name): one for one in items}, revision=7
    )


def outcome(plan: Plan, found: EnvironmentFlags, facts: PlanFacts = FACTS) -> object:
    """Return the edits of a plan, or the error with which it is refused."""
    try:
        return planned_edits(found, plan, facts)
    except PilothouseError as error:
        return type(error), str(error)


STAFF = read_segment({"name": "staff", "when": {"attribute": "plan", "op": "in", "values": ["a"]}})
BETA = read_segment({"name": "beta", "when": {"attribute": "plan", "op": "exists"}})
SWITCH = read_flag_body({"name": "first", "enabled": True})
OTHER = read_flag_body({"name": "second", "rollout_percentage": 20})
TEXT = read_flag_body(
    {"name": "first", "type": "string", "variants": {"a": "x"}, "default_variant": "a"}
)

names = st.sampled_from(["first", "second", "staff", "beta"])
segments: st.SearchStrategy[Segment] = st.sampled_from([STAFF, BETA]) | st.builds(
    lambda name, when: read_segment({"name": name, "when": when}),
    st.sampled_from(["beta", "staff"]),
    drawn.conditions(),
)
flags = drawn.flags | st.sampled_from([SWITCH, OTHER, TEXT])
flag_members = drawn.definitions() | st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "description": drawn.json_values,
        "rollout_percentage": st.integers(-1, 101),
        "target_users": st.lists(drawn.texts, max_size=2),
        "type": st.sampled_from(["boolean", "string"]),
    },
)
segment_members = st.fixed_dictionaries(
    {}, optional={"when": drawn.conditions(), "description": drawn.json_values}
)
numbers = st.integers(1, 2**31)
users = st.lists(drawn.texts, max_size=3).map(tuple)
plans: st.SearchStrategy[Plan] = st.one_of(
    st.builds(CreateFlag, flags),
    st.builds(CreateSegment, segments),
    st.builds(ReplaceFlag, names, flag_members, st.booleans()),
    st.builds(ReplaceSegment, names, segment_members),
    st.builds(ChangeFlag, names, flag_members, st.booleans()),
    st.builds(ChangeSegment, names, segment_members),
    st.builds(
        ChangeTargets,
        names,
        st.sampled_from(["replace", "append", "remove"]),
        users,
        st.none() | st.sampled_from(["on", "off"]),
    ),
    st.builds(DeleteFlag, names),
    st.builds(DeleteSegment, names),
    st.builds(ArchiveFlag, names),
    st.builds(RestoreFlag, names),
    st.builds(KillFlag, names, drawn.texts),
    st.builds(RestoreVersion, numbers, flags, st.booleans()),
    st.builds(CopyFlag, flags, st.booleans(), st.booleans()),
    st.builds(
        ImportItems,
        st.lists(flags, max_size=2).map(tuple),
        st.lists(segments, max_size=2).map(tuple),
        st.none() | st.frozensets(names),
    ),
)
environments: st.SearchStrategy[EnvironmentFlags] = st.builds(
    lambda *found: environment(*(one for one in found if one is not None)),
    st.none() | st.builds(item, st.sampled_from([SWITCH, TEXT]), is_archived=st.booleans()),
    st.none() | st.builds(item, st.just(OTHER), is_archived=st.booleans()),
    st.none() | st.just(item(STAFF)),
    st.none() | st.just(item(BETA)),
)


@given(plans)
def test_a_plan_that_becomes_json_and_back_is_the_same(plan: Plan) -> None:
    text = json.dumps(plan_to_json(plan))

    again = plan_from_json(json.loads(text))

    assert again == plan
    assert json.dumps(plan_to_json(again)) == text


@given(environments, plans, st.none() | st.just(NOW - timedelta(hours=1)))
def test_a_plan_that_was_json_does_the_same(
    found: EnvironmentFlags, plan: Plan, last: datetime | None
) -> None:
    facts = PlanFacts(NOW, last)
    again = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))

    assert outcome(again, found, facts) == outcome(plan, found, facts)


@given(environments, plans)
def test_a_plan_leaves_the_environment_as_it_was(found: EnvironmentFlags, plan: Plan) -> None:
    items, present = dict(found.items), dict(found.flags.flags)

    first = outcome(plan, found)
    second = outcome(plan, found)

    assert first == second
    assert (dict(found.items), dict(found.flags.flags)) == (items, present)


def test_a_plan_says_what_will_be_committed() -> None:
    found = environment(item(SWITCH), item(OTHER, is_archived=True))

    assert planned_edits(found, ArchiveFlag("first"), FACTS) == [
        Edit("flag", "first", definition_text(SWITCH), "deleted")
    ]
    assert planned_edits(found, RestoreFlag("second"), FACTS) == [
        Edit("flag", "second", definition_text(OTHER), "created")
    ]
    assert planned_edits(found, DeleteFlag("second"), FACTS) == [
        Edit("flag", "second", "", "deleted")
    ]
    assert planned_edits(found, CreateSegment(STAFF), FACTS) == [
        Edit("segment", "staff", definition_text(STAFF), "created")
    ]
    assert planned_edits(found, ChangeFlag("first", {"enabled": True}), FACTS) == []


def test_a_plan_is_refused_for_another_version_than_the_expected_one() -> None:
    found = environment(item(SWITCH))

    other = IfMatch(is_stated=True, versions=frozenset({2}))
    with pytest.raises(FlagStale):
        planned_edits(found, DeleteFlag("first"), FACTS, other)

    expected = IfMatch(is_stated=True, versions=frozenset({3}))
    assert planned_edits(found, DeleteFlag("first"), FACTS, expected)


def test_a_flag_in_use_keeps_its_type_unless_it_is_forced() -> None:
    found = environment(item(SWITCH))
    in_use = PlanFacts(NOW, NOW - timedelta(hours=23))
    long_ago = PlanFacts(NOW, NOW - timedelta(hours=25))

    for plan in (RestoreVersion(1, TEXT), CopyFlag(TEXT, overwrite=True)):
        with pytest.raises(FlagTypeInUse):
            planned_edits(found, plan, in_use)
        assert planned_edits(found, plan, long_ago)
    assert planned_edits(found, RestoreVersion(1, TEXT, force=True), in_use)


def test_a_copy_needs_what_its_flag_refers_to() -> None:
    rules = [{"when": {"segment": "staff"}, "serve": {"variant": "on"}}]
    flag = read_flag_body({"name": "first", "rules": rules})

    with pytest.raises(ReferencesMissing):
        planned_edits(environment(), CopyFlag(flag), FACTS)
    with pytest.raises(FlagExists):
        planned_edits(environment(item(SWITCH), item(STAFF)), CopyFlag(flag), FACTS)

    assert planned_edits(environment(item(STAFF)), CopyFlag(flag), FACTS)


def test_what_does_not_exist_is_not_changed() -> None:
    for plan in (
        ArchiveFlag("first"),
        ChangeFlag("first", {}),
        ChangeTargets("first", "append", ()),
    ):
        with pytest.raises(FlagNotFound):
            planned_edits(environment(), plan, FACTS)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"kind": "no_such"},
        {"kind": ["archive_flag"], "name": "f"},
        {"kind": "archive_flag"},
        {"kind": "archive_flag", "name": 1},
        {"kind": "archive_flag", "name": "f", "more": 1},
        {"kind": "replace_flag", "name": "f", "members": [], "force": False},
        {"kind": "replace_flag", "name": "f", "members": {}, "force": 1},
        {"kind": "change_targets", "name": "f", "operation": "swap", "users": [], "variant": None},
        {"kind": "change_targets", "name": "f", "operation": [], "users": [], "variant": None},
        {"kind": "change_targets", "name": "f", "operation": "append", "users": [1], "variant": ""},
        {"kind": "import_items", "flags": {}, "segments": [], "archived": None},
        {"kind": "import_items", "flags": [], "segments": [], "archived": [1]},
    ],
)
def test_json_that_is_no_plan_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"kind|member"):
        plan_from_json(raw)


def test_a_flaw_in_the_definition_of_a_plan_is_named() -> None:
    raw = plan_to_json(CreateFlag(SWITCH))
    raw["flag"]["default_variant"] = "none of them"

    with pytest.raises(DefinitionError, match="default_variant"):
        plan_from_json(raw)
