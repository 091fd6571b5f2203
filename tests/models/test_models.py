"""The protocol models hold what they promise; each rule left out is caught with a trace."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent
IS_WHOLE = os.environ.get("PILOTHOUSE_FAULTS") == "whole"
# Each of these explores for many seconds; for every protocol a passing case is left.
LONG = {
    "writes": {"fixed", "fixed-crash", "fixed-expired", "fixed-recs", "fixed-3", "fenced"},
    "caches": {"floors", "floors-plain-redis", "pointer"},
    "registry": {"fixed-crashes"},
    "eviction": {"bounded-deaths"},
    "validation": {"progress-both", "progress-definer", "progress-definer-death"},
}
Run = tuple[str, str, Callable[[], Any]]


@contextmanager
def importable() -> Iterator[None]:
    """Let the models import their neighbour, as they do when they are run as scripts."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))


def loaded(name: str) -> ModuleType:
    with importable():
        return importlib.import_module(name)


checker = loaded("checker")
RUNS: dict[tuple[str, str], Run] = {
    (model, case): run for model in LONG for case, run in loaded(model).RUNS.items()
}
QUICK = [(model, case) for model, case in RUNS if case not in LONG[model]]
CHOSEN = [
    pytest.param(model, case, id=f"{model}-{case}") for model, case in (RUNS if IS_WHOLE else QUICK)
]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # millions of states in the whole form
@pytest.mark.parametrize(("model", "case"), CHOSEN)
def test_the_model_behaves_as_expected(model: str, case: str) -> None:
    expected, _, factory = RUNS[model, case]

    found = checker.explore(factory())

    assert ("pass" if found.ok else "violation") == expected, found.trace
    if expected == "violation":
        assert found.trace
        assert not found.why.startswith("gave up")


@pytest.mark.parametrize("model", LONG)
def test_every_protocol_has_a_passing_case_and_a_seeded_bug_among_the_quick(model: str) -> None:
    cases = {case: RUNS[model, case][0] for name, case in QUICK if name == model}

    assert "pass" in cases.values()
    assert cases["seeded"] == "violation"


@pytest.mark.parametrize("model", LONG)
def test_whatever_leaves_a_rule_out_is_expected_to_fail(model: str) -> None:
    for name, case in RUNS:
        if name == model and case.startswith(("seeded", "ablate", "design")):
            assert RUNS[name, case][0] == "violation"


@pytest.mark.parametrize("model", LONG)
def test_a_model_runs_as_a_script(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = loaded(model)

    assert checker.main(model, module.RUNS, ["seeded"]) == 0
    assert "VIOLATION" in capsys.readouterr().out
