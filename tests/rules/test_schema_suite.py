"""The JSON-Schema-Test-Suite, as its makers publish it: drafts 2020-12 and 7, with all formats."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.rules.errors import SchemaInvalid
from app.rules.schemas.compiled import CompiledSchema, violations

SUITE = Path(__file__).parents[1] / "data" / "json_schema_suite"
DRAFT_07 = "http://json-schema.org/draft-07/schema#"
FILES: dict[tuple[str, str], list[dict[str, Any]]] = {
    (path.stem, name): cases
    for path in sorted(SUITE.glob("draft*.json"))
    for name, cases in json.loads(path.read_text(encoding="utf-8")).items()
}

REMOTE = "nothing is fetched: references lead to places in the same schema"
CUSTOM = "`$schema` is draft 2020-12 or draft-07, not a meta-schema of one's own"
ASSERTS = "`format` is checked here, while the suite tests that by default it is not"
# Files all of whose cases are refused when the schema is made, and single cases.
REFUSED_FILES = {"refRemote.json": REMOTE}
REFUSED = {
    "strict-tree schema, guards against misspelled properties": REMOTE,
    "tests for implementation dynamic anchor and reference link": REMOTE,
    "$ref and $dynamicAnchor are independent of order - $defs first": REMOTE,
    "$ref and $dynamicAnchor are independent of order - $ref first": REMOTE,
    "$ref to $dynamicRef finds detached $dynamicAnchor": REMOTE,
    "schema that uses custom metaschema with with no validation vocabulary": CUSTOM,
    "ignore unrecognized optional vocabulary": CUSTOM,
}
NOT_ASKED = {"is only an annotation by default": ASSERTS}


def compile_schema(draft: str, schema: Any) -> CompiledSchema:
    if draft == "draft7" and isinstance(schema, dict):
        schema = {"$schema": DRAFT_07, **schema}
    return CompiledSchema(schema)


def is_refused(name: str, case: dict[str, Any]) -> bool:
    return name in REFUSED_FILES or case["description"] in REFUSED


@pytest.mark.parametrize(("draft", "name"), FILES, ids=lambda value: value)
def test_the_suite_finds_what_it_expects(draft: str, name: str) -> None:
    wrong = []
    for case in FILES[draft, name]:
        if is_refused(name, case):
            continue
        schema = compile_schema(draft, case["schema"])
        for test in case["tests"]:
            if not any(reason in test["description"] for reason in NOT_ASKED):
                is_valid = not any(True for _ in schema.iter_errors(test["data"]))
                if is_valid != test["valid"]:
                    wrong.append((case["description"], test["description"]))

    assert wrong == []


def test_what_is_left_out_of_the_suite_is_refused_when_the_schema_is_made() -> None:
    left_out = [
        (draft, case["schema"])
        for (draft, name), cases in FILES.items()
        for case in cases
        if is_refused(name, case)
    ]

    assert len(left_out) == 33
    for draft, schema in left_out:
        with pytest.raises(SchemaInvalid):
            compile_schema(draft, schema)


def test_no_case_of_the_suite_describes_a_violation_with_a_value() -> None:
    for (draft, name), cases in FILES.items():
        for case in cases:
            if not is_refused(name, case):
                schema = compile_schema(draft, case["schema"])
                for test in case["tests"]:
                    for violation in violations(schema, test["data"]):
                        assert violation.schema_pointer or case["schema"] is False
