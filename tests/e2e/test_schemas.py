"""Schemas over HTTP: what they refuse, warn of, seal and count."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of, fresh_name, fresh_secret
from tests.e2e.events import listening
from tests.e2e.stored import Stored
from tests.servers.answer import Answer
from tests.servers.process import wait_until

SCHEMAS = "/api/v1/schemas"
POOL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "db": {
            "type": "object",
            "properties": {
                "password": {"type": "string", "minLength": 12, "secret": True},
                "pool": {
                    "type": "object",
                    "properties": {
                        "min": {"type": "integer", "minimum": 1, "default": 1},
                        "max": {"type": "integer", "maximum": 100, "default": 10},
                    },
                    "additionalProperties": False,
                },
            },
        }
    },
    "x-rules": [
        {
            "id": "pool-order",
            "rule": "!has(config.db) || config.db.pool.min <= config.db.pool.max",
            "message": "min above max",
        }
    ],
}


class Schemas:
    """Schemas that apply to one service only, each removed at the end."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._names: list[str] = []

    def put(self, name: str, schema: Any = POOL, **members: Any) -> Answer:
        self._names.append(name)
        return self.service.call("PUT", f"{SCHEMAS}/{name}", {"schema": schema, **members})

    def remove_all(self) -> None:
        for name in self._names:
            self.service.call("DELETE", f"{SCHEMAS}/{name}")


@pytest.fixture
def schemas(service: Service) -> Iterator[Schemas]:
    found = Schemas(service)
    yield found
    found.remove_all()


def problem(answer: Answer, code: str = "schema_violated") -> Any:
    found = body_of(answer, 422)
    assert found["code"] == code, found
    return found


def test_a_write_that_breaks_a_schema_is_refused_with_place_and_rule(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(schemas.put(layer.service), 201)

    refused = problem(layer.patch(set={"db.pool.max": 101}))
    [error] = refused["errors"]

    assert (refused["affected"], refused["violating"]) == (1, 1)
    assert error.pop("detail").endswith(f"breaks `maximum` by the schema '{layer.service}': 100")
    assert error == {
        "pointer": "#/set/db.pool.max",
        "code": "schema_violated",
        "environment": layer.environment,
        "service_name": layer.service,
        "key": "db.pool.max",
        "keyword": "maximum",
        "expected": 100,
        "schema": layer.service,
        "schema_version": 1,
        "schema_pointer": "/properties/db/properties/pool/properties/max/maximum",
    }
    body_of(layer.get("db.pool.max"), 404)
    body_of(layer.patch(set={"db.pool.max": 100}))


def test_a_rule_between_fields_sees_defaults_and_other_layers(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(schemas.put(layer.service), 201)
    shared = layer.at(service="_shared")
    body_of(layer.patch(set={"db.pool.max": 5}))

    [error] = problem(shared.patch(set={"db.pool.min": 6}))["errors"]
    assert (error["rule"], error["service_name"]) == ("pool-order", layer.service)
    assert (error["expected"], error["schema_pointer"]) == ("min above max", "/x-rules/0")

    body_of(shared.patch(set={"db.pool.min": 4}))
    problem(layer.patch(set={"db.pool.max": 3}))


def test_a_schema_that_names_no_environment_judges_every_one_and_the_inherited_one(
    layer: Layer, schemas: Schemas
) -> None:
    base = layer.at(environment="default")
    body_of(layer.patch(set={"own": 1}))
    body_of(schemas.put(layer.service), 201)

    errors = problem(base.patch(set={"db.pool.max": 101}))["errors"]
    assert "default" in {each["environment"] for each in errors}  # and all others that exist

    applies_to = [{"environments": ["*"], "services": [layer.service]}]
    body_of(schemas.put(layer.service, applies_to=applies_to))
    refused = problem(base.patch(set={"db.pool.max": 101}))["errors"]
    assert "default" not in {each["environment"] for each in refused}


# What people paste first.
PASTED: dict[str, Any] = {
    "a server": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Server",
        "type": "object",
        "properties": {
            "server": {
                "type": "object",
                "properties": {
                    "port": {"type": "integer", "minimum": 1024, "maximum": 65535},
                    "log_level": {"type": "string", "enum": ["debug", "info", "warn"]},
                },
                "required": ["port"],
                "additionalProperties": False,
            }
        },
    },
    "providers": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "providers": {
                "type": "object",
                "patternProperties": {
                    "^[a-z0-9_-]+$": {
                        "type": "object",
                        "properties": {
                            "api_key": {"type": "string", "minLength": 8, "secret": True},
                            "model": {"type": "string"},
                        },
                        "required": ["api_key"],
                    }
                },
                "additionalProperties": False,
            }
        },
    },
}


