"""A refusal says what to do instead: the nearest name, the grammar, the right address or method."""

from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name

FLAGS = "/api/v1/feature-flags"
CONFIG = "/api/v1/config"
REGISTER = "/api/v1/registry/register"
RULE = {"id": "a", "when": None, "serve": {"variant": "on"}}
COMPARED = {"attribute": "plan", "op": "eq", "values": ["pro"]}


def details(problem: Any) -> str:
    """Return all that a problem says to people, in one text."""
    return " ".join([problem["detail"], *(flaw["detail"] for flaw in problem.get("errors", ()))])


@pytest.mark.parametrize(
    ("path", "body", "meant"),
    [
        (FLAGS, {"name": "a", "is_enabled": True}, "enabled"),
        (FLAGS, {"name": "a", "targeted_users": ["ann"]}, "target_users"),
        (FLAGS, {"name": "a", "percentage": 5}, "rollout_percentage"),
        (FLAGS, {"name": "a", "rolloutPercentage": 5}, "rollout_percentage"),
        (FLAGS, {"name": "a", "rules": [{**RULE, "vhen": None}]}, "when"),
        (FLAGS, {"name": "a", "rules": [{**RULE, "when": {**COMPARED, "op": "equals"}}]}, "eq"),
        (FLAGS, {"name": "a", "rules": [{**RULE, "serve": {"variation": "on"}}]}, "variant"),
        (f"{FLAGS}/evaluate", {"flag": "a"}, "flag_name"),
        (f"{FLAGS}/evaluate", {"flag_name": "a", "targetingKey": "ann"}, "user_id"),
        (CONFIG, {"key": "a", "value": 1, "service": "billing"}, "service_name"),
        (CONFIG, {"key": "a", "value": 1, "environmentt": "staging"}, "environment"),
        (f"{CONFIG}/bulk", {"items": [{"key": "a", "env": "staging"}]}, "environment"),
        ("/api/configs/a", {"config": {}}, "config_data"),
        (REGISTER, {"service_name": "a", "url": "http://a:1"}, "service_url"),
        ("/api/v1/tokens", {"name": "a", "kind": "admin"}, "class"),
    ],
)
def test_an_unknown_member_is_answered_with_the_one_that_was_meant(
    service: Service, path: str, body: object, meant: str
) -> None:
    problem = body_of(service.call("POST", path, body), 422)

    assert f"did you mean {meant!r}?" in details(problem)


@pytest.mark.parametrize(
    ("method", "path", "body", "meant"),
    [
        ("POST", "/api/configs/a?env=staging", {"config_data": {}}, "environment"),
        ("PATCH", f"{CONFIG}?service=billing", {"set": {"a": 1}}, "service_name"),
        ("DELETE", f"{FLAGS}/a?environmentt=staging", None, "environment"),
        ("GET", "/api/v1/registry/services/a/url?strategy=roundrobin", None, "round_robin"),
        ("GET", "/api/v1/registry/services/a/url?strategy=weighted", None, "round_robin"),
        ("GET", "/api/v1/export?format=yml", None, "yaml"),
    ],
)
def test_an_unknown_word_in_the_query_is_answered_with_the_one_that_was_meant(
    service: Service, method: str, path: str, body: object, meant: str
) -> None:
    problem = body_of(service.call(method, path, body), 422)

    assert f"did you mean {meant!r}?" in details(problem)


def test_a_flag_that_is_not_there_is_answered_with_the_nearest_one(service: Service) -> None:
    environment = fresh_name("e")
    body_of(service.call("POST", FLAGS, {"name": "new-checkout", "environment": environment}), 201)

    for answer in (
        service.get(f"{FLAGS}/new-chekcout", environment=environment),
        service.call(
            "POST",
            f"{FLAGS}/evaluate",
            {"flag_name": "new-chekcout", "environment": environment},
        ),
    ):
        assert body_of(answer, 404)["detail"].endswith("; did you mean 'new-checkout'?")


