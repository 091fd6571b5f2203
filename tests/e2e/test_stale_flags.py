"""The list of stale flags: which, why, of whom, page by page, and to whom it is shown."""

from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.flags import FLAGS, Flags

STALE = "/api/v1/stale-flags"
SPLIT = {"rollout_percentage": 30}


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


def stale(flags: Flags, **query: Any) -> list[dict[str, Any]]:
    query = {"environment": flags.environment, "days": "0", **query}
    items: list[dict[str, Any]] = body_of(flags.of.get(STALE, **query))["items"]
    return items


def reasons(flag: dict[str, Any]) -> dict[str, Any]:
    return {one["reason"]: one for one in flag["reasons"]}


def test_each_reason_has_its_time(flags: Flags) -> None:
    body_of(flags.create("all", enabled=True, owner="web", tags=["t"]), 201)
    body_of(flags.create("split", **SPLIT, tags=["expires=2026-02-03"]), 201)

    everybody, split = stale(flags)

    created = body_of(flags.get("all"))["created_at"]
    assert everybody == {
        "name": "all",
        "environment": flags.environment,
        "owner": "web",
        "tags": ["t"],
        "enabled": True,
        "version": 1,
        "created_at": created,
        "updated_at": created,
        "age_days": 0,
        "last_evaluated_at": None,
        "expires_at": None,
        "reasons": [
            {"reason": "one_value", "since": created, "days": 0, "variant": "on"},
            {"reason": "not_evaluated", "since": created, "days": 0, "variant": None},
        ],
    }
    assert reasons(split).keys() == {"not_evaluated", "expired"}
    assert split["expires_at"] == reasons(split)["expired"]["since"] == "2026-02-03T00:00:00Z"


def test_an_evaluated_flag_counts_from_its_last_evaluation(flags: Flags) -> None:
    body_of(flags.create("split", **SPLIT), 201)
    flags.evaluate("split", "ann")

    (flag,) = stale(flags)

    assert flag["last_evaluated_at"] == reasons(flag)["not_evaluated"]["since"]
    assert flag["last_evaluated_at"] >= flag["created_at"]


def test_a_flag_is_stale_only_after_the_days(flags: Flags) -> None:
    body_of(flags.create("all", enabled=True), 201)
    body_of(flags.create("over", tags=["expires=2026-02-03"]), 201)
    body_of(flags.create("later", tags=["expires=2999-02-03"]), 201)

    assert [(flag["name"], [*reasons(flag)]) for flag in stale(flags, days="1")] == [
        ("over", ["expired"])
    ]


def test_filters_of_the_list(flags: Flags) -> None:
    body_of(flags.create("a", enabled=True, owner="web"), 201)
    body_of(flags.create("b", **SPLIT, owner="web"), 201)
    body_of(flags.create("c", enabled=True), 201)
    body_of(flags.create("old", enabled=True, owner="web"), 201)
    body_of(flags.of.call("POST", f"{FLAGS}/old/archive", None, environment=flags.environment))

    def names(**query: Any) -> list[str]:
        return [flag["name"] for flag in stale(flags, **query)]

    assert names() == ["a", "b", "c"]
    assert names(owner="web") == ["a", "b"]
    assert names(owner="") == ["c"]
    assert names(owner="WEB") == []
    assert names(reason="one_value") == ["a", "c"]
    assert names(reason="expired") == []
    assert names(environment=f"{flags.environment}-none") == []


def test_the_pages_go_over_all_environments(flags: Flags) -> None:
    other = Flags(flags.of)
    owner = fresh_name("owner")
    for of in (flags, other):
        for name in ("a", "b", "c"):
            body_of(of.create(name, enabled=True, owner=owner), 201)
    query: Any = {"owner": owner, "days": "0", "limit": "2"}

    pages: list[Any] = []
    while len(pages) < 4:
        page = body_of(flags.of.get(STALE, **query))
        pages.append([(flag["environment"], flag["name"]) for flag in page["items"]])
        if page["next"] is None:
            break
        query["cursor"] = page["next"]

    everything = [
        (environment, name)
        for environment in sorted((flags.environment, other.environment))
        for name in "abc"
    ]
    assert pages == [everything[:2], everything[2:4], everything[4:]]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"days": "-1"}, 422, "invalid"),
        ({"days": "x"}, 422, "invalid"),
        ({"reason": "old"}, 422, "invalid"),
        ({"environment": "no name/"}, 422, "bad_environment"),
        ({"environment": ""}, 422, "bad_environment"),
        ({"cursor": "x"}, 400, "bad_cursor"),
        ({"age": "3"}, 422, "invalid"),
    ],
    ids=str,
)
def test_other_queries_are_refused(service: Service, query: Any, status: int, code: str) -> None:
    refused = service.get(STALE, **query)

    assert (refused.status, body_of(refused, refused.status)["code"]) == (status, code)