def test_schemas_as_people_have_them_are_pasted_unchanged(layer: Layer, schemas: Schemas) -> None:
    base, secret = layer.at(environment="default"), fresh_secret()
    body_of(schemas.put(layer.service, PASTED["a server"]), 201)
    refused = problem(base.patch(set={"server": {"port": 80, "log_level": "loud"}}))["errors"]
    assert {each["keyword"]: each["expected"] for each in refused} == {
        "minimum": 1024,
        "enum": ["debug", "info", "warn"],
    }
    body_of(base.patch(set={"server": {"port": 8080, "log_level": "info"}}))

    body_of(schemas.put(layer.service, PASTED["providers"]))
    refused = problem(base.patch(set={"providers.openai.model": "x"}))["errors"]
    assert {(each["key"], each["keyword"]) for each in refused} == {
        ("providers.openai.api_key", "required")
    }
    body_of(base.patch(set={"providers.openai": {"api_key": secret, "model": "x"}}))
    assert body_of(base.get("providers.openai.api_key"))["value"] == {"$secret": "masked"}
    assert secret.encode() not in layer.of.backend.stored_bytes()


def test_what_is_not_expected_in_a_list_is_not_shown(layer: Layer, schemas: Schemas) -> None:
    secret = fresh_secret()
    keys = {"prefixItems": [{}], "unevaluatedItems": False}
    body_of(schemas.put(layer.service, {"properties": {"keys": keys}}), 201)
    body: dict[str, Any] = {"set": {"keys": [1, secret, {"pin": secret}]}}
    change = {**layer.names, **body}

    answers = [
        layer.patch(**body),
        layer.of.call("PATCH", "/api/v1/config", body, dry_run=True, **layer.names),
        layer.of.call("POST", "/api/v1/validate", {"changes": [change]}),
    ]

    assert [answer.status for answer in answers] == [422, 422, 200]
    assert not [answer.body for answer in answers if secret.encode() in answer.body]


WRITES: dict[str, Callable[[Layer, Any], Answer]] = {
    "create": lambda layer, value: layer.create("db.pool.max", value),
    "put": lambda layer, value: layer.put("db.pool.max", value),
    "patch": lambda layer, value: layer.patch(set={"db": {"pool": {"max": value}}}),
    "document": lambda layer, value: layer.put_document({"db": {"pool": {"max": value}}}),
    "import": lambda layer, value: layer.load(f"db:\n  pool:\n    max: {value}\n"),
}


@pytest.mark.parametrize("way", WRITES)
def test_every_way_of_writing_is_judged(layer: Layer, schemas: Schemas, way: str) -> None:
    body_of(schemas.put(layer.service), 201)
    if way != "create":
        body_of(layer.patch(set={"db.pool.max": 7}))

    refused = WRITES[way](layer, 1000)

    assert (refused.status, refused.json()["code"]) == (422, "schema_violated"), refused.body
    if way != "create":
        assert body_of(layer.get("db.pool.max"))["value"] == 7
    assert WRITES[way](layer, 8).status in {200, 201}


def test_removing_what_is_required_is_refused(layer: Layer, schemas: Schemas) -> None:
    body_of(layer.patch(set={"db.host": "db1", "a": 1}))
    body_of(schemas.put(layer.service, {"required": ["db"]}), 201)

    [error] = problem(layer.delete("db.host"))["errors"]
    assert (error["key"], error["keyword"], error["expected"]) == ("db", "required", "db")
    problem(layer.put_document({"a": 1}))

    assert layer.delete_document().status == 204  # then there is no configuration to judge


