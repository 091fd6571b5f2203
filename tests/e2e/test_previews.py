"""Previews of writes of documents, and where they end."""

from typing import Any

from tests.e2e.client import Layer, body_of


def test_a_preview_is_refused_for_its_size_as_the_write_is(layer: Layer) -> None:
    text = "x" * 786_432
    secret: dict[str, Any] = {"$secret": {"value": "x" * 600_000}}
    change = {**layer.names, "set": {"a": text}}

    answers = [
        layer.of.call("PATCH", "/api/v1/config", {"set": {"a": value}}, dry_run=dry_run, **names)
        for value in (text, secret)
        for dry_run in (True, False)
        for names in (layer.names,)
    ]
    answers.append(layer.of.call("POST", "/api/v1/validate", {"changes": [change]}))

    assert {(each.status, each.json()["code"]) for each in answers} == {(413, "document_too_large")}
    body_of(layer.document(), 404)


def test_a_preview_of_a_large_change_does_not_show_it_for_every_configuration(
    layer: Layer,
) -> None:
    for number in range(12):
        body_of(layer.at(service=f"{layer.service}-{number}").patch(set={"own": 1}))
    body: dict[str, Any] = {"set": {"a": "x" * 700_000}}
    shared = layer.at(service="_shared").names

    answer = layer.of.call("PATCH", "/api/v1/config", body, dry_run=True, **shared)

    assert body_of(answer)["affected"] >= 12
    assert len(answer.body) < 7 * 1024 * 1024
    assert len(body_of(answer)["effective"]) < 12
