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


def registered(at: float, epoch: int = 1) -> dict[str, Any]:
    return {"did": "registered", "service": "billing", "id": "one", "epoch": epoch, "at": at}


def beaten(epoch: int, status: int) -> dict[str, Any]:
    facts = {"service": "billing", "id": "one", "at": 1}
    return {"did": "beaten", **facts, "epoch": epoch, "status": status}


def silenced(at: float) -> dict[str, Any]:
    return {"did": "silenced", "service": "billing", "id": "one", "at": at, "bound": 5}


def left(at: float) -> dict[str, Any]:
    return {"did": "left", "service": "billing", "id": "one", "began": at - 1, "at": at}


def discovered(at: float, *ids: str) -> dict[str, Any]:
    line = {"did": "discovered", "replica": 1, "service": "billing", "began": at, "at": at}
    return line | {"ids": ids}


WELL: dict[str, Lines] = {
    "not yet known": [registered(10), discovered(10.5)],
    "discovered": [registered(0), discovered(10, "one"), beaten(1, 200), beaten(1, 503)],
    "replaced": [registered(0), registered(10, 2), discovered(10.5, "one"), beaten(1, 409)],
    "dying": [registered(0), silenced(10), discovered(14, "one"), discovered(14)],
    "dead": [registered(0), silenced(10), discovered(16)],
    "leaving": [registered(0), left(10), discovered(9.5), discovered(10.5, "one")],
    "returned": [registered(0), left(10), registered(20, 2), discovered(30, "one")],
}
FLAWED: dict[str, tuple[Lines, str]] = {
    "missing": ([registered(0), discovered(10)], "lives and is missing"),
    "missing anew": (
        [registered(0), registered(10, 2), discovered(10.5)],
        "lives and is missing",
    ),
    "gone too soon": ([registered(0), silenced(10), discovered(9)], "lives and is missing"),
    "lingering": ([registered(0), silenced(10), discovered(16, "one")], "1.00 s too late"),
    "shown after it left": ([registered(0), left(10), discovered(12, "one")], "0.50 s too late"),
    "unheard": ([registered(0), beaten(1, 404)], "its heartbeat was answered 404"),
    "refused": ([registered(0, 2), beaten(2, 409)], "its heartbeat was answered 409"),
    "late": ([registered(0), registered(1, 2), beaten(1, 200)], "a heartbeat of 1 was taken"),
}


def spelled(lines: Lines) -> list[str]:
    return [json.dumps(line) for line in lines]


@pytest.mark.parametrize("name", WELL)
def test_a_history_without_flaws(name: str) -> None:
    assert check_history(spelled(WELL[name])) == []


@pytest.mark.parametrize("name", FLAWED)
def test_a_flawed_history(name: str) -> None:
    lines, told = FLAWED[name]

    (found,) = check_history(spelled(lines))

    assert told in found


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
