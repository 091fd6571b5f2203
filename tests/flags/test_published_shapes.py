"""Documents of the shapes that flagd's own examples and its conformance suite have.

The documents are written for this test; the shapes are those of the files under `config/samples` of
open-feature/flagd and `flags` of open-feature/flagd-testbed, as of 2025. Three published cores are
the judges. Where one of them answers what an imported flag does not, the report must say so.
"""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from app.importers.flagd import read_flagd
from app.importers.model import FlagdHash
from tests.flags.imported import evaluate_imported
from tests.flags.test_flagd import serve_by_flagd
from tests.servers.program import INTEROP, Program

Json = Any
ERROR = "flagd answers with an error"
FLAG = {
    "state": "ENABLED",
    "variants": {"yes": "Y", "no": "N", "other": "O", "true": "T", "false": "F"},
    "defaultVariant": "other",
}
EVALUATORS = {  # users first: flagd replaces references once, in this order
    "either": {"or": [{"$ref": "staff"}, {"==": ["admin", {"var": ["role"]}]}]},
    "staff": {"==": ["boss@example.org", {"var": ["email"]}]},
}
KEY, EMAIL = {"var": "targetingKey"}, {"var": "email"}
PREMIUM = {"==": [{"var": "tier"}, "premium"]}


def whether(condition: Json, *results: Json) -> Json:
    return {"if": [condition, *(results or ("yes", "no"))]}


def version(*arguments: Json) -> Json:
    return whether({"sem_ver": [{"var": "version"}, *arguments]})


TARGETING: dict[str, Json] = {
    "nothing": {},
    "a colour": whether({"==": [{"var": ["color"]}, "yellow"]}),
    "a part of a text": whether({"in": ["@example.org", {"var": ["email"]}]}, "yes", None),
    "a reference": whether({"$ref": "staff"}, "yes", None),
    "references in references": whether({"$ref": "either"}),
    "a reference to nothing": whether({"$ref": "nobody"}),
    "a targeting key": whether({"==": [KEY, "u1"]}, "yes", None),
    "booleans as variants": {"if": [True, True, False]},
    "null as a variant": {"if": [True, None, "yes"]},
    "a variant that is missing": {"if": [True, "three", "yes"]},
    "an operator that does not exist": {"invalid": ["no targeting"]},
    "prefix and suffix": whether(
        {"starts_with": [{"var": "id"}, "abc"]},
        "yes",
        whether({"ends_with": [{"var": "id"}, "xyz"]}),
    ),
    "a suffix that is a number": whether({"ends_with": [{"var": "id"}, 3]}),
    "a prefix without a text": whether({"starts_with": ["abc"]}),
    "a version": version("=", "2.0.0"),
    "a later version": version(">", "1.1"),
    "a version with v": version("=", "v1.0.0"),
    "a shortened version": version("^", "1"),
    "a minor version": version("~", "3.0.0"),
    "a version of a build": version("=", "1.0.0+build"),
    "a sign that does not exist": version("===", "1.0.0"),
    "a version of four numbers": version("=", "2.0.0.0"),
    "a version without a limit": version("="),
    "one variant for all": {"fractional": [["yes", 1]]},
    "no weights": {"fractional": [["yes"], ["no", 1]]},
    "a seed": {"fractional": [{"cat": ["seed", EMAIL]}, ["yes", 25], ["no", 75]]},
    "the key of the flag as a seed": {
        "fractional": [{"cat": [{"var": "$flagd.flagKey"}, EMAIL]}, ["yes", 25], ["no", 75]]
    },
    "halves by key": {"fractional": [KEY, ["yes", 50], ["no", 50]]},
    "a negative weight": {"fractional": [KEY, ["yes", -50], ["no", 100]]},
    "a choice of variants": {"fractional": [KEY, [whether(PREMIUM), 50], ["no", 50]]},
    "a variant of the context": {"fractional": [KEY, [{"var": "color"}, 50], ["yes", 50]]},
    "a choice of weights": {
        "fractional": [KEY, ["yes", whether(PREMIUM, 100, 0)], ["no", 10]],
    },
    "a fraction as a condition": whether({"fractional": [[False, 0], [True, 100]]}),
    "no fraction as a condition": whether({"fractional": [[False, 100], [True, 0]]}),
    "a half as a condition": whether({"fractional": [[False, 50], [True, 50]]}),
    "a fraction of nothing as a condition": whether(
        {"fractional": [{"var": "missing_key"}, ["one", 50], ["two", 50]]}
    ),
    "a fraction without weights as a condition": whether(
        {"fractional": [KEY, ["one", 0], ["two", 0]]}
    ),
    "the old fraction": whether(
        {"$ref": "staff"}, {"fractionalEvaluation": ["email", ["yes", 25], ["no", 75]]}, None
    ),
    "a moment": whether({">": [{"var": "$flagd.timestamp"}, 5]}),
    "zero": whether({"==": [{"var": "n"}, 0]}),
}
MEMBERS: dict[str, Json] = {
    "no default": {"defaultVariant": None},
    "disabled": {"state": "DISABLED"},
    "metadata": {"metadata": {"string": "1.0.2", "integer": 2, "boolean": True, "float": 0.1}},
}
CONTEXTS: list[Json] = [
    *({"targetingKey": f"u{n}", "email": f"{n}@example.org"} for n in range(30)),
    {},
    *(
        {"targetingKey": "u1", "version": found}
        for found in ("1.0.0", "2.0.0", "3.0.7", "3.1", "x")
    ),
    *({"targetingKey": "u1", "version": found} for found in (1, 2, 1.2, 1.1, 3, "v1.0.0")),
    {"targetingKey": "u2", "email": "boss@example.org", "tier": "premium", "color": "yellow"},
    {"targetingKey": "u3", "role": "admin", "color": "yes", "n": 0},
    {"targetingKey": "u4", "id": "abc-xyz"},
    {"targetingKey": "u5", "id": "xyz"},
    {"targetingKey": "u6", "id": 3},
]


