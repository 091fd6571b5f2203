"""The checker of the streams finds what it is there to find, in what is made by hand."""

import json
from collections.abc import Mapping
from typing import Any, Self

import pytest

from tests.faults.checker_streams import check_streams


class Diary:
    """What one client saw, of documents called `a` and `b`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add_event(self, revision: int, name: str, version: int) -> Self:
        return self._put("told", id=revision, name=name, version=version)

    def add_read(self, name: str, version: int) -> Self:
        return self._put("read", name=name, version=version)

    def add_opening(self, revision: int) -> Self:
        return self._put("opened", id=revision)

    def reset(self, revision: int) -> Self:
        return self._put("reset", id=revision)

    def _put(self, did: str, **facts: Any) -> Self:
        self.lines.append(json.dumps({"did": did, "client": "ana", **facts}))
        return self

    def violations(self, **final: int) -> list[str]:
        return check_streams(self.lines, final)


@pytest.fixture
def diary() -> Diary:
    """Two changes of `a`, and one of `b` between them."""
    return Diary().add_opening(0).add_event(1, "a", 1).add_event(2, "b", 1).add_event(3, "a", 2)


def test_what_ascends_to_the_end_is_no_violation(diary: Diary) -> None:
    assert diary.add_opening(3).add_event(5, "b", 3).add_read("b", 4).violations(a=2, b=4) == []


def test_a_read_makes_good_for_what_was_missed(diary: Diary) -> None:
    diary.reset(9).add_read("a", 5).add_read("b", 3)

    assert diary.violations(a=5, b=3) == []


def test_a_read_may_be_ahead_of_the_stream(diary: Diary) -> None:
    diary.add_read("a", 9).add_event(4, "a", 3)

    assert diary.violations(a=9, b=1) == []


def test_a_revision_that_comes_again_is_found(diary: Diary) -> None:
    assert diary.add_event(3, "b", 2).violations(a=2, b=2) == [
        "ana is told of revision 3 after 3",
    ]


def test_a_stream_that_opens_in_the_past_is_found(diary: Diary) -> None:
    assert diary.add_opening(2).violations(a=2, b=1) == ["ana is told of revision 2 after 3"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_that_goes_back_or_comes_again_is_found(diary: Diary, version: int) -> None:
    assert diary.add_event(4, "a", version).violations(a=2, b=1) == [
        f"ana is told of version {version} of a after 2"
    ]


def test_a_read_older_than_what_was_told_is_found(diary: Diary) -> None:
    assert diary.add_read("a", 1).violations(a=2, b=1) == [
        "ana reads version 1 of a and was told of 2"
    ]


@pytest.mark.parametrize("final", [{"a": 3, "b": 1}, {"a": 2, "b": 1, "c": 1}])
def test_a_final_state_that_was_not_seen_is_found(diary: Diary, final: Mapping[str, int]) -> None:
    (found,) = diary.violations(**final)

    assert found.startswith("ana saw version ")


def test_each_client_is_a_case_of_its_own(diary: Diary) -> None:
    diary.lines.append(json.dumps({"did": "opened", "client": "bob", "id": 1}))

    assert diary.violations(a=2, b=1) == [
        "bob saw version 0 of a last, version 2 is true",
        "bob saw version 0 of b last, version 1 is true",
    ]
