"""A number is kept as it was sent, or refused with its place: through every door."""

import json
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of

INTEGERS = [2**53 + 1, 2**63 - 1, 2**63, 2**64 + 1, -(2**63) - 1, 10**40 + 1]
DECIMALS = ["0.1", "1.10", "1e3", "0.1234567890123456", "1e23", "5e-324", "-0.0"]
CHANGED = ["1e-400", "1e400", "0.1234567890123456789", "9007199254740993.0"]
PLACE = {"code": "inexact_number", "pointer": "#/config_data/a/list/1"}


def _send_number(layer: Layer, method: str, number: str) -> Any:
    body = f'{{"config_data": {{"a": {{"list": [1, {number}]}}}}}}'
    path = f"/api/configs/{layer.service}?environment={layer.environment}"
    headers = {"Content-Type": "application/json"}
    return layer.of.process.request(method, path, data=body.encode(), headers=headers)


def test_integers_of_any_size_are_kept_through_every_door(layer: Layer) -> None:
    body_of(layer.create_document({"all": INTEGERS, "largest": INTEGERS[-1]}), 201)

    assert body_of(layer.document())["config_data"]["all"] == INTEGERS
    for _ in range(2):  # merged, and then from memory
        assert body_of(layer.effective())["data"]["all"] == INTEGERS
        assert body_of(layer.get("largest"))["value"] == INTEGERS[-1]
    assert body_of(layer.keys())["items"][0]["value"] == INTEGERS
    assert json.loads(layer.export("json").body)["all"] == INTEGERS
    for form in ("yaml", "json"):
        other = layer.at(environment=f"{layer.environment}-{form}")
        exported = layer.export(form)
        kind = exported.headers["Content-Type"].partition(";")[0]
        body_of(other.load(exported.body, format=form, headers={"Content-Type": kind}))
        assert body_of(other.document())["config_data"]["all"] == INTEGERS


def test_decimals_that_a_double_holds_are_kept(layer: Layer) -> None:
    body_of(_send_number(layer, "POST", ", ".join(DECIMALS)), 201)

    assert body_of(layer.document())["config_data"]["a"]["list"][1:] == [*map(float, DECIMALS)]


@pytest.mark.parametrize("number", CHANGED)
def test_a_number_that_would_be_changed_is_refused_with_its_place(
    layer: Layer, number: str
) -> None:
    problem = body_of(_send_number(layer, "POST", number), 400)

    assert problem["code"] == "bad_json"
    assert {**PLACE, "detail": problem["errors"][0]["detail"]} == problem["errors"][0]
    assert layer.document().status == 404


@pytest.mark.parametrize("number", CHANGED)
@pytest.mark.parametrize(
    ("form", "text"), [("yaml", "a: 1\nb: {}"), ("json", '{{"a": 1,\n"b": {}}}')]
)
def test_a_file_with_such_a_number_is_refused_with_its_line(
    layer: Layer, form: str, text: str, number: str
) -> None:
    headers = {"Content-Type": f"application/{form}"}
    problem = body_of(layer.load(text.format(number), format=form, headers=headers), 422)

    assert problem["code"] == "bad_file"
    assert "line 2" in problem["detail"]
    assert layer.document().status == 404


@pytest.mark.parametrize("form", ["properties", "dotenv"])
def test_formats_that_know_only_text_keep_every_digit(layer: Layer, form: str) -> None:
    text = "".join(f"a{place}={number}\n" for place, number in enumerate(CHANGED))
    kind = {"properties": "text/x-java-properties", "dotenv": "text/x-dotenv"}[form]
    body_of(layer.load(text, format=form, headers={"Content-Type": kind}))

    assert [*body_of(layer.document())["config_data"].values()] == CHANGED


def test_the_values_of_flags_are_not_changed_either(service: Service, layer: Layer) -> None:
    body = (
        f'{{"name": "n", "environment": "{layer.environment}", "type": "number", '
        '"variants": {"a": 1e-400}}'
    )
    headers = {"Content-Type": "application/json"}
    flags = "/api/v1/feature-flags"
    answer = service.process.request("POST", flags, data=body.encode(), headers=headers)

    assert body_of(answer, 400)["errors"][0]["pointer"] == "#/variants/a"


def test_the_context_of_an_evaluation_may_hold_any_number(service: Service, layer: Layer) -> None:
    where = {"environment": layer.environment}
    body_of(service.call("POST", "/api/v1/feature-flags", {"name": "n", **where}), 201)
    body = json.dumps({"flag_name": "n", "user_id": "u", **where})[:-1]
    text = f'{body}, "context": {{"score": 0.1234567890123456789}}}}'
    headers = {"Content-Type": "application/json"}
    address = "/api/v1/feature-flags/evaluate"

    assert (
        service.process.request("POST", address, data=text.encode(), headers=headers).status == 200
    )
