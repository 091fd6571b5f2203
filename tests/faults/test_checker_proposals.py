"""The checker of proposals finds what a faulty applier would do."""

from typing import Any

import pytest

from tests.faults.checker_proposals import find_violations

ACTOR = "proposal:p-1"


def proposal(ended: str = "applied", **outcome: Any) -> dict[str, Any]:
    made = {"state": "applied", "version": 2, **outcome}
    return {"id": "p-1", "state": ended, "items": [{"service_name": "a", "outcome": made}]}


def version(number: int, actor: str = ACTOR) -> dict[str, Any]:
    return {"version": number, "actor": actor}


def test_what_is_true_passes() -> None:
    assert find_violations(proposal(), {"a": [version(2), version(1, "ann")]}) == []
    refused = proposal("not_applied", state="failed", version=0)
    assert find_violations(refused, {"a": [version(1, "ann")]}) == []


@pytest.mark.parametrize(
    ("ended", "versions"),
    [
        pytest.param(proposal(), [version(3), version(2)], id="written twice: no key"),
        pytest.param(
            proposal("not_applied", state="failed", version=0),
            [version(2)],
            id="failed while unanswered",
        ),
        pytest.param(proposal(), [version(1, "ann")], id="applied, and not there"),
        pytest.param(proposal(version=3), [version(2)], id="another version"),
        pytest.param(proposal("not_applied"), [version(2)], id="the whole is said to have failed"),
    ],
)
def test_bugs_are_found(ended: dict[str, Any], versions: list[dict[str, Any]]) -> None:
    assert find_violations(ended, {"a": versions})
