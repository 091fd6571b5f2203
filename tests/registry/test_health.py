"""Up after one success, down after three failures in a row."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.registry.health.state import ProbedHealth, health_after_probe


def history(probes: str) -> ProbedHealth:
    return reduce(
        lambda health, probe: health_after_probe(health, succeeded=probe == "+"),
        probes,
        ProbedHealth(),
    )


@pytest.mark.parametrize(
    ("probes", "status"),
    [
        ("", "starting"),
        ("-", "starting"),
        ("--", "starting"),
        ("---", "down"),
        ("+", "up"),
        ("--+", "up"),
        ("+--", "up"),
        ("+---", "down"),
        ("+--+--", "up"),
        ("---+", "up"),
        ("---+--", "up"),
        ("----------", "down"),
    ],
)
def test_it_takes_one_success_or_three_failures_in_a_row(probes: str, status: str) -> None:
    assert history(probes).status == status


@given(st.text("+-", max_size=30))
def test_only_the_last_three_probes_and_the_status_before_them_matter(probes: str) -> None:
    found = history(probes)

    if probes.endswith("+"):
        assert found == ProbedHealth("up")
    elif probes.endswith("---"):
        assert found.status == "down"
    elif "+" in probes[-3:]:
        assert found.status == "up"
