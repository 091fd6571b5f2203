"""A name that is not known is answered with the known one that was most likely meant."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.conditions.model import OPERATORS
from pilothouse_core.suggestions import MAX_CANDIDATES, did_you_mean, nearest_name
from tests.trials import trials

FLAG = ["name", "environment", "enabled", "rollout_percentage", "target_users", "description"]
KEY = ["key", "value", "environment", "service_name", "user", "is_encrypted", "comment"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("environmentt", "environment"),
        ("Environment", "environment"),
        ("descriqtion", "description"),
        ("enablled", "enabled"),
        ("rolloutPercentage", "rollout_percentage"),
        ("rollout-percentage", "rollout_percentage"),
        ("percentage", "rollout_percentage"),
        ("is_enabled", "enabled"),
        ("targeted_users", "target_users"),
        ("whitelist", "target_users"),
        ("env", "environment"),
        ("desc", "description"),
        ("na", None),
        ("colour", None),
        ("", None),
        ("e" * 65, None),
    ],
)
def test_a_member_of_a_flag_is_suggested(name: str, meant: str | None) -> None:
    assert nearest_name(name, FLAG) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [("service", "service_name"), ("encrypted", "is_encrypted"), ("profile", "environment")],
)
def test_a_term_of_another_system_is_answered_with_ours(name: str, meant: str) -> None:
    assert nearest_name(name, KEY) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("equals", "eq"),
        ("STR_STARTS_WITH", "starts_with"),
        ("startsWith", "starts_with"),
        ("NUM_GTE", "gte"),
        ("IN", "in"),
        ("NOT_IN", "not_in"),
        ("sem_ver", "semver_eq"),
        ("lessThanOrEqual", "lte"),
        ("contajns", "contains"),
        ("regex", "matches"),
    ],
)
def test_an_operator_of_another_system_is_answered_with_ours(name: str, meant: str) -> None:
    assert nearest_name(name, OPERATORS) == meant


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert did_you_mean("colour", FLAG) == ""
    assert did_you_mean("environmentt", FLAG) == "; did you mean 'environment'?"


@given(st.text(max_size=80), st.lists(st.text(max_size=20), max_size=30))
@settings(max_examples=trials(100))
def test_a_suggestion_is_a_known_name_and_never_the_name_itself(
    name: str, known: list[str]
) -> None:
    found = nearest_name(name, known)

    assert found is None or (found in known and found != name)


@given(st.sampled_from(FLAG), st.data())
@settings(max_examples=trials(100))
def test_one_wrong_letter_is_no_obstacle(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    typo = name[:place] + "#" + name[place + 1 :]

    assert nearest_name(typo, FLAG) == name


def test_only_so_many_names_are_looked_at() -> None:
    known = [f"flag-{number:06}" for number in range(MAX_CANDIDATES)]

    assert nearest_name("new-checkouts", [*known, "new-checkout"]) is None
    assert nearest_name("new-checkouts", ["new-checkout", *known]) == "new-checkout"
