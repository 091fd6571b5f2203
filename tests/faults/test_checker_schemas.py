"""The checker of layers under a rule finds what it is shown."""

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker_schemas import (
    Layer,
    LayerAnswer,
    LayerTruth,
    StoredLayer,
    check_layers,
)

LOW, HIGH, BASE = Layer("e", "_shared"), Layer("e", "shop"), Layer("default", "_shared")
JUDGED = frozenset({HIGH})


def truth(*rows: tuple[Layer, dict[str, Any]] | str) -> LayerTruth:
    """Log rows in this order: a layer with its data, or the mode that the schema gets."""
    changes: list[dict[str, Any]] = []
    stored: dict[tuple[str, str, int], StoredLayer | None] = {}
    schemas = {}
    for revision, row in enumerate(rows, start=1):
        if isinstance(row, str):
            schemas[revision] = JUDGED if row == "enforce" else frozenset()
            names = {"kind": "schema", "environment": "default", "name": "order", "version": 1}
        else:
            layer, data = row
            version = 1 + sum(each[:2] == tuple(layer) for each in stored)
            stored[(*layer, version)] = StoredLayer(data, f"write-{revision}")
            names = {"kind": "config", "environment": layer[0], "name": layer[1]}
            names["version"] = version
        changes.append({"revision": revision, "deleted": False, **names})
    return LayerTruth(changes, stored, schemas)


def answer(comment: str, status: int | None, revision: int | None = None) -> LayerAnswer:
    return LayerAnswer(comment, LOW, status, revision, retry_after="1")


MET = truth((LOW, {"low": 1}), (HIGH, {"high": 2}), "enforce", (BASE, {"base": 1}))
BROKEN = {
    "by the upper layer": ((HIGH, {"high": 0}), 4),
    "by the lower layer": ((LOW, {"low": 3}), 4),
    "by the lowest layer": ((BASE, {"base": 2}), 4),
    "by a key that is gone": ((LOW, {}), 4),
}


def test_nothing_is_found_where_the_rule_is_met() -> None:
    acknowledged = [answer("write-1", 200, 1), answer("none", 422), answer("other", None)]

    assert check_layers(MET, acknowledged) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_revision_that_breaks_the_rule_is_found(name: str) -> None:
    row, revision = BROKEN[name]

    [flaw] = check_layers(truth((LOW, {"low": 1}), (HIGH, {"high": 2}), "enforce", row), [])

    assert flaw.startswith(f"from revision {revision} ")


def test_a_schema_that_is_not_met_when_it_begins_to_apply_is_found() -> None:
    rows = (LOW, {"low": 3}), (HIGH, {"high": 2})

    assert len(check_layers(truth(*rows, "enforce"), [])) == 1
    assert check_layers(truth(*rows, "warn"), []) == []


def test_a_rule_that_was_broken_for_one_revision_only_is_found() -> None:
    rows = truth((LOW, {"low": 1}), (HIGH, {"high": 2}), "enforce", (LOW, {"low": 3}))
    healed = truth(
        (LOW, {"low": 1}), (HIGH, {"high": 2}), "enforce", (LOW, {"low": 3}), (LOW, {"low": 1})
    )

    assert check_layers(rows, []) == check_layers(healed, [])


@pytest.mark.parametrize(
    ("told", "flaw"),
    [
        (answer("write-1", 422), "write-1 was answered [422] and is in the store"),
        (answer("write-1", 200, 2), "write-1 was answered with revision 2, where it is not"),
        (answer("ghost", 201, 9), "ghost was answered with revision 9, where it is not"),
        (
            replace(answer("ghost", 503), retry_after=None),
            "ghost was answered 503 None without Retry-After",
        ),
    ],
)
def test_an_answer_that_is_not_true_is_found(told: LayerAnswer, flaw: str) -> None:
    assert check_layers(MET, [told]) == [flaw]


def test_a_write_that_was_written_twice_is_found() -> None:
    stored = {**MET.stored, (*LOW, 2): StoredLayer({}, "write-1")}

    assert check_layers(replace(MET, stored=stored), [answer("write-1", 200, 1)]) == [
        "write-1 was written 2 times"
    ]
