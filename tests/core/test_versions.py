from itertools import pairwise

import pytest
import semver
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.versions import version_key
from tests.trials import trials

quick = settings(max_examples=trials(100))
numbers = st.integers(0, 12).map(str) | st.integers(0, 10**30).map(str)
identifiers = numbers | st.from_regex(r"[0-9]*[a-zA-Z-][0-9a-zA-Z-]{0,4}", fullmatch=True)
builds = st.from_regex(r"[0-9A-Za-z-]{1,4}(\.[0-9A-Za-z-]{1,4})?", fullmatch=True)
versions = st.builds(
    lambda core, before, build: (
        ".".join(core) + (f"-{'.'.join(before)}" if before else "") + (f"+{build}" if build else "")
    ),
    st.tuples(numbers, numbers, numbers),
    st.lists(identifiers, max_size=3),
    st.none() | builds,
)
near = st.from_regex(r"[0-2]\.[0-2]\.[0-2](-(a|b|1|2|10|a-|0)(\.(a|1|2|10))?)?", fullmatch=True)


@quick
@given(versions | near, versions | near)
def test_precedence_is_that_of_the_semver_package(one: str, other: str) -> None:
    first, second = version_key(one), version_key(other)
    assert first is not None
    assert second is not None

    compared = (first > second) - (first < second)

    assert compared == semver.Version.parse(one).compare(other)
    assert (first == second) == (compared == 0)


@quick
@given(st.from_regex(r"v?[0-9]{0,2}\.?[0-9.a\-+]{0,10}\n?", fullmatch=True) | st.text(max_size=8))
def test_what_is_a_version_is_what_the_semver_package_reads(text: str) -> None:
    assert (version_key(text) is not None) == (text == text.strip() and is_version(text))


def is_version(text: str) -> bool:
    return text.isascii() and semver.Version.is_valid(text)


def test_the_order_of_the_specification_holds() -> None:
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"]
    order += ["1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "2.0.0", "2.1.0", "2.1.1"]
    keys = [key for text in order if (key := version_key(text)) is not None]

    assert len(keys) == len(order)
    assert all(before < after for before, after in pairwise(keys))


def test_builds_have_no_precedence() -> None:
    assert version_key("1.0.0+a") == version_key("1.0.0+b.2") == version_key("1.0.0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "v1.2.3",
        "1.2.3.4",
        "01.2.3",
        "1.2.3-",
        "1.2.3-01",
        "1.2.3+",
        "1.2.3+a..b",
        "1.2.3+.",
        "1.2.3-a..b",
        "1.2.3 ",
        "1.2.3\n",
        "1.2.-3",
        "\u0661.\u0662.\u0663",
        "1.2.3-é",
        "\ud800",
        f"1.2.{'3' * 300}",
        "1.2.3-" + "a." * 100_000,
    ],
)
def test_what_is_no_version_has_no_key(text: str) -> None:
    assert version_key(text) is None
