"""Two environments are compared with what was promoted last, and rows are promoted."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.client import Service, body_of, fresh_name, fresh_secret
from tests.e2e.flags import FLAGS, SEGMENTS
from tests.servers.answer import Answer
from tests.trials import trials

PROMOTIONS = "/api/v1/promotions"
COMPARE = f"{PROMOTIONS}/compare"
PINS = f"{PROMOTIONS}/pins"
SETTLED = {"same", "kept", "pinned", "secret"}


@dataclass
class Route:
    """A service in two environments of its own."""

    of: Service
    source: str
    target: str
    service: str = "billing"

    @property
    def members(self) -> dict[str, Any]:
        return {"from": self.source, "to": self.target, "services": [self.service], "flags": True}

    def write(self, environment: str, **patch: Any) -> None:
        where: Any = {"environment": environment, "service_name": self.service}
        body_of(self.of.call("PATCH", "/api/v1/config", patch, **where))

    def values(self, environment: str) -> Any:
        where: Any = {"environment": environment, "service_name": self.service, "resolve": "false"}
        items = body_of(self.of.get("/api/v1/config", **where))["items"]
        return {item["key"]: item["value"] for item in items}

    def compare(self, **members: Any) -> Any:
        return body_of(self.of.call("POST", COMPARE, {**self.members, **members}))

    def states(self, **members: Any) -> dict[str, str]:
        return {row["key"]: row["state"] for row in self.compare(**members)["rows"]}

    def promote(self, rows: Any, **members: Any) -> Answer:
        return self.of.call("POST", PROMOTIONS, {**self.members, "rows": rows, **members})

    def promote_all(self) -> Any:
        compared = self.compare()
        rows = [
            {name: row[name] for name in ("kind", "service_name", "key")}
            for row in compared["rows"]
            if row["state"] in {"new", "changed", "removed", "both"}
        ]
        if not rows:
            return None
        return body_of(self.promote(rows, compared=compared["compared"]))

    def flag(self, environment: str, name: str, **members: Any) -> None:
        body = {"name": name, "environment": environment, **members}
        body_of(self.of.call("POST", FLAGS, body), 201)


@pytest.fixture
def route(service: Service) -> Route:
    name = fresh_name("promoted")
    return Route(service, f"{name}-staging", f"{name}-production")


def key(name: str, **members: Any) -> dict[str, Any]:
    return {"kind": "config", "service_name": "billing", "key": name, **members}


def test_without_a_promotion_differences_are_conflicts(route: Route) -> None:
    route.write(route.source, set={"a": 1, "b": 1, "c.d": [1, 2]})
    route.write(route.target, set={"b": 2, "c.d": [1, 2], "e": True})

    compared = route.compare()

    assert [(row["key"], row["state"]) for row in compared["rows"]] == [
        ("a", "new"),
        ("b", "both"),
        ("c.d", "same"),
        ("e", "kept"),
    ]
    assert compared["counts"] == {"new": 1, "both": 1, "same": 1, "kept": 1}
    row = compared["rows"][1]
    assert row == {
        "kind": "config",
        "service_name": "billing",
        "key": "b",
        "state": "both",
        "selected": False,
        "value_asked": False,
        "overlaid": False,
        "base": None,
        "source": {"value": 1},
        "target": {"value": 2},
        "promoted": None,
    }


def test_what_was_promoted_decides_who_has_changed_it(route: Route) -> None:
    keys = ("same", "changed", "kept", "both", "removed", "dropped")
    route.write(route.source, set=dict.fromkeys(keys, 1))
    assert route.promote_all()["parts"][0]["status"] == "written"
    route.write(route.source, set={"changed": 2, "both": 2, "new": 2}, unset=["removed"])
    route.write(route.target, set={"kept": 3, "both": 3}, unset=["dropped"])

    compared = route.compare()

    states = {row["key"]: row["state"] for row in compared["rows"]}
    assert states == {
        "same": "same",
        "changed": "changed",
        "kept": "kept",
        "both": "both",
        "removed": "removed",
        "dropped": "kept",
        "new": "new",
    }
    changed = next(row for row in compared["rows"] if row["key"] == "changed")
    assert changed["base"] == {"value": 1}
    assert changed["promoted"]["version"] == 1
    assert [row["key"] for row in compared["rows"] if row["selected"]] == [
        "changed",
        "new",
        "removed",
    ]
    assert body_of(route.promote([key("changed"), key("removed")]))["parts"][0]["version"] == 3
    assert route.values(route.target) == {"both": 3, "changed": 2, "kept": 3, "same": 1}


def test_secrets_never_travel_and_are_asked_for(route: Route) -> None:
    canaries = [fresh_secret() for _ in range(3)]
    source, target, given_value = canaries
    secret = {"$secret": {"value": source}}
    route.write(route.source, set={"password": secret, "users": [{"password": secret}]})
    route.write(route.target, set={"token": {"$secret": {"value": target}}, "plain": 1})
    route.write(route.source, set={"token": "plain there"})

    compared = route.of.call("POST", COMPARE, route.members)
    rows = {row["key"]: row for row in body_of(compared)["rows"]}
    refused = route.promote([key("password")])

    assert {name: row["state"] for name, row in rows.items()} == {
        "password": "secret",
        "users": "secret",
        "token": "secret",
        "plain": "kept",
    }
    assert rows["password"]["value_asked"] is True
    assert rows["password"]["source"] == {"value": {"$secret": "masked"}}
    assert body_of(refused, 422)["errors"][0]["pointer"] == "#/rows/0"
    promoted = route.promote([key("password", value=given_value)])
    assert body_of(promoted)["parts"][0]["status"] == "written"
    where: Any = {"environment": route.target, "service_name": "billing"}
    stored = route.of.get("/api/v1/config/password", **where)
    revealed = route.of.get("/api/v1/config/password", **where, reveal="true")
    assert body_of(stored)["value"] == {"$secret": "masked"}
    assert body_of(revealed)["value"] == given_value
    after = route.of.call("POST", COMPARE, route.members)
    for answer in (compared, refused, promoted, stored, after):
        assert not any(canary.encode() in answer.body for canary in canaries)


def test_pinned_keys_are_not_promoted(route: Route) -> None:
    route.write(route.source, set={"db.host": "a", "db.pool": 1, "other": 1})
    pin = {"environment": route.target, "service_name": "billing", "key": "db", "comment": "own"}
    body_of(route.of.call("POST", PINS, pin))
    body_of(route.of.call("POST", PINS, pin))
    listed = body_of(route.of.get(PINS, limit="1000"))["items"]

    assert route.states() == {"db.host": "pinned", "db.pool": "pinned", "other": "new"}
    refused = route.promote([key("db.host"), key("other")])
    assert body_of(refused, 422)["code"] == "bad_rows"
    assert route.values(route.target) == {}
    (mine,) = [one for one in listed if one["environment"] == route.target]
    assert (mine["key"], mine["comment"], mine["kind"]) == ("db", "own", "config")
    query: Any = {"environment": route.target, "service_name": "billing", "key": "db"}
    assert body_of(route.of.call("DELETE", PINS, None, **query))["comment"] == "own"
    assert body_of(route.of.call("DELETE", PINS, None, **query), 404)["code"] == "pin_not_found"
    assert set(route.states().values()) == {"new"}


def test_a_schema_pins_keys_of_an_environment(route: Route) -> None:
    name = fresh_name("schema")
    host = {"type": "object", "properties": {"host": {"x-environment": True}}}
    schema = {
        "mode": "warn",
        "applies_to": [{"environments": [route.target], "services": ["billing"]}],
        "schema": {"properties": {"db": host}},
    }
    assert route.of.call("PUT", f"/api/v1/schemas/{name}", schema).status == 201
    route.write(route.source, set={"db.host": "a", "db.pool": 1})

    assert route.states() == {"db.host": "pinned", "db.pool": "new"}


def test_an_overlay_wins_over_the_source(route: Route) -> None:
    route.write(route.source, set={"db.host": "staging.example", "db.pool": 1})
    route.write(route.target, set={"db.host": "old.example", "db.pool": 1})
    overlay = {"billing": {"db.host": "production.example", "db.zone": "eu"}}

    rows = {row["key"]: row for row in route.compare(overlay=overlay)["rows"]}

    assert (rows["db.host"]["state"], rows["db.host"]["overlaid"]) == ("changed", True)
    assert rows["db.host"]["source"] == {"value": "production.example"}
    assert rows["db.zone"]["state"] == "new"
    chosen = [key(name, value=value) for name, value in overlay["billing"].items()]
    body_of(route.promote(chosen))
    assert route.states(overlay=overlay) == dict.fromkeys(("db.host", "db.pool", "db.zone"), "same")
    assert route.states() == {"db.host": "kept", "db.pool": "same", "db.zone": "kept"}


def test_flags_and_segments_go_in_one_commit(route: Route) -> None:
    when = {"attribute": "plan", "op": "in", "values": ["pro"]}
    segment = {"name": "staff", "environment": route.source, "when": when}
    body_of(route.of.call("POST", SEGMENTS, segment), 201)
    rule = {"when": {"segment": "staff"}, "serve": {"variant": "on"}}
    route.flag(route.source, "using", rules=[rule])
    route.flag(route.source, "ramp", rollout_percentage=30)
    route.flag(route.target, "ramp", rollout_percentage=20)
    route.flag(route.target, "own", enabled=True)

    states = route.states()
    without = route.promote([{"kind": "flag", "key": "using"}])
    promoted = route.promote_all()
    revisions = {
        change["revision"]
        for change in body_of(route.of.get("/api/v1/changes", environment=route.target))["items"]
        if change["name"] in {"staff", "using"}
    }

    assert states == {"staff": "new", "using": "new", "ramp": "both", "own": "kept"}
    assert body_of(without, 422)["code"] == "bad_flag"
    assert [part["service_name"] for part in promoted["parts"]] == [""]
    assert len(revisions) == 2
    assert route.states() == {"staff": "same", "using": "same", "ramp": "same", "own": "kept"}
    archive = f"{FLAGS}/using/archive"
    body_of(route.of.call("POST", archive, None, environment=route.source))
    assert route.states()["using"] == "removed"
    route.promote_all()
    there = body_of(route.of.get(f"{FLAGS}/using", environment=route.target))
    assert there["archived"] is True
    assert "using" not in route.states()


def test_a_moved_comparison_is_refused(route: Route) -> None:
    route.write(route.source, set={"a": 1})
    compared = route.compare()["compared"]
    route.write(route.target, set={"b": 1})

    refused = route.promote([key("a")], compared=compared)

    assert body_of(refused, 412)["code"] == "comparison_moved"
    assert route.values(route.target) == {"b": 1}


def test_a_dry_run_writes_nothing_and_a_repeat_changes_nothing(route: Route) -> None:
    route.write(route.source, set={"a": 1})

    dry = route.of.call("POST", PROMOTIONS, {**route.members, "rows": [key("a")]}, dry_run="true")
    assert body_of(dry)["parts"][0]["status"] == "written"
    assert route.values(route.target) == {}
    first, again = body_of(route.promote([key("a")])), body_of(route.promote([key("a")]))
    assert (first["parts"][0]["version"], again["parts"]) == (1, [])


def test_a_leaf_takes_the_place_of_a_section(route: Route) -> None:
    route.write(route.source, set={"a": 1, "b.c": 1})
    route.write(route.target, set={"a.x": 1, "b": 1})

    assert route.states() == {"a": "both", "a.x": "kept", "b": "kept", "b.c": "both"}
    route.promote_all()
    assert route.values(route.target) == {"a": 1, "b.c": 1}
    assert set(route.states().values()) == {"same"}


NAMES = ("a", "a.b", "a.b.c", "d", "e[f/g]", "h")
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, 1, True, "x", [1], [], {}, ["a", {"b": 1}]]
)
LAYERS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4).filter(
    lambda layer: (
        not any(one != other and other.startswith(f"{one}.") for one in layer for other in layer)
    )
)
RAMPS = st.dictionaries(st.sampled_from(["f", "g"]), st.integers(0, 3), max_size=2)


@settings(max_examples=trials(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(LAYERS, LAYERS, RAMPS, RAMPS), min_size=1, max_size=2))
def test_after_all_is_promoted_nothing_is_left(service: Service, rounds: Any) -> None:
    name = fresh_name("all")
    route = Route(service, f"{name}-a", f"{name}-b")
    for layers in rounds:
        for environment, layer, ramps in (
            (route.source, layers[0], layers[2]),
            (route.target, layers[1], layers[3]),
        ):
            present = list(route.values(environment))
            route.write(environment, unset=present)
            route.write(environment, set=layer)
            for flag, share in ramps.items():
                body = {"rollout_percentage": share * 10}
                path = f"{FLAGS}/{flag}"
                edited = route.of.call("PATCH", path, body, environment=environment)
                if edited.status == 404:
                    route.flag(environment, flag, **body)
        route.promote_all()

        assert set(route.states().values()) <= SETTLED


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"to": "staging"}, "same_environment"),
        ({"to": "no name/"}, "bad_name"),
        ({"from": ""}, "bad_name"),
        ({"services": ["_x/"]}, "bad_name"),
        ({"services": ["a"] * 101}, "invalid"),
        ({"services": "billing"}, "invalid"),
        ({"overlay": {"billing": 1}}, "invalid"),
        ({"more": 1}, "invalid"),
    ],
    ids=lambda value: json.dumps(value)[:30],
)
def test_other_comparisons_are_refused(service: Service, members: Any, code: str) -> None:
    body = {"from": "staging", "to": "production", "services": ["billing"], **members}

    assert body_of(service.call("POST", COMPARE, body), 422)["code"] == code


@pytest.mark.parametrize(
    "rows",
    [
        [key("a"), key("a")],
        [key("nowhere")],
        [key("e")],
        [{"kind": "flag", "key": "none"}],
        [{"kind": "flag", "key": "f", "value": {}}],
        [{"kind": "config", "service_name": "other", "key": "a", "value": 1}],
    ],
    ids=lambda rows: json.dumps(rows)[:40],
)
def test_rows_that_cannot_be_promoted_are_refused(route: Route, rows: Any) -> None:
    route.write(route.source, set={"a": 1})
    route.write(route.target, set={"e": 1})
    route.flag(route.source, "f", enabled=True)

    assert body_of(route.promote(rows), 422)["code"] == "bad_rows"
    assert route.values(route.target) == {"e": 1}


@pytest.mark.parametrize(
    "pin",
    [
        {"environment": "p", "service_name": "billing", "key": "\u0000"},
        {"environment": "p", "service_name": "billing", "key": "x" * 501},
        {"environment": "no name/", "service_name": "billing", "key": "a"},
        {"environment": "p", "service_name": "", "key": "a"},
        {"environment": "p", "kind": "flag", "service_name": "billing", "key": "a"},
        {"environment": "p", "kind": "flag", "key": "no name/"},
        {"environment": "p", "kind": "schema", "key": "a"},
    ],
    ids=lambda pin: json.dumps(pin)[:40],
)
def test_other_pins_are_refused(service: Service, pin: Any) -> None:
    assert service.call("POST", PINS, pin).status in {400, 422}
