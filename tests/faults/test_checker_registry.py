"""The checker of the registry finds what it is there to find."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker_registry import (
    NodeFact,
    RowFact,
    check_history,
    check_nodes,
    check_quiet,
)

ROW = RowFact("billing", "one", 2, 3, "registered", "a")
OTHER = RowFact("billing", "two", 1, 1, "registered", "b")
GONE = RowFact("billing", "three", 1, 2, "evicted", "b")
NODES = [
    NodeFact("billing", "one", "one", (2, 3), 7),
    NodeFact("billing", "two", "two", (1, 1), 8),
    NodeFact("billing", "theirs", "theirs", None, 9),
]

Lines = list[dict[str, Any]]


def registration_line(at: float, epoch: int = 1) -> dict[str, Any]:
    return {"did": "registered", "service": "billing", "id": "one", "epoch": epoch, "at": at}


def heartbeat_line(epoch: int, status: int) -> dict[str, Any]:
    facts = {"service": "billing", "id": "one", "at": 1}
    return {"did": "beaten", **facts, "epoch": epoch, "status": status}


def silence_line(at: float) -> dict[str, Any]:
    return {"did": "silenced", "service": "billing", "id": "one", "at": at, "bound": 5}


def departure_line(at: float) -> dict[str, Any]:
    return {"did": "left", "service": "billing", "id": "one", "began": at - 1, "at": at}


def discovery_line(at: float, *ids: str) -> dict[str, Any]:
    line = {"did": "discovered", "replica": 1, "service": "billing", "began": at, "at": at}
    return line | {"ids": ids}


WELL: dict[str, Lines] = {
    "not yet known": [registration_line(10), discovery_line(10.5)],
    "discovered": [
        registration_line(0),
        discovery_line(10, "one"),
        heartbeat_line(1, 200),
        heartbeat_line(1, 503),
    ],
    "replaced": [
        registration_line(0),
        registration_line(10, 2),
        discovery_line(10.5, "one"),
        heartbeat_line(1, 409),
    ],
    "dying": [
        registration_line(0),
        silence_line(10),
        discovery_line(14, "one"),
        discovery_line(14),
    ],
    "dead": [registration_line(0), silence_line(10), discovery_line(16)],
    "leaving": [
        registration_line(0),
        departure_line(10),
        discovery_line(9.5),
        discovery_line(10.5, "one"),
    ],
    "returned": [
        registration_line(0),
        departure_line(10),
        registration_line(20, 2),
        discovery_line(30, "one"),
    ],
}
FLAWED: dict[str, tuple[Lines, str]] = {
    "missing": ([registration_line(0), discovery_line(10)], "lives and is missing"),
    "missing anew": (
        [registration_line(0), registration_line(10, 2), discovery_line(10.5)],
        "lives and is missing",
    ),
    "gone too soon": (
        [registration_line(0), silence_line(10), discovery_line(9)],
        "lives and is missing",
    ),
    "lingering": (
        [registration_line(0), silence_line(10), discovery_line(16, "one")],
        "1.00 s too late",
    ),
    "shown after it left": (
        [registration_line(0), departure_line(10), discovery_line(12, "one")],
        "0.50 s too late",
    ),
    "unheard": ([registration_line(0), heartbeat_line(1, 404)], "its heartbeat was answered 404"),
    "refused": (
        [registration_line(0, 2), heartbeat_line(2, 409)],
        "its heartbeat was answered 409",
    ),
    "late": (
        [registration_line(0), registration_line(1, 2), heartbeat_line(1, 200)],
        "a heartbeat of 1 was taken",
    ),
}


def json_lines(lines: Lines) -> list[str]:
    return [json.dumps(line) for line in lines]


@pytest.mark.parametrize("name", WELL)
def test_a_history_without_flaws(name: str) -> None:
    assert check_history(json_lines(WELL[name])) == []


@pytest.mark.parametrize("name", FLAWED)
def test_a_flawed_history(name: str) -> None:
    lines, message = FLAWED[name]

    (found,) = check_history(json_lines(lines))

    assert message in found


def test_nodes_that_are_as_the_rows_want_them() -> None:
    assert check_nodes([ROW, OTHER, GONE], NODES) == []


@pytest.mark.parametrize(
    ("rows", "nodes", "told"),
    [
        ([ROW], NODES[1:], "is registered without a node"),
        ([ROW], [NODES[0], NodeFact("billing", "1", "one", (2, 3), 7)], "has 2 nodes"),
        ([GONE], [NodeFact("billing", "three", "three", (1, 1), 8)], "is not registered"),
        ([ROW], [NodeFact("billing", "one", "one", (2, 2), 7)], "its node (2, 2)"),
        (
            [ROW, RowFact("billing", "two", 1, 1, "registered", "a")],
            NODES,
            "a keeps nodes of 2 sessions",
        ),
        (
            [ROW, OTHER],
            [NODES[0], NodeFact("billing", "two", "two", (1, 1), 7)],
            "session 7 is of 2 owners",
        ),
    ],
)
def test_nodes_that_are_not(rows: list[RowFact], nodes: list[NodeFact], told: str) -> None:
    found = check_nodes(rows, nodes)

    assert any(told in one for one in found)


def test_a_row_that_moves_although_nothing_happens() -> None:
    claimed = replace(ROW, owner="b", term=4)

    assert check_quiet([ROW, OTHER], [OTHER, ROW]) == []
    (found,) = check_quiet([ROW, OTHER], [claimed, OTHER])
    assert found == "billing/one was kept by a, and has moved"
