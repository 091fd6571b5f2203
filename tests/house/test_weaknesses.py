"""A weakness is waived for a reason and for a time."""

from datetime import UTC, date, datetime

import pytest

from tests.house.weaknesses import flaws, waivers

_GOOD = {"id": "GHSA-1", "reason": "not reached from here", "until": "2026-12-01"}
_TODAY = date(2026, 11, 21)


def test_every_waiver_has_a_reason_and_is_still_good() -> None:
    assert flaws(waivers(), datetime.now(UTC).date()) == []


@pytest.mark.parametrize(
    "change", [{"reason": " "}, {"until": "2026-11-20"}, {"until": "2028-01-01"}, {"ghost": ""}]
)
def test_a_waiver_without_reason_or_time_is_none(change: dict[str, str]) -> None:
    assert flaws([_GOOD], _TODAY) == []
    assert len(flaws([{**_GOOD, **change}], _TODAY)) == 1
