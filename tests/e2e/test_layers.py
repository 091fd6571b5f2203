"""Layers: which values a service sees, and where each comes from."""

import json
from typing import Any

import pytest
import yaml

from tests.e2e.client import Layer, Service, body_of, fresh_name


def layers_of(layer: Layer, user: str) -> list[Layer]:
    """Return all layers that contribute to a user's configuration, lowest first."""
    return [
        layer.at(environment="default", service="_shared"),
        layer.at(service="_shared"),
        layer.at(environment="default"),
        layer,
        layer.at(user=user),
    ]


def without_null(source: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if value is not None}


def test_each_layer_goes_before_all_that_lie_below_it(layer: Layer) -> None:
    mine = layer.at(user="ann")
    key = fresh_name("k")
    seen = []

    for each in layers_of(layer, "ann"):
        body_of(each.create(key, each.names), 201)
        seen.append(body_of(mine.get(key)))

    assert [item["value"] for item in seen] == [each.names for each in layers_of(layer, "ann")]
    assert [without_null(item["source"]) for item in seen] == [item["value"] for item in seen]
    assert layers_of(layer, "ann")[0].delete(key).status == 204


def test_objects_merge_deeply_while_lists_and_scalars_replace(layer: Layer) -> None:
    layer.at(environment="default").patch(
        set={"a": {"b": 1, "c": {"d": 2}}, "list": [1, 2], "was_section": {"x": 1}, "was_value": 1}
    )
    layer.patch(
        set={"a": {"c": {"e": 3}}, "list": [3], "was_section": "flat", "was_value": {"y": 2}}
    )

    found = body_of(layer.effective())["data"]

    assert found["a"] == {"b": 1, "c": {"d": 2, "e": 3}}
    assert found["list"] == [3]
    assert found["was_section"] == "flat"
    assert found["was_value"] == {"y": 2}


def test_the_effective_configuration_names_the_layer_of_each_value(layer: Layer) -> None:
    base, mine = layer.at(environment="default"), layer.at(user="bob@example.org")
    base.patch(set={"a": 1, "b": 1, "c": 1})
    layer.patch(set={"b": 2, "c": 2})
    last = mine.patch(set={"c": 3})

    found = body_of(mine.effective())

    assert {key: found["data"][key] for key in "abc"} == {"a": 1, "b": 2, "c": 3}
    sources = {key: without_null(found["sources"][key]) for key in "abc"}
    assert sources == {"a": base.names, "b": layer.names, "c": mine.names}
    told_layers = [without_null(each) for each in found["layers"]]
    assert told_layers[-3:] == [{**each.names, "version": 1} for each in (base, layer, mine)]
    assert found["revision"] == int(last.headers["X-Revision"])
    assert without_null({name: found[name] for name in mine.names}) == mine.names


def test_the_revision_is_that_of_the_newest_contributing_change(
    service: Service, layer: Layer
) -> None:
    mine = layer.create("a", 1)
    other = service.layer().create("a", 1)

    answer = layer.effective()

    assert body_of(answer)["revision"] == int(mine.headers["X-Revision"])
    assert int(answer.headers["X-Revision"]) >= int(other.headers["X-Revision"]) - 1


def test_one_users_layer_is_nobody_elses(layer: Layer) -> None:
    layer.create("a", "all")
    layer.at(user="ann").create("a", "hers")

    assert body_of(layer.at(user="ann").get("a"))["value"] == "hers"
    assert body_of(layer.at(user="bob").get("a"))["value"] == "all"
    assert body_of(layer.get("a"))["value"] == "all"
    assert body_of(layer.at(environment="default", user="ann").get("a"), 404)


def test_a_users_layer_has_a_history_and_can_be_rolled_back(layer: Layer) -> None:
    mine = layer.at(user="ann")
    mine.create("a", 1)
    mine.put("a", 2)

    body_of(mine.rollback("a", 1))

    values = [item["value"] for item in body_of(mine.history("a"))["items"]]
    assert values == [1, 2, 1]
    assert layer.document().status == 404