@pytest.mark.parametrize(
    ("method", "path", "body", "grammar"),
    [
        ("GET", f"{CONFIG}?environment=a%20b", None, "1 to 63 letters, digits"),
        ("GET", f"{CONFIG}?service_name=a%20b", None, "1 to 63 letters, digits"),
        ("GET", f"{CONFIG}?user=a%20b", None, "'@' and '+'"),
        ("GET", f"{FLAGS}?environment=a%20b", None, "1 to 63 letters, digits"),
        ("POST", FLAGS, {"name": "a b"}, "1 to 63 letters, digits"),
        ("POST", "/api/v1/segments", {"name": "a b"}, "1 to 63 letters, digits"),
        ("POST", CONFIG, {"key": "a\tb", "value": 1}, "dotted names"),
        ("GET", "/api/v1/registry/services/a%20b", None, "1 to 63 letters, digits"),
        ("GET", "/api/v1/stream?environment=a%20b", None, "1 to 63 letters, digits"),
    ],
)
def test_a_refused_name_comes_with_the_grammar(
    service: Service, method: str, path: str, body: object, grammar: str
) -> None:
    problem = body_of(service.call(method, path, body), 422)

    assert grammar in details(problem)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/api/v1/configs", "/api/configs"),
        ("/api/v1/configs/billing/history", "/api/configs/billing/history"),
        ("/api/config", "/api/v1/config"),
        ("/api/v1/flags", FLAGS),
        ("/api/v1/feature-flag", FLAGS),
        ("/v1/services/billing/url", "/api/v1/registry/services/billing/url"),
        ("/healthz", "/health"),
        ("/readyz", "/ready"),
        ("/api/v1/schema/billing", "/api/v1/schemas/billing"),
        ("/subjects", "/api/v1/schemas"),
        ("/api/v1/rules", "/api/v1/schemas"),
        ("/api/v1/lint", "/api/v1/validate"),
        ("/violation", "/api/v1/violations"),
    ],
)
def test_a_wrong_address_is_answered_with_the_nearest_one(
    service: Service, path: str, meant: str
) -> None:
    problem = body_of(service.get(path), 404)

    assert problem["code"] == "no_such_route"
    assert problem["suggestion"] == meant
    assert meant in problem["detail"]


def test_an_address_that_is_near_to_nothing_gets_no_suggestion(service: Service) -> None:
    problem = body_of(service.get("/colours/of/the/sea"), 404)

    assert problem["detail"] == "no such route"
    assert "suggestion" not in problem


def test_a_wrong_method_is_answered_with_the_right_ones(service: Service) -> None:
    answer = service.call("PATCH", f"{CONFIG}/database.host", {"value": 1})

    problem = body_of(answer, 405)
    assert problem["detail"] == "allowed here: DELETE, GET, HEAD, PUT"
    assert problem["allowed"] == ["DELETE", "GET", "HEAD", "PUT"]
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, PUT"


def test_a_missing_body_is_called_missing(service: Service) -> None:
    problem = body_of(service.call("POST", CONFIG), 422)

    assert problem["errors"] == [
        {"pointer": "#", "detail": "The request has no body: send JSON", "code": "missing"}
    ]


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/x-www-form-urlencoded", ""]
)
@pytest.mark.parametrize("text", ['{"key": "a"', "{'key': 1}", '["a",]'])
def test_broken_json_is_400(service: Service, media_type: str, text: str) -> None:
    answer = service.process.request(
        "POST", CONFIG, data=text.encode(), headers={"Content-Type": media_type}
    )

    assert body_of(answer, 400)["code"] == "bad_json"


def test_a_form_is_not_taken_for_broken_json(service: Service) -> None:
    answer = service.process.request(
        "POST",
        CONFIG,
        data=b"key=a&value=1",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert body_of(answer, 415)["code"] == "unsupported_media_type"
