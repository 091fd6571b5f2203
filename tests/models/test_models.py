"""The protocol models hold what they promise; each rule left out is caught with a trace."""

import os
import subprocess
import sys

import pytest

from tests.models import (
    applying,
    caches,
    checker,
    eviction,
    registry,
    releases,
    validation,
    writes,
)
from tests.servers.service import ROOT

IS_WHOLE = os.environ.get("PILOTHOUSE_FAULTS") == "whole"
MODELS = {
    "writes": writes.RUNS,
    "caches": caches.RUNS,
    "registry": registry.RUNS,
    "eviction": eviction.RUNS,
    "validation": validation.RUNS,
    "releases": releases.RUNS,
    "applying": applying.RUNS,
}
# Each of these explores for many seconds; for every protocol a passing case is left.
LONG = {
    "writes": {"fixed", "fixed-crash", "fixed-expired", "fixed-recs", "fixed-3", "fenced"},
    "caches": {"floors", "floors-plain-redis", "pointer"},
    "registry": {"fixed-crashes"},
    "eviction": {"bounded-deaths"},
    "validation": {"progress-both", "progress-definer", "progress-definer-death"},
    "releases": {"frozen"},
    "applying": {"stop", "undo-others"},
}
RUNS = {(model, case): run for model, runs in MODELS.items() for case, run in runs.items()}
QUICK = [(model, case) for model, case in RUNS if case not in LONG[model]]
CHOSEN = [
    pytest.param(model, case, id=f"{model}-{case}") for model, case in (RUNS if IS_WHOLE else QUICK)
]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # millions of states in the whole form
@pytest.mark.parametrize(("model", "case"), CHOSEN)
def test_the_model_behaves_as_expected(model: str, case: str) -> None:
    run = RUNS[model, case]

    found = checker.explore(run.model())

    assert ("pass" if found.ok else "violation") == run.expected, found.trace
    if run.expected == "violation":
        assert found.trace
        assert not found.why.startswith("gave up")


@pytest.mark.parametrize("model", LONG)
def test_every_protocol_has_a_passing_case_and_a_seeded_bug_among_the_quick(model: str) -> None:
    cases = {case: RUNS[model, case].expected for name, case in QUICK if name == model}

    assert "pass" in cases.values()
    assert cases["seeded"] == "violation"


@pytest.mark.parametrize("model", LONG)
def test_whatever_leaves_a_rule_out_is_expected_to_fail(model: str) -> None:
    for name, case in MODELS[model].items():
        if name.startswith(("seeded", "ablate", "design")):
            assert case.expected == "violation"


@pytest.mark.parametrize("model", LONG)
def test_a_model_runs_by_itself(model: str) -> None:
    done = subprocess.run(
        (sys.executable, "-m", f"tests.models.{model}", "seeded"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "VIOLATION" in done.stdout
