"""Whatever JSON is sent about flags is answered; what is just allowed works."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.drawn import contexts, definitions
from tests.e2e.bad_flags import compare, nested_negations
from tests.e2e.flags import EVALUATE, FLAGS, OFREP, SEGMENTS
from tests.servers.service import ServiceProcess
from tests.trials import trials

pytestmark = pytest.mark.slow

BATCH, SET = f"{EVALUATE}/batch", "/api/v1/flag-set"
JSON = {"Content-Type": "application/json"}
ROUTES = [
    ("POST", FLAGS),
    ("PUT", f"{FLAGS}/a"),
    ("PATCH", f"{FLAGS}/a"),
    ("POST", SEGMENTS),
    ("PUT", f"{SEGMENTS}/s"),
    ("PATCH", f"{SEGMENTS}/s"),
    ("POST", EVALUATE),
    ("POST", BATCH),
    ("POST", OFREP),
    ("POST", f"{OFREP}/a"),
    ("POST", "/api/v1/flag-usage"),
    ("POST", f"{FLAGS}/import?format=flagd"),
    ("POST", f"{FLAGS}/import?format=unleash"),
]
# Words that lead deeper into what reads them than any word that is made up.
WORDS = st.sampled_from(
    [
        *("name", "environment", "type", "variants", "default_variant", "prerequisites", "flag"),
        *("rules", "when", "serve", "variant", "rollout", "weights", "ranges", "segment", "not"),
        *("attribute", "op", "values", "all", "any", "in", "eq", "matches", "cidr", "before"),
        *("context", "targetingKey", "user_id", "flag_name", "flag_names", "evaluations"),
        *("flags", "state", "targeting", "fractional", "if", "$ref", "$evaluators"),
        *("features", "strategies", "constraints", "version", "boolean", "a", "s", "on", "off"),
    ]
)
numbers = st.integers() | st.floats() | st.sampled_from([-0.0, 1e308, 2**63, 10**4299, 5e-324])
scalars = st.none() | st.booleans() | numbers | WORDS | st.text()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner),
    max_leaves=20,
)
members = st.dictionaries(WORDS, anything, max_size=6)
REASONS = {"STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED", "ERROR"}
# One of every kind of operator, on attributes that contexts are made of.
EVERY = {
    "any": [
        compare("in", "x", 1, *[True], attribute="a"),
        compare("matches", "(a+)+$", attribute="a"),
        compare("contains", "\u0131", attribute="a.b", case_insensitive=True),
        compare("gt", 1e308, attribute="a"),
        compare("lt", 10**300, attribute="a", loose=True),
        compare("before", "2026-01-01T00:00:00Z", attribute="a"),
        compare("semver_gt", "1.0.0-a", attribute="a", loose=True),
        compare("cidr", "10.0.0.0/8", "2001:db8::/32", attribute="a"),
        compare("includes", "x", 1, attribute="a"),
        compare("neq", "x", attribute="a.b.c"),
    ]
}
RULES = [
    {"id": "every", "when": {"not": EVERY}, "serve": {"variant": "on"}},
    {"id": "a", "serve": {"rollout": {"by": "a", "weights": {"on": 50, "off": 50}}}},
    {"id": "u", "serve": {"rollout": {"weights": {"on": 0.001, "off": 99.999}}}},
]


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess({"LOG_LEVEL": "warning"}) as service:
        for path, body in (
            (SEGMENTS, {"name": "s"}),
            (FLAGS, {"name": "a"}),
            (FLAGS, {"name": "every", "environment": "kept", "rules": RULES}),
            (FLAGS, {"name": "roll", "environment": "kept", "rollout_percentage": 50}),
        ):
            assert service.request("POST", path, body).status == 201
        yield service


def send_body(service: ServiceProcess, method: str, path: str, body: Any, **headers: str) -> Any:
    # Beyond what JSON can say, NaN among it: such bodies are to be refused, not to be feared.
    data = json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.request(method, path, headers={**JSON, **named}, data=data)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_any_json_is_answered(service: ServiceProcess, method: str, path: str) -> None:
    @settings(max_examples=trials(20))
    @given(anything | members | definitions())
    @example([[]] * 1000)
    @example({"name": {"$ref": "#"}, "rules": [[]], "variants": {"\ud800": "\0"}})
    def asks(body: Any) -> None:
        answer = send_body(service, method, path, body)

        assert answer.status < 500, (body, answer.body)

    asks()
    assert service.request("GET", "/live").status == 200


@settings(max_examples=trials(40))
@given(context=contexts | st.dictionaries(st.sampled_from(["a", "user_id", "b"]), anything))
@example(context={"a": {"b": {"c": [None]}}})
@example(context={"a": "a" * 100_000 + "!"})
@example(context={"a": 10**4299, "user_id": -(10**4299)})
@example(context={"a": "fe80::1%eth0", "user_id": "\u2028"})
@example(context={"targetingKey": {"a": []}})
def test_any_context_is_evaluated_or_refused(service: ServiceProcess, context: Any) -> None:
    where = {"environment": "kept", "context": context}

    one = send_body(service, "POST", EVALUATE, {"flag_name": "every", **where})
    traced = send_body(service, "POST", EVALUATE, {"flag_name": "every", "explain": True, **where})
    batch = send_body(service, "POST", BATCH, where)
    question = {"context": context}
    ofrep = send_body(service, "POST", f"{OFREP}/every", question, X_Environment="kept")
    bulk = send_body(service, "POST", OFREP, question, X_Environment="kept")

    statuses = {answer.status for answer in (one, traced, batch)}
    # 400: it is no JSON that can be accepted; 413: it is longer than 64 KiB
    assert statuses in ({200}, {400}, {413})
    assert ofrep.status == bulk.status or ofrep.json()["errorCode"] == "TARGETING_KEY_MISSING"
    if statuses == {400}:
        assert one.json()["code"] == "bad_json"
        # To OFREP, NUL and half a surrogate pair are text like any other.
        assert ofrep.status == 200 or ofrep.json()["errorCode"] in REFUSALS
        return
    if statuses == {413}:
        assert one.json()["code"] == "context_too_large"
        assert ofrep.json()["errorCode"] == "INVALID_CONTEXT"
        return
    found = batch.json()["evaluations"]
    assert found.keys() == {"every", "roll"}
    assert found["every"] == {**one.json(), "revision": found["every"]["revision"]}
    assert {evaluation["reason"] for evaluation in found.values()} <= REASONS
    assert traced.json()["variant"] == one.json()["variant"]
    if bulk.status == 200:
        keys = [flag["key"] for flag in bulk.json()["flags"]]
        assert keys == ["every", "roll"]
    else:
        assert bulk.json()["errorCode"] == "INVALID_CONTEXT"


REFUSALS = {"PARSE_ERROR", "INVALID_CONTEXT", "TARGETING_KEY_MISSING"}
ON = {"variant": "on"}
ALLOWED: dict[str, dict[str, Any]] = {
    "100,000 values": {"rules": [{"when": compare("in", *range(100_000)), "serve": ON}]},
    "40,000 users": {"target_users": [str(user) for user in range(40_000)]},
    "1,000 rules": {"rules": [{"when": compare("eq", n), "serve": ON} for n in range(1_000)]},
    "5,000 conditions": {"rules": [{"when": {"any": [compare("eq", 1)] * 4}, "serve": ON}] * 1_000},
    "10,000 networks": {
        "rules": [
            {
                "when": compare("cidr", *(f"10.{n >> 8}.{n & 255}.0/24" for n in range(10_000))),
                "serve": ON,
            }
        ]
    },
    "32 nots": {"rules": [{"when": nested_negations(32), "serve": ON}]},
    "hostile patterns": {
        "rules": [
            {
                "when": compare("matches", "(a+)+$", "(a*)*b", "(x+x+)+y", "(a|aa)+$", "(.*)*=$"),
                "serve": ON,
            }
        ]
    },
    "three decimals": {
        "rules": [{"serve": {"rollout": {"weights": {"on": 33.333, "off": 66.667}}}}]
    },
    "large numbers": {
        "type": "number",
        "variants": {"max": 1.7976931348623157e308, "min": 5e-324, "zero": -0.0, "one": 1},
        "default_variant": "zero",
    },
    "large integers": {
        "type": "integer",
        "variants": {"max": 2**63 - 1, "min": 1 - 2**63},
        "default_variant": "max",
    },
    "an object of 40 levels": {
        "type": "object",
        "variants": {"deep": json.loads("[" * 40 + "]" * 40)},
        "default_variant": "deep",
    },
    "a variant of 200 letters": {"variants": {"\U0001d11e" * 200: True}, "type": "boolean"},
    "900 kB": {"type": "string", "variants": {"x": "x" * 900_000}, "default_variant": "x"},
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_is_just_allowed_is_kept_shown_and_evaluated(
    service: ServiceProcess, what: str
) -> None:
    name = f"{list(ALLOWED).index(what)}".rjust(63, "n")
    extra = {"default_variant": None} if what.startswith("a variant") else {}
    body = {"name": name, "environment": "allowed", **ALLOWED[what], **extra}

    made = service.request("POST", FLAGS, body)

    assert made.status == 201, made.body[:300]
    at = f"{FLAGS}/{quote(name)}?environment=allowed"
    shown = service.request("GET", at)
    again = service.request("PUT", at, shown.json())
    assert (again.status, again.json()["version"]) == (200, 1)
    question = {"flag_name": name, "environment": "allowed", "context": {"a": "a" * 50_000 + "!"}}
    evaluated = service.request("POST", EVALUATE, question).json()
    assert evaluated["reason"] in REASONS - {"ERROR"}
    there = service.request("GET", f"{SET}?environment=allowed").json()
    assert name in {flag["name"] for flag in there["flags"]}
    assert service.request("GET", f"{FLAGS}/{name}/history?environment=allowed").status == 200
    assert service.request("DELETE", at).status == 204


def test_a_number_of_a_flag_is_answered_as_it_was_written(service: ServiceProcess) -> None:
    body = {"name": "zero", "environment": "allowed", **ALLOWED["large numbers"]}
    assert service.request("POST", FLAGS, body).status == 201

    question = {"flag_name": "zero", "environment": "allowed"}
    answer = service.request("POST", EVALUATE, question)

    assert b'"value":-0.0' in answer.body