def test_a_deleted_document_takes_its_layer_away(layer: Layer) -> None:
    layer.at(environment="default").create("a", "below")
    layer.create("a", "above")
    before = body_of(layer.effective())

    deleted = layer.delete_document()

    after = body_of(layer.effective())
    assert (before["data"]["a"], after["data"]["a"]) == ("above", "below")
    assert len(after["layers"]) == len(before["layers"]) - 1
    assert after["revision"] == int(deleted.headers["X-Revision"])


def test_a_service_without_any_configuration_sees_what_all_share(layer: Layer) -> None:
    layer.at(service="_shared").create("a", 1)

    found = body_of(layer.effective())

    assert found["data"]["a"] == 1
    assert without_null(found["sources"]["a"]) == layer.at(service="_shared").names


def test_an_effective_null_hides_the_layers_below(layer: Layer) -> None:
    layer.at(environment="default").patch(set={"a": {"b": 1}, "c": 1})
    layer.patch(set={"a": None})

    found = body_of(layer.effective())

    assert found["data"]["a"] is None
    assert "a.b" not in found["sources"]


DATA = {"server": {"port": 8080, "hosts": ["a", "b"]}, "name": "näme = 1", "on": True, "no": None}


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "*/*",
        "application/*",
        "text/html, */*;q=0.1",
        "",
        "text/yaml;q=0.2, */*",
    ],
)
def test_the_effective_configuration_is_json_unless_another_form_is_preferred(
    layer: Layer, accept: str
) -> None:
    layer.create_document(DATA)

    answer = layer.effective(headers={"Accept": accept})

    assert answer.headers["Content-Type"] == "application/json"
    data = body_of(answer)["data"]
    assert {name: data[name] for name in DATA} == DATA


@pytest.mark.parametrize("accept", ["application/yaml", "text/yaml", "application/x-yaml"])
def test_the_effective_configuration_can_be_yaml(layer: Layer, accept: str) -> None:
    layer.create_document(DATA)

    answer = layer.effective(headers={"Accept": accept})

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/yaml")
    assert answer.headers["Vary"] == "Accept"
    data = yaml.safe_load(answer.body)
    assert {name: data[name] for name in DATA} == DATA


@pytest.mark.parametrize("accept", ["text/x-java-properties", "text/x-dotenv"])
def test_the_effective_configuration_can_be_lines(layer: Layer, accept: str) -> None:
    layer.create_document({"server": {"port": 8080, "hosts": ["a", "b"]}, "on": True})

    answer = layer.effective(headers={"Accept": accept})

    lines = set(answer.body.decode().splitlines())
    expected = {
        "text/x-java-properties": {"server.port=8080", "server.hosts[0]=a", "on=true"},
        "text/x-dotenv": {"SERVER_PORT=8080", "ON=true"},
    }
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(accept)
    assert expected[accept] <= lines


def test_each_form_has_an_entity_tag_of_its_own(layer: Layer) -> None:
    layer.create_document({"a": 1})
    forms = ["application/json", "application/yaml", "text/x-dotenv", "text/x-java-properties"]

    tags = [layer.effective(headers={"Accept": form}).headers["ETag"] for form in forms]

    assert len(set(tags)) == len(forms)


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0"])
def test_a_form_nobody_can_give_is_not_acceptable(layer: Layer, accept: str) -> None:
    answer = layer.effective(headers={"Accept": accept})

    assert body_of(answer, 406)["status"] == 406
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_two_keys_of_one_dotenv_name_are_named(layer: Layer) -> None:
    layer.create_document({"a": {"b": 1}, "a_b": 2})

    problem = body_of(layer.effective(headers={"Accept": "text/x-dotenv"}), 409)

    assert sorted(problem["keys"]) == ["a.b", "a_b"]


def test_the_digest_in_a_tag_tells_no_value(layer: Layer) -> None:
    twin = layer.of.layer()
    layer.create("a", "one")
    twin.create("a", "one")

    tags = [each.effective().headers["ETag"] for each in (layer, twin)]

    assert tags[0] != tags[1]
    assert "one" not in json.dumps(tags)
