"""Unleash's public specification of its clients, and what docs/flag-imports.md says of it."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from app.importers.unleash import read_unleash, unleash_answer
from tests.flags.imported import flag_set
from tests.servers.choice import ServerMissing

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/interop/node_modules/@unleash/client-specification/specifications"
PAGE = (ROOT / "docs/flag-imports.md").read_text()

Json = Any


@dataclass(frozen=True, slots=True)
class Outcome:
    specification: str
    feature: str
    description: str
    found: Literal["as specified", "reported", "otherwise"]


@pytest.fixture(scope="module")
def outcomes() -> Sequence[Outcome]:
    if not CASES.is_dir():
        raise ServerMissing("Unleash's specification is not installed: see `make .venv/dev`")
    names = json.loads((CASES / "index.json").read_text())
    return [outcome for name in names for outcome in _outcomes(name)]


def _outcomes(name: str) -> Iterator[Outcome]:
    specification = json.loads((CASES / name).read_text())
    imported = read_unleash(specification["state"])
    flags = flag_set(imported)
    kinds = {found["name"]: found["type"] for found in imported.flags}
    reported = {note.flag for note in imported.report}
    cases = [*specification.get("tests", []), *specification.get("variantTests", [])]
    for case in cases:
        feature, expected = case["toggleName"], case["expectedResult"]
        found: Literal["as specified", "reported", "otherwise"] = "reported"
        if not reported & {feature, ""}:
            evaluation = flags.evaluate(feature, _context(case["context"]), time.time())
            is_on, variant = unleash_answer(kinds.get(feature, "boolean"), evaluation.variant)
            agrees = _is_as_specified(expected, is_on, variant, evaluation.value)
            found = "as specified" if agrees else "otherwise"
        yield Outcome(name.removesuffix(".json"), feature, case["description"], found)


def _context(context: Mapping[str, Json]) -> dict[str, Json]:
    """Return Unleash's context as one of ours: no `properties`, and `userId` is `user_id`."""
    found = {**context.get("properties", {}), **context}
    found.pop("properties", None)
    return {"user_id" if name == "userId" else name: value for name, value in found.items()}


def _is_as_specified(expected: Json, is_on: bool, variant: str, value: Json) -> bool:  # noqa: FBT001
    if isinstance(expected, bool):
        return is_on is expected
    payload = expected.get("payload")
    if (is_on, variant) != (expected["feature_enabled"], expected["name"]):
        return False
    return payload is None or value in (payload, _VALUES[payload["type"]](payload["value"]))


_VALUES: Mapping[str, Callable[[str], Json]] = {
    "string": str,
    "csv": str,
    "number": float,
    "json": json.loads,
}


def test_whatever_is_imported_means_what_is_specified(outcomes: Sequence[Outcome]) -> None:
    assert [outcome for outcome in outcomes if outcome.found == "otherwise"] == []


def test_the_page_tells_how_many_cases_pass(outcomes: Sequence[Outcome]) -> None:
    passed = Counter(outcome.found for outcome in outcomes)["as specified"]

    assert f"{len(outcomes)} cases: {passed} are imported" in PAGE


def test_the_page_tells_of_every_exception_why(outcomes: Sequence[Outcome]) -> None:
    exceptions = Counter(
        (outcome.specification, outcome.feature)
        for outcome in outcomes
        if outcome.found == "reported"
    )

    rows = re.findall(r"^\| `(\d\d-[^`]+)` \| `(.+)` \| (\d+) \| (\S.+) \|$", PAGE, re.MULTILINE)

    assert {(name, feature): int(count) for name, feature, count, _ in rows} == exceptions
