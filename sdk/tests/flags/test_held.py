"""What a client holds of a flag set, whatever it is told."""

import json
from typing import Any

import pytest

from pilothouse.errors import BadAnswer
from pilothouse.flags import Flags
from pilothouse.flags.persistence import restore_snapshot, snapshot_content
from pilothouse.flags.state import FlagState, apply_update, changed_between


def flag(name: str, version: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "on",
        "off_variant": "off",
        "enabled": True,
        "version": version,
        **more,
    }


def segment(name: str, when: Any = None, version: int = 1) -> dict[str, Any]:
    return {"name": name, "when": when, "version": version}


def staff_only(name: str, version: int = 1) -> dict[str, Any]:
    rules = [{"id": "staff", "when": {"segment": "staff"}, "serve": {"variant": "on"}}]
    return flag(name, version, default_variant="off", rules=rules)


def state_after(before: FlagState, *definitions: Any, revision: int = 1) -> FlagState:
    kinds: dict[str, list[Any]] = {"flags": [], "segments": []}
    for definition in definitions:
        is_segment = isinstance(definition, dict) and "when" in definition
        kinds["segments" if is_segment else "flags"].append(definition)
    return apply_update(before, {"revision": revision, **kinds}, "service", f'"{revision}"')


def answer(held: FlagState, name: str, **context: Any) -> Any:
    evaluation = held.flag_set().evaluate(name, context, 0.0)
    return evaluation.error_code or evaluation.value


NOTHING = FlagState()
STAFF = segment("staff", {"attribute": "user_id", "op": "in", "values": ["ana"]})


def test_only_what_has_changed_is_compiled_again() -> None:
    before = state_after(NOTHING, flag("a"), flag("b"), STAFF)

    after = state_after(before, flag("a"), flag("b", 2, enabled=False), STAFF, revision=2)

    assert after.flags.flags["a"] is before.flags.flags["a"]
    assert after.flags.segments["staff"] is before.flags.segments["staff"]
    assert (answer(after, "a"), answer(after, "b")) == (True, False)
    assert (after.revision, after.version, after.source) == (2, '"2"', "service")


def test_what_is_no_longer_told_is_gone() -> None:
    after = state_after(state_after(NOTHING, flag("a"), flag("b")), flag("a"))

    assert answer(after, "b") == "FLAG_NOT_FOUND"


@pytest.mark.parametrize(
    "newer",
    [
        flag("a", 2, enabled=False, colour="blue"),
        flag("a", 2, enabled=False, rules=[{"serve": {"bandit": {}}}]),
        flag("a", 2, enabled=False, type="date"),
        flag("a", 2, enabled=False, variants=[]),
        {"name": "a", "version": 2},
    ],
    ids=["member", "serve", "type", "variants", "nothing"],
)
def test_what_cannot_be_read_stays_as_it_was_and_harms_no_other(newer: Any) -> None:
    before = state_after(NOTHING, flag("a"), flag("b"))

    after = state_after(before, newer, flag("b", 2, enabled=False), revision=2)

    assert (answer(after, "a"), answer(after, "b")) == (True, False)
    assert after.error is not None
    assert "flag a" in str(after.error)
    assert state_after(after, flag("a", 3), flag("b", 2)).error is None


@pytest.mark.parametrize(
    "nameless", [None, 7, "a", [], {}, {"name": "a"}, {"name": [], "version": 1}]
)
def test_what_has_no_name_is_told_and_harms_nothing(nameless: Any) -> None:
    after = state_after(NOTHING, nameless, flag("b"))

    assert answer(after, "b") is True
    assert "#0" in str(after.error)


def test_what_was_never_readable_is_an_error_and_not_an_answer() -> None:
    after = state_after(NOTHING, flag("a", colour="blue"))

    assert answer(after, "a") == "PARSE_ERROR"