def test_a_schema_that_only_warns_lets_through_and_says_so(layer: Layer, schemas: Schemas) -> None:
    body_of(schemas.put(layer.service, mode="warn"), 201)

    [warning] = body_of(layer.patch(set={"db.pool.max": 101}))["warnings"]

    assert (warning["kind"], warning["key"], warning["schema"]) == (
        "schema",
        "db.pool.max",
        layer.service,
    )
    assert warning["keyword"] == "maximum"


def test_what_was_wrong_before_is_warned_of_and_does_not_block(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(schemas.put(layer.service, mode="warn"), 201)
    body_of(layer.patch(set={"db.pool.max": 101}))
    not_met = problem(schemas.put(layer.service, mode="enforce"), "schema_not_met")
    assert (not_met["violating"], not_met["errors"][0]["key"]) == (1, "db.pool.max")

    body_of(schemas.put(layer.service, {"properties": {}}, mode="warn"))
    body_of(layer.patch(set={"db.pool.max": 7}))
    body_of(schemas.put(layer.service, mode="enforce"))
    back = layer.rollback_document(1)
    assert [each["kind"] for each in body_of(back)["warnings"]] == ["schema"]  # never refused

    written = body_of(layer.patch(set={"other": 1}))
    assert [each["key"] for each in written["warnings"]] == ["db.pool.max"]


def test_a_rollback_is_not_refused_because_it_costs_too_much_to_judge(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(layer.create_document({"l": [{"a": number} for number in range(5000)]}), 201)
    body_of(layer.put_document({"l": [{"k0": 1}]}))
    branches = [{"required": [f"k{number}"]} for number in range(50)]
    schema = {"properties": {"l": {"items": {"anyOf": branches}}}}
    body_of(schemas.put(layer.service, schema), 201)
    assert problem(layer.patch(set={"l": [{"a": 1}] * 5000}), "schema_too_costly")

    body_of(layer.rollback_document(1))


def test_plain_values_at_secret_places_are_sealed_in_every_layer(
    layer: Layer, schemas: Schemas
) -> None:
    secret, other = fresh_secret(), fresh_secret()
    items = {"type": "array", "items": {"properties": {"key": {"writeOnly": True}}}}
    schema = {"properties": {**POOL["properties"], "users": items}}
    body_of(schemas.put(layer.service, schema), 201)

    body_of(layer.patch(set={"db.password": secret, "users": [{"key": other, "name": "ana"}]}))
    body_of(layer.at(environment="default").patch(set={"db.password": secret}))

    shown = body_of(layer.effective())["data"]
    assert shown["db"]["password"] == {"$secret": "masked"}
    assert shown["users"] == [{"key": {"$secret": "masked"}, "name": "ana"}]
    stored = layer.of.backend.stored_bytes()
    assert secret.encode() not in stored
    assert other.encode() not in stored
    revealed = body_of(layer.get("users", reveal=True))["value"]
    assert revealed == [{"key": other, "name": "ana"}]


def test_new_secrets_are_judged_in_the_clear_and_never_shown(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(schemas.put(layer.service), 201)

    refused = layer.patch(set={"db.password": "too-short"})
    [error] = problem(refused)["errors"]
    assert (error["keyword"], error["expected"]) == ("minLength", 12)
    assert b"too-short" not in refused.body

    body_of(layer.patch(set={"db.password": "long enough now"}))
    body_of(layer.patch(set={"db.pool.max": 4}))  # a stored secret is not judged again


def test_plain_secrets_can_be_refused_instead(layer: Layer, schemas: Schemas) -> None:
    body_of(schemas.put(layer.service, plain_secret="refuse"), 201)

    refused = problem(layer.patch(set={"db.password": "long enough now"}), "secret_in_plain")

    assert refused["errors"][0]["pointer"] == "#/set/db.password"
    body_of(layer.patch(set={"db.password": {"$secret": {"value": "long enough now"}}}))


def test_a_schema_that_refuses_plain_secrets_does_so_beside_one_that_seals_them(
    layer: Layer, schemas: Schemas
) -> None:
    applies_to = [{"environments": [layer.environment], "services": [layer.service]}]
    body_of(schemas.put(fresh_name("a"), applies_to=applies_to), 201)
    body_of(schemas.put(fresh_name("z"), applies_to=applies_to, plain_secret="refuse"), 201)

    problem(layer.patch(set={"db.password": "long enough now"}), "secret_in_plain")


def test_plain_values_that_exist_are_listed_when_the_schema_is_made(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(layer.patch(set={"db.password": "it was plain all the time"}))

    judged = body_of(schemas.put(layer.service), 201)["judged"]

    assert judged["pairs"] == 1
    assert judged["plain_secrets"] == [{**layer.names, "key": "db.password"}]
    body_of(layer.patch(set={"a": 1}))  # the next write seals it
    assert body_of(layer.get("db.password"))["is_encrypted"]


def test_a_schema_is_mounted_at_the_namespace_of_a_plugin(layer: Layer, schemas: Schemas) -> None:
    applies_to = [{"services": [layer.service], "at": "plugins.audio"}]
    schema = {"required": ["volume"], "properties": {"volume": {"maximum": 10}}}
    body_of(schemas.put(fresh_name("audio"), schema, applies_to=applies_to), 201)

    body_of(layer.patch(set={"volume": 100}))  # an absent namespace is not judged
    [error] = problem(layer.patch(set={"plugins.audio.volume": 11}))["errors"]
    assert (error["key"], error["keyword"]) == ("plugins.audio.volume", "maximum")
    [missing] = problem(layer.patch(set={"plugins.audio.other": 1}))["errors"]
    assert missing["key"] == "plugins.audio.volume"


def test_all_schemas_that_apply_have_to_be_met(layer: Layer, schemas: Schemas) -> None:
    applies_to = [{"environments": [layer.environment], "services": ["*"]}]
    body_of(schemas.put(layer.service), 201)
    body_of(
        schemas.put(fresh_name(), {"properties": {"a": {"type": "string"}}}, applies_to=applies_to),
        201,
    )

    refused = problem(layer.patch(set={"a": 1, "db.pool.max": 101}))

    assert {each["key"] for each in refused["errors"]} == {"a", "db.pool.max"}


def test_one_shared_write_is_judged_in_every_environment_and_service(
    layer: Layer, schemas: Schemas
) -> None:
    group = fresh_name("g")
    names = [f"{group}-{number}" for number in range(20)]
    for name in names:
        body_of(layer.at(service=name).patch(set={"own": 1}))
    body_of(layer.at(service=names[7]).patch(set={"db.pool.max": 3}))
    applies_to = [{"environments": [layer.environment], "services": [f"{group}-*"]}]
    body_of(schemas.put(group, applies_to=applies_to), 201)

    refused = problem(layer.at(service="_shared").patch(set={"db.pool.min": 5}))

    assert (refused["affected"], refused["violating"]) == (20, 1)
    assert [each["service_name"] for each in refused["errors"]] == [names[7]]


def test_defaults_are_a_layer_below_all_others_on_request(layer: Layer, schemas: Schemas) -> None:
    body_of(layer.patch(set={"db.pool.max": 5}))
    body_of(schemas.put(layer.service), 201)

    plain, whole = layer.effective(), layer.effective(defaults=True)
    shown = body_of(whole)
    own = {"environment": layer.environment, "service_name": layer.service, "user": None}
    by_schema = {"schema": layer.service, "version": 1}

    assert body_of(plain)["data"]["db"] == {"pool": {"max": 5}}
    assert shown["data"]["db"] == {"pool": {"min": 1, "max": 5}}
    assert shown["sources"]["db.pool.min"] == by_schema
    assert shown["sources"]["db.pool.max"] == own
    assert (shown["layers"][0], shown["layers"][-1]) == (by_schema, {**own, "version": 1})
    read = body_of(layer.get("db.pool.min", defaults=True))
    assert (read["value"], read["source"]) == (1, by_schema)
    body_of(layer.get("db.pool.min"), 404)
    refused = layer.get("db.pool.min", defaults=True, resolve=False)
    assert body_of(refused, 422)["code"] == "contradictory_options"


def test_the_tag_of_defaults_changes_with_the_schema_and_no_other_tag_does(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(layer.patch(set={"a": 1}))
    body_of(schemas.put(layer.service, {"properties": {"b": {"default": 1}}}), 201)
    plain, whole = (
        layer.effective(defaults=defaults).headers["etag"] for defaults in (False, True)
    )

    body_of(schemas.put(layer.service, {"properties": {"b": {"default": 2}}}))
    body_of(schemas.put(fresh_name(), {"properties": {"b": {"default": 3}}}), 201)

    assert layer.effective(headers={"If-None-Match": plain}).status == 304
    changed = layer.effective(headers={"If-None-Match": whole}, defaults=True)
    assert (body_of(changed)["data"]["a"], body_of(changed)["data"]["b"]) == (1, 2)
    again = changed.headers["etag"]
    assert layer.effective(headers={"If-None-Match": again}, defaults=True).status == 304


def test_a_dry_run_says_what_would_change_and_writes_nothing(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(schemas.put(layer.service), 201)
    body_of(layer.patch(set={"db.pool.max": 7, "db.password": "long enough now"}))
    shared = layer.at(service="_shared")
    before = body_of(layer.of.get("/api/v1/changes", limit=1000))["items"]

    would = body_of(
        layer.of.call("PATCH", "/api/v1/config", {"set": {"x": 1}}, dry_run=True, **shared.names)
    )
    assert would["diff"] == {"added": {"x": 1}, "removed": {}, "changed": {}}
    own = next(each for each in would["effective"] if each["service_name"] == layer.service)
    assert own["added"] == {"x": 1}
    body: dict[str, Any] = {"set": {"db.password": "another long one"}, "unset": ["db.pool.max"]}
    would = body_of(layer.of.call("PATCH", "/api/v1/config", body, dry_run=True, **layer.names))
    mask = {"$secret": "masked"}
    assert would["diff"]["changed"] == {"db.password": {"old": mask, "new": mask}}
    assert would["diff"]["removed"] == {"db.pool.max": 7}
    body = {"set": {"db.pool.max": 101}}
    problem(layer.of.call("PATCH", "/api/v1/config", body, dry_run=True, **layer.names))

    assert body_of(layer.of.get("/api/v1/changes", limit=1000))["items"][: len(before)] == before
    assert body_of(layer.get("db.pool.max"))["value"] == 7


def test_changes_are_validated_together(layer: Layer, schemas: Schemas) -> None:
    body_of(schemas.put(layer.service), 201)
    shared = layer.at(service="_shared")
    changes = [
        {"environment": layer.environment, "service_name": "_shared", "set": {"db.pool.min": 20}},
        {**layer.names, "set": {"db.pool.max": 30}},
    ]

    assert body_of(layer.of.call("POST", "/api/v1/validate", {"changes": changes}))["valid"]
    alone = body_of(layer.of.call("POST", "/api/v1/validate", {"changes": changes[:1]}))
    bad = body_of(
        layer.of.call(
            "POST",
            "/api/v1/validate",
            {"changes": [changes[0], {**changes[1], "set": {"db.pool.max": 200}}]},
        )
    )

    assert alone["valid"] or alone["errors"]
    assert not bad["valid"]
    assert bad["errors"][0]["pointer"] == "#/changes/1/set/db.pool.max"
    body_of(shared.get("db.pool.min"), 404)


def test_violations_list_what_could_not_be_refused(layer: Layer, schemas: Schemas) -> None:
    body_of(schemas.put(layer.service, mode="warn"), 201)
    body_of(layer.patch(set={"db.pool.max": 101}))

    def list_violations() -> list[dict[str, Any]]:
        found = body_of(layer.of.get("/api/v1/violations", **layer.names))
        items: list[dict[str, Any]] = found["items"]
        return items

    wait_until(lambda: len(list_violations()) == 1, "the violation is listed")
    assert list_violations()[0]["key"] == "db.pool.max"
    body_of(layer.patch(set={"db.pool.max": 9}))
    wait_until(lambda: list_violations() == [], "it is gone")


def test_who_listens_hears_that_a_configuration_breaks_a_schema(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(schemas.put(layer.service, mode="warn"), 201)
    selection = f"?environment={layer.environment}&service_name={layer.service}"

    with listening(layer.of.process.url, selection) as events:
        events.first_revision()
        body_of(layer.patch(set={"db.pool.max": 101}))
        begins = events.until(lambda event: event.name == "violation.changed")[-1]
        body_of(layer.patch(set={"db.pool.max": 9}))
        ends = events.until(lambda event: event.name == "violation.changed")[-1]

    assert begins.id is None
    assert [event.data["action"] for event in (begins, ends)] == ["created", "deleted"]
    assert begins.data["name"] == layer.service
    assert "101" not in str(begins.data)


@pytest.mark.servers
def test_an_edit_in_vault_is_judged_afterwards(fresh_real: Service) -> None:
    layer = fresh_real.layer()
    own = Schemas(fresh_real)
    body_of(layer.create_document({"db": {"pool": {"max": 7}}}), 201)
    body_of(own.put(layer.service), 201)
    before = fresh_real.get("/health").json()["violating_configurations"]

    Stored(layer).edit({"db": {"pool": {"max": 1000}}})

    def list_violations() -> list[Any]:
        items: list[Any] = body_of(fresh_real.get("/api/v1/violations", **layer.names))["items"]
        return items

    wait_until(lambda: len(list_violations()) == 1, "the edit is judged")
    assert list_violations()[0]["keyword"] == "maximum"
    assert fresh_real.get("/health").json()["violating_configurations"] == before + 1
    series = 'pilothouse_schema_violations{mode="enforce"}'
    assert fresh_real.metric(series) >= 1
    body_of(layer.patch(set={"db.pool.max": 8}))
    wait_until(lambda: list_violations() == [], "what is written over it is judged")
    own.remove_all()


@pytest.mark.parametrize("way", ["deleted", "narrowed", "loosened"])
def test_a_violation_ends_with_its_schema(layer: Layer, schemas: Schemas, way: str) -> None:
    name = fresh_name()
    applies_to = [{"environments": [layer.environment], "services": [layer.service]}]
    body_of(schemas.put(name, mode="warn", applies_to=applies_to), 201)
    body_of(layer.patch(set={"db.pool.max": 101}))
    other = layer.at(service=fresh_name())
    body_of(other.patch(set={"db.pool.max": 101}))

    def count_violations(each: Layer) -> int:
        return len(body_of(layer.of.get("/api/v1/violations", **each.names))["items"])

    wait_until(lambda: count_violations(layer) == 1, "the violation is listed")
    if way == "deleted":
        layer.of.call("DELETE", f"{SCHEMAS}/{name}")
    elif way == "loosened":
        body_of(schemas.put(name, {}, mode="warn", applies_to=applies_to))
    else:
        applies_to[0]["services"] = [other.service]
        body_of(schemas.put(name, mode="warn", applies_to=applies_to))
        wait_until(lambda: count_violations(other) == 1, "the violation of the other is listed")

    wait_until(lambda: count_violations(layer) == 0, "the violation has ended")


def test_the_first_document_of_an_environment_brings_other_services_into_it(
    layer: Layer, schemas: Schemas
) -> None:
    inherited = layer.at(environment="default")
    applies_to = [{"environments": [layer.environment], "services": [layer.service]}]
    body_of(inherited.patch(set={"db.pool.max": 101}))
    body_of(schemas.put(layer.service, applies_to=applies_to), 201)

    body_of(layer.at(service=fresh_name()).patch(set={"a": 1}))

    def list_violations() -> list[Any]:
        items: list[Any] = body_of(layer.of.get("/api/v1/violations", **layer.names))["items"]
        return items

    wait_until(lambda: len(list_violations()) == 1, "it is judged in the new environment")
    body_of(inherited.patch(set={"db.pool.max": 7}))


def test_a_schema_has_a_history_and_can_be_rolled_back(layer: Layer, schemas: Schemas) -> None:
    name, url = layer.service, f"{SCHEMAS}/{layer.service}"
    body_of(schemas.put(name, comment="first"), 201)
    same = body_of(schemas.put(name))
    assert (same["changed"], same["version"]) == (False, 1)
    body_of(schemas.put(name, {"maxProperties": 3}, comment="second"))

    history = body_of(layer.of.get(f"{url}/history"))["items"]
    assert [(each["version"], each["action"], each["comment"]) for each in history] == [
        (2, "updated", "second"),
        (1, "created", "first"),
    ]
    assert "schema.maxProperties" in body_of(layer.of.get(f"{url}/diff"))["added"]
    assert body_of(layer.of.get(url, version=1))["schema"] == POOL

    back = body_of(layer.of.call("POST", f"{url}/rollback", {"version": 1}))
    assert (back["version"], back["schema"]) == (3, POOL)
    assert layer.of.call("DELETE", url).status == 204
    body_of(layer.of.get(url), 404)
    assert body_of(schemas.put(name), 201)["version"] == 5


def test_a_schema_is_written_only_over_the_version_that_was_read(
    layer: Layer, schemas: Schemas
) -> None:
    url = f"{SCHEMAS}/{layer.service}"
    tag = schemas.put(layer.service).headers["etag"]
    body_of(schemas.put(layer.service, {"maxProperties": 3}))
    body: dict[str, Any] = {"schema": {}}

    stale = layer.of.call("PUT", url, body, headers={"If-Match": tag})
    assert (stale.status, stale.json()["code"]) == (412, "stale_schema")
    read = layer.of.get(url)
    assert layer.of.get(url, headers={"If-None-Match": read.headers["etag"]}).status == 304


def test_of_many_writers_each_writes_a_version_unless_it_names_one(
    layer: Layer, schemas: Schemas
) -> None:
    url = f"{SCHEMAS}/{layer.service}"

    def put(limit: int, headers: dict[str, str] | None = None) -> int:
        body = {"schema": {"maxProperties": 100 + limit}}
        return layer.of.call("PUT", url, body, headers=headers).status

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda limit: put(limit, {"If-Match": '"0"'}), range(8)))
        last = list(pool.map(put, range(8)))

    assert sorted(first) == [201, *[412] * 7]
    assert set(last) == {200}
    versions = [each["version"] for each in body_of(layer.of.get(f"{url}/history"))["items"]]
    assert versions == list(range(len(versions), 0, -1))
    assert len(versions) >= 8
    body_of(schemas.put(layer.service))  # and removed at the end


def test_a_schema_that_only_warns_refuses_no_write_however_many_it_reaches(
    service_embedded: Service,
) -> None:
    layer, name = service_embedded.layer(), fresh_name()
    for number in range(501):
        body_of(layer.at(service=f"{name}-{number}").patch(set={"own": number}))
    applies_to = [{"environments": [layer.environment], "services": [f"{name}-*"]}]
    schema = {"properties": {"pool": {"maximum": 5}}}
    body: dict[str, Any] = {"schema": schema, "applies_to": applies_to, "mode": "warn"}
    body_of(service_embedded.call("PUT", f"{SCHEMAS}/{name}", body, timeout=60), 201)
    shared = layer.at(service="_shared")

    written = body_of(shared.patch(set={"pool": 6}))
    body_of(shared.patch(set={"pool": 1}))
    body_of(
        service_embedded.call("PUT", f"{SCHEMAS}/{name}", {**body, "mode": "enforce"}, timeout=60)
    )
    refused = problem(shared.patch(set={"pool": 2}), "too_many_affected")

    assert len(written["warnings"]) == 100
    assert (refused["affected"], refused["limit"]) == (501, 500)
    assert service_embedded.call("DELETE", f"{SCHEMAS}/{name}").status == 204


def test_exported_schemas_can_be_imported(layer: Layer, schemas: Schemas) -> None:
    body_of(schemas.put(layer.service), 201)
    exported = body_of(layer.of.get(f"{SCHEMAS}/export"))
    own = {layer.service: exported["schemas"][layer.service]}
    assert layer.of.call("DELETE", f"{SCHEMAS}/{layer.service}").status == 204

    document = {"format": exported["format"], "schemas": own}
    tried = body_of(layer.of.call("POST", f"{SCHEMAS}/import", document, dry_run=True))
    imported = body_of(layer.of.call("POST", f"{SCHEMAS}/import", document))

    assert [each["status"] for each in tried["schemas"]] == ["created"]
    assert imported["schemas"] == [
        {"name": layer.service, "status": "created", "version": 3, "error": None}
    ]
    assert body_of(layer.of.get(f"{SCHEMAS}/{layer.service}"))["schema"] == POOL


def test_what_an_import_cannot_write_is_shown_with_its_place(
    layer: Layer, schemas: Schemas
) -> None:
    body_of(layer.patch(set={"a": 1}))
    other = fresh_name()
    document = {
        "schemas": {
            layer.service: {"schema": {"required": ["b"]}},
            other: {"schema": {"properties": {"a": {"type": "text"}}}},
        }
    }

    unmet, bad = body_of(layer.of.call("POST", f"{SCHEMAS}/import", document))["schemas"]

    assert unmet["error"]["code"] == "schema_not_met"
    assert [each["key"] for each in unmet["error"]["errors"]] == ["b"]
    assert [each["pointer"] for each in bad["error"]["errors"]] == [
        f"#/schemas/{other}/schema/properties/a/type"
    ]


BAD: dict[str, tuple[Any, str, str]] = {
    "not a type": ({"type": "text"}, "bad_schema", "#/schema/type"),
    "foreign reference": ({"$ref": "http://127.0.0.1:1/x"}, "bad_schema", "#/schema/$ref"),
    "look-around": (
        {"properties": {"a": {"pattern": "(?=a)"}}},
        "bad_schema",
        "#/schema/properties/a/pattern",
    ),
    "rule that does not compile": (
        {"x-rules": [{"id": "a", "rule": "config..x"}]},
        "bad_rule",
        "#/schema/x-rules/0/rule",
    ),
    "rule about nothing known": (
        {"x-rules": [{"id": "a", "rule": "unknown > 1"}]},
        "bad_rule",
        "#/schema/x-rules/0/rule",
    ),
    "default at a secret": (
        {"properties": {"a": {"secret": True, "default": "x"}}},
        "bad_schema",
        "#/schema",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_schema_that_cannot_be_used_is_refused(layer: Layer, schemas: Schemas, case: str) -> None:
    schema, code, pointer = BAD[case]

    refused = problem(schemas.put(layer.service, schema), code)

    assert refused["errors"][0]["pointer"] == pointer
    body_of(layer.of.get(f"{SCHEMAS}/{layer.service}"), 404)


def test_two_defaults_for_one_key_contradict(layer: Layer, schemas: Schemas) -> None:
    body_of(schemas.put(layer.service, {"properties": {"a": {"default": 1}}}), 201)
    applies_to = [{"services": [layer.service]}]
    other = {"properties": {"a": {"default": 2}}}

    refused = problem(schemas.put(fresh_name(), other, applies_to=applies_to), "default_conflict")

    assert (refused["key"], refused["other"]) == ("a", layer.service)


def test_a_rule_without_an_answer_refuses_the_write(layer: Layer, schemas: Schemas) -> None:
    rule = {"id": "host", "rule": "config.db.host.startsWith('db')"}
    body_of(schemas.put(layer.service, {"x-rules": [rule]}), 201)

    refused = problem(layer.patch(set={"a": 1}), "rule_undecided")

    assert refused["errors"][0]["rule"] == "host"
    body_of(layer.patch(set={"db.host": "db1"}))


def test_the_changes_of_a_schema_are_in_the_log_and_the_audit(
    layer: Layer, schemas: Schemas
) -> None:
    written = schemas.put(layer.service, comment="why")
    body_of(written, 201)

    [change] = body_of(layer.of.get("/api/v1/changes", kind="schema", entity=layer.service))[
        "items"
    ]
    [row] = layer.of.backend.audit(written.headers["x-request-id"])

    assert (change["action"], change["environment"], change["version"]) == ("created", "default", 1)
    assert (row["kind"], row["name"], row["action"]) == ("schema", layer.service, "created")
    assert row["facts"]["after"]
