from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.times import seconds_of
from tests.trials import trials

quick = settings(max_examples=trials(100))
zones = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))
moments = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=zones)  # noqa: DTZ001


@quick
@given(moments)
def test_a_moment_is_read_as_it_was_written(moment: datetime) -> None:
    assert seconds_of(moment.isoformat()) == moment.timestamp()


@quick
@given(moments)
def test_the_same_moment_has_the_same_seconds_everywhere(moment: datetime) -> None:
    universal = moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

    assert seconds_of(universal) == seconds_of(universal.lower()) == moment.timestamp()


@quick
@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fullmatch=True))
def test_any_text_is_a_moment_or_none(text: str) -> None:
    found = seconds_of(text)

    assert found is None or found == datetime.fromisoformat(text.upper()).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00.25Z", 0.25),
        ("1970-01-01T01:30:00+01:30", 0.0),
        ("1969-12-31T23:00:00-01:00", 0.0),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
        ("2024-02-29T00:00:00-00:00", 1709164800.0),
        ("9999-12-31T23:59:59-23:59", 253402387139.0),
    ],
)
def test_moments_are_counted_from_1970(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-1-1T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00Z\n",
        "\u0968\u0966\u0968\u096c-01-01T00:00:00Z",
        "\ud800",
        "2026-01-01T00:00:60Z",
        "1767225600",
        "2026-W01-1T00:00:00Z",
    ],
)
def test_what_is_no_moment_of_rfc_3339_has_no_seconds(text: str) -> None:
    assert seconds_of(text) is None