def test_whoever_needs_what_cannot_be_read_is_broken_too() -> None:
    unreadable = segment("staff", {"attribute": "user_id", "op": "sounds_like", "values": ["ana"]})
    inner = segment("inner", {"not": {"segment": "staff"}})
    rules = [{"id": "inner", "when": {"segment": "inner"}, "serve": {"variant": "on"}}]
    needs = flag("needs", prerequisites=[{"flag": "inner", "variants": ["on"]}])

    after = state_after(NOTHING, unreadable, inner, flag("inner", rules=rules), needs, flag("b"))

    assert [answer(after, name) for name in ("inner", "needs", "b")] == [
        "PARSE_ERROR",
        "PARSE_ERROR",
        True,
    ]
    healed = state_after(
        after, STAFF, inner, flag("inner", rules=rules), needs, flag("b"), revision=2
    )
    assert answer(healed, "needs") is True
    assert changed_between(after, healed) == {"inner", "needs"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"revision": 1, "flags": []},
        {"revision": "1", "flags": [], "segments": []},
        {"revision": 1, "flags": {}, "segments": []},
    ],
)
def test_what_is_no_flag_set_is_refused(body: Any) -> None:
    with pytest.raises(BadAnswer):
        apply_update(NOTHING, body, "service", "")


def test_a_change_of_a_segment_or_prerequisite_changes_the_flags_that_need_it() -> None:
    gate = flag("gate")
    needs = flag("needs", prerequisites=[{"flag": "gate", "variants": ["on"]}])
    before = state_after(NOTHING, STAFF, staff_only("staffed"), gate, needs, flag("other"))

    by_segment = state_after(before, {**STAFF, "version": 2}, staff_only("staffed"), gate, needs)
    by_flag = state_after(
        before, STAFF, staff_only("staffed"), flag("gate", 2), needs, flag("other")
    )

    assert changed_between(before, by_segment) == {"staffed", "other"}
    assert changed_between(before, by_flag) == {"gate", "needs"}
    assert (
        changed_between(
            before, state_after(before, STAFF, staff_only("staffed"), gate, needs, flag("other"))
        )
        == set()
    )


def test_what_is_saved_is_restored() -> None:
    held = state_after(NOTHING, STAFF, staff_only("staffed"), flag("b"), revision=7)

    again = restore_snapshot(json.loads(json.dumps(snapshot_content(held))))

    assert (again.revision, again.source, again.version) == (7, "snapshot", '"7"')
    assert answer(again, "staffed", user_id="ana") is True
    assert answer(again, "staffed", user_id="bob") is False
    assert answer(again, "nowhere") == "FLAG_NOT_FOUND"
    assert "b" in again.flags.flags
    assert set(again.flags.flags) == {"staffed", "b"}


def test_only_changes_are_told_when_the_service_answers_after_a_cold_start() -> None:
    held = state_after(NOTHING, STAFF, staff_only("staffed"), flag("b"))
    cold = restore_snapshot(json.loads(json.dumps(snapshot_content(held))))

    after = state_after(cold, {**STAFF, "version": 2}, staff_only("staffed"), flag("b"), revision=2)

    assert after.is_read
    assert changed_between(cold, after) == {"staffed"}
    assert (answer(after, "staffed", user_id="ana"), answer(after, "b")) == (True, True)
    newer = state_after(cold, STAFF, flag("staffed", 2, colour="blue"), flag("b"), revision=2)
    assert answer(newer, "staffed", user_id="ana") is True


def test_another_release_reads_everything_again() -> None:
    held = state_after(
        NOTHING, flag("a"), flag("needs", prerequisites=[{"flag": "a", "variants": ["on"]}])
    )
    content = json.loads(json.dumps(snapshot_content(held)))
    content["whole_for"] = "another"
    content["flags"][0]["colour"] = "blue"

    again = restore_snapshot(content)

    assert [answer(again, name) for name in ("a", "needs")] == ["PARSE_ERROR", "PARSE_ERROR"]
    assert restore_snapshot(snapshot_content(again)).is_read


def test_an_override_of_what_was_restored_leaves_the_others() -> None:
    flags = Flags()
    flags.swap(restore_snapshot(snapshot_content(state_after(NOTHING, flag("a"), flag("b")))))

    flags.override("a", 7)

    assert (flags.value("a"), flags.value("b"), flags.kind("b")) == (7, True, "boolean")


@pytest.mark.parametrize("content", [None, [], {}, {"revision": 1}])
def test_what_was_not_saved_by_us_is_refused(content: Any) -> None:
    with pytest.raises(BadAnswer):
        restore_snapshot(content)
