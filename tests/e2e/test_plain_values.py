"""Credentials in plain values, over HTTP: refused in production, warned of elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of, fresh_name
from tests.e2e.conftest import SETTINGS, embedded_service
from tests.servers.answer import Answer

pytestmark = pytest.mark.slow
PASSWORD = "hunter2-correct"
URL = f"postgres://app:{PASSWORD}@db/app"
PRODUCTION = "production"
WARNING = {"kind": "credential", "key": "db.password", "rule": "named_password"}
ALLOWED = "production/*/demo.*=example data; eu-*/maps/api.key=restricted to our domain"


@pytest.fixture(scope="module")
def service_embedded() -> Iterator[Service]:
    settings = {
        **SETTINGS,
        "PRODUCTION_ENVIRONMENTS": "production,eu-*",
        "PLAIN_VALUES_ALLOWED": ALLOWED,
    }
    with embedded_service(settings) as service:
        yield service


@pytest.fixture
def production(service_embedded: Service) -> Layer:
    return Layer(service_embedded, PRODUCTION, fresh_name())


@pytest.fixture
def elsewhere(service_embedded: Service) -> Layer:
    return service_embedded.layer()


Way = Callable[[Layer, Any], Answer]


def creating(layer: Layer, value: Any) -> Answer:
    return layer.create("db.password", value)


def replacing(layer: Layer, value: Any) -> Answer:
    layer.create("db.password", None)
    return layer.put("db.password", value)


def patching(layer: Layer, value: Any) -> Answer:
    return layer.patch(set={"db": {"password": value}})


def creating_a_document(layer: Layer, value: Any) -> Answer:
    return layer.create_document({"db.password": value})


def replacing_a_document(layer: Layer, value: Any) -> Answer:
    layer.create_document({"a": 1})
    return layer.put_document({"a": 1, "db": {"password": value}})


def importing(layer: Layer, value: Any) -> Answer:
    return layer.load(f'{{"db": {{"password": "{value}"}}}}', format="json")


def trying_an_import(layer: Layer, value: Any) -> Answer:
    return layer.load(f"db:\n  password: {value}", dry_run=True)


def making_plain(layer: Layer, value: Any) -> Answer:
    layer.create("db.password", "first", is_encrypted=True)
    return layer.put("db.password", value, is_encrypted=False)


POINTERS: dict[Way, str | None] = {
    creating: "#/value",
    replacing: "#/value",
    making_plain: "#/value",
    patching: "#/set/db/password",
    creating_a_document: "#/config_data/db.password",
    replacing_a_document: "#/config_data/db/password",
    importing: None,
    trying_an_import: None,
}
WAYS = pytest.mark.parametrize("way", POINTERS, ids=lambda way: way.__name__)


@WAYS
def test_production_refuses_it_and_names_key_rule_and_place(way: Way, production: Layer) -> None:
    answer = way(production, PASSWORD)

    problem = body_of(answer, 422)
    assert problem["code"] == "credential_in_plain_value"
    assert (problem["key"], problem["rule"]) == ("db.password", "named_password")
    assert "is_encrypted" in problem["detail"]
    error = problem["errors"][0]
    assert (error.get("pointer"), error["code"]) == (POINTERS[way], "named_password")
    assert "'db.password'" in error["detail"]
    assert PASSWORD not in answer.body.decode()
    assert PASSWORD not in production.keys().body.decode()


@WAYS
def test_elsewhere_it_is_written_and_warned_of(way: Way, elsewhere: Layer) -> None:
    said = way(elsewhere, PASSWORD).json()

    said = said["documents"][0] if "documents" in said else said
    assert said["warnings"] == [WARNING]


def test_what_all_environments_inherit_is_not_production(service_embedded: Service) -> None:
    answer = service_embedded.layer().at(environment="default").create("db.password", PASSWORD)

    assert body_of(answer, 201)["warnings"] == [WARNING]


def test_all_of_them_are_named_at_once(production: Layer) -> None:
    problem = body_of(production.patch(set={"a.url": URL, "b": [1, {"password": PASSWORD}]}), 422)

    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("#/set/a.url", "url_password"),
        ("#/set/b", "named_password"),
    ]


def test_a_hundred_of_them_are_listed_and_all_are_counted(production: Layer) -> None:
    values = {f"db{number}": {"password": PASSWORD} for number in range(150)}

    problem = body_of(production.create_document(values), 422)

    assert len(problem["errors"]) == 100
    assert "150 are found" in problem["detail"]


def test_an_import_is_refused_for_all_its_documents_together(production: Layer) -> None:
    file = (
        f"db.password: {PASSWORD}\n---\nspring.config.activate.on-profile: eu-west\nurl: {URL}\n"
        "---\nspring.config.activate.on-profile: docker\na: 1"
    )

    problem = body_of(production.load(file), 422)

    assert [error["code"] for error in problem["errors"]] == ["named_password", "url_password"]
    assert production.at(environment="docker").document().status == 404


@pytest.mark.parametrize(
    "value", [{"$secret": {"value": PASSWORD}}, "${DB_PASSWORD}", "/run/secrets/db", None]
)
def test_a_secret_and_what_stands_for_one_are_let_through(value: Any, production: Layer) -> None:
    assert body_of(production.patch(set={"db.password": value}))["warnings"] == []


def test_a_key_that_becomes_a_secret_is_let_through(production: Layer) -> None:
    answer = production.create("db.password", PASSWORD, is_encrypted=True)

    assert body_of(answer, 201)["warnings"] == []
    assert body_of(production.put("db.password", "another one"))["warnings"] == []
    body_of(production.patch(set={"a.token": URL}, encrypt=["a.token"]))


def test_what_is_there_already_hinders_no_other_edit(service_embedded: Service) -> None:
    layer = Layer(service_embedded, fresh_name("e"), fresh_name())
    old = {"db.password": PASSWORD, "urls": [URL], "a": 1}
    body_of(layer.create_document(old), 201)
    layer.of.process.restart({"PRODUCTION_ENVIRONMENTS": f"production,eu-*,{layer.environment}"})

    assert body_of(layer.put("a", 2))["warnings"] == []
    assert body_of(layer.put_document({**old, "a": 3}))["warnings"] == []
    assert body_of(layer.patch(set={"urls": [URL, "https://a.example"]}))["warnings"] == []
    body_of(layer.patch(set={"urls": [URL, URL + "2"]}), 422)
    body_of(layer.patch(set={"db.password": PASSWORD + "2"}), 422)


def test_a_rollback_is_never_refused_and_warns(service_embedded: Service) -> None:
    layer = Layer(service_embedded, fresh_name("e"), fresh_name())
    body_of(layer.create("db.password", PASSWORD), 201)
    layer.put("db.password", None)
    layer.of.process.restart({"PRODUCTION_ENVIRONMENTS": f"production,eu-*,{layer.environment}"})

    key = body_of(layer.rollback("db.password", 1))
    body_of(layer.rollback_document(2))
    document = body_of(layer.rollback_document(1))

    warned = [WARNING]
    assert (key["warnings"], document["warnings"]) == (warned, warned)


def test_what_is_allowed_is_written_without_a_word(service_embedded: Service) -> None:
    allowed = Layer(service_embedded, PRODUCTION, fresh_name())
    body_of(allowed.create("demo.password", PASSWORD), 201)
    key = body_of(
        Layer(service_embedded, "eu-1", "maps").create("api.key", "AIza" + "Sy5fX3" * 6), 201
    )

    assert key["warnings"] == []
    assert "restricted to our domain" in service_embedded.process.log()
    body_of(allowed.create("other.password", PASSWORD), 422)
    body_of(Layer(service_embedded, "us-1", "maps").create("api.key", "AIza" + "Sy5fX3" * 6), 201)


def test_a_repeated_request_is_warned_of_the_same(elsewhere: Layer) -> None:
    headers = {"Idempotency-Key": fresh_name()}
    first = body_of(elsewhere.create("db.password", PASSWORD, headers=headers), 201)

    assert body_of(elsewhere.create("db.password", PASSWORD, headers=headers), 201) == first


def test_reading_says_nothing_of_it(elsewhere: Layer) -> None:
    elsewhere.create("db.password", PASSWORD)

    assert body_of(elsewhere.get("db.password"))["warnings"] == []
    assert "warnings" not in body_of(elsewhere.document())


def test_findings_are_counted_by_rule_and_by_what_became_of_them(
    production: Layer, elsewhere: Layer
) -> None:
    name = "pilothouse_plain_credentials_total"
    counts = [
        f'{name}{{outcome="{outcome}",rule="{rule}"}}'
        for outcome, rule in (
            ("refused", "url_password"),
            ("warned", "url_password"),
            ("allowed", "url_password"),
        )
    ]
    before = [production.of.metric(count) for count in counts]

    production.create("url", URL)
    elsewhere.create("url", URL)
    production.create("demo.url", URL)

    after = [production.of.metric(count) for count in counts]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1]