@pytest.fixture(scope="module")
def javascript() -> Iterator[Program]:
    program = Program(["node", INTEROP / "flagd_core.mjs"])
    yield program
    program.close()


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # flagd logs each rollout without a key
    yield
    logging.disable(logging.NOTSET)


def document_of(targeting: Json, **members: Json) -> Json:
    flag = {**FLAG, "targeting": targeting, **members}
    return {"flags": {"flag": flag}, "$evaluators": EVALUATORS}


def served_by_python(document: Json, context: Json, hash_version: FlagdHash) -> str | None:
    try:
        return serve_by_flagd(document, context.get("targetingKey"), context, hash_version)[0]
    except Exception:  # noqa: BLE001 - whatever the core raises
        return ERROR


DOCUMENTS = {name: document_of(targeting) for name, targeting in TARGETING.items()} | {
    f"{name}, {how}": document_of(targeting, **members)
    for how, members in MEMBERS.items()
    for name, targeting in list(TARGETING.items())[:4]
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_report_is_not_empty_where_an_answer_differs(name: str, javascript: Program) -> None:
    document = DOCUMENTS[name]
    answers: dict[tuple[str, FlagdHash], list[str | None]] = {
        ("JavaScript", "v2"): javascript.ask(
            "variants", document=document, flag="flag", contexts=CONTEXTS
        ),
        ("Python 1", "v2"): [served_by_python(document, one, "v2") for one in CONTEXTS],
        ("Python 2", "v3"): [served_by_python(document, one, "v3") for one in CONTEXTS],
    }

    for (core, hash_version), served in answers.items():
        imported = read_flagd(document, hash_version)
        assert bool(imported.flags) is not bool(imported.report)
        if imported.flags:
            ours = [evaluate_imported(imported, "flag", one).variant for one in CONTEXTS]
            assert ours == served, core


REPORTED = {
    "a reference to nothing",
    "a variant that is missing",
    "an operator that does not exist",
    "a prefix without a text",
    "a sign that does not exist",
    "a version of four numbers",
    "a version without a limit",
    "a variant of the context",
    "a choice of weights",
    "the old fraction",
    "a moment",
    "zero",
}


def test_what_is_reported_of_these_shapes_is_known() -> None:
    assert {name for name, document in DOCUMENTS.items() if read_flagd(document).report} == REPORTED
