"""The checker of flags finds what it is there to find, in what is made by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker_flags import FlagTruth, check_flags

ROWS: list[dict[str, Any]] = [
    {"revision": 1, "name": "a", "version": 1, "action": "created", "comment": "c-1"},
    {"revision": 2, "name": "b", "version": 1, "action": "created", "comment": "c-2"},
    {"revision": 3, "name": "a", "version": 2, "action": "updated", "comment": "c-3"},
    {"revision": 5, "name": "b", "version": 2, "action": "deleted", "comment": "c-4"},
]
TRUTH = FlagTruth(
    versions=[{**row, "kind": "flag", "description": row["comment"]} for row in ROWS],
    changes=ROWS,
    newest={"a": 2},
    shown={"replica 0": {"a": 2}, "replica 1": {"a": 2}},
)


def write_lines(value: str, *answers: tuple[int | None, int | None, int | None]) -> list[str]:
    """Write down a write, and for each answer its status, revision and version."""
    lines = []
    for number, (status, revision, version) in enumerate(answers):
        attempt = f"{value}.{number}"
        facts = {"status": status, "revision": revision, "version": version, "code": None}
        lines.append(json.dumps({"did": "asked", "attempt": attempt, "value": value}))
        lines.append(json.dumps({"did": "answered", "attempt": attempt, **facts}))
    return lines


def look(revision: int, version: int | None, text: str | None = None, **more: Any) -> str:
    facts = {
        "did": "looked",
        "client": "ana",
        "replica": "replica 0",
        "name": "a",
        "min_revision": 0,
        "status": 200 if version else 404,
        "code": None if version else "flag_not_found",
        "revision": revision,
        "version": version,
        "description": text,
    }
    return json.dumps({**facts, **more})


HISTORY = [
    *write_lines("c-1", (201, 1, 1)),
    *write_lines("c-2", (None, None, None), (201, 2, 1)),
    *write_lines("c-3", (503, None, None)),
    *write_lines("c-4", (204, 5, None)),
    *write_lines("c-5", (404, None, None)),
    *write_lines("c-6", (None, None, None)),
]


def test_what_was_told_and_is_so_is_no_violation() -> None:
    looks = [look(0, None), look(2, 1, "c-1"), look(4, 2, "c-3", min_revision=3)]

    assert check_flags([*HISTORY, *looks], TRUTH) == []


@pytest.mark.parametrize(
    ("lines", "violation"),
    [
        (write_lines("c-7", (201, 4, 3)), "c-7 was answered 201 and is not there"),
        (write_lines("c-8", (500, None, None)), "c-8 was answered"),
        (write_lines("c-1", (201, 2, 1)), "c-1 was told revision 2, not 1"),
        (write_lines("c-1", (201, 1, 2)), "c-1 was told version 2, not 1"),
        ([look(3, 2, "c-3"), look(2, 1, "c-1")], "went back from revision 3 to 2"),
        ([look(3, 1, "c-1")], "was shown version 1 of a, not 2"),
        ([look(2, 1, "c-1", min_revision=3)], "was shown version 1 of a, not 2"),
        ([look(2, None)], "was shown no a, whose version 1 stands"),
        ([look(3, 2, "c-1")], "was shown a version 2 of a that never was"),
        ([look(3, 7, "c-7")], "was shown a version 7 of a that never was"),
        ([look(3, None, status=500, code="internal")], "was answered 500 internal"),
    ],
)
def test_what_is_told_and_is_not_so_is_found(lines: list[str], violation: str) -> None:
    assert any(violation in found for found in check_flags([*HISTORY, *lines], TRUTH))


def test_a_write_that_was_refused_must_not_be_there() -> None:
    lines = [line for line in HISTORY if '"c-3' not in line]
    refused = write_lines("c-3", (409, None, None), (404, None, None))

    assert check_flags([*lines, *refused], TRUTH) == ["c-3 was answered [409, 404] and is there"]


@pytest.mark.parametrize(
    ("truth", "violation"),
    [
        (replace(TRUTH, changes=ROWS[1:]), "version 1 of a is 0 times in the log"),
        (replace(TRUTH, changes=[*ROWS, ROWS[0]]), "version 1 of a is 2 times in the log"),
        (replace(TRUTH, versions=TRUTH.versions[1:]), "the versions of a are [2]"),
        (replace(TRUTH, versions=TRUTH.versions[:-1]), "the log tells version 2 of b"),
        (replace(TRUTH, newest={"a": 1}), "a stands at 1, its last is 2"),
        (replace(TRUTH, shown={"replica 1": {}}), "replica 1 shows a otherwise than Postgres"),
        (
            replace(TRUTH, versions=[*TRUTH.versions, {**TRUTH.versions[0], "version": 3}]),
            "c-1 was written 2 times",
        ),
        (
            replace(TRUTH, versions=[{**TRUTH.versions[0], "comment": "x-1"}]),
            "x-1 is there, and nobody asked for it",
        ),
    ],
)
def test_what_does_not_agree_in_the_end_is_found(truth: FlagTruth, violation: str) -> None:
    assert any(violation in found for found in check_flags(HISTORY, truth))
