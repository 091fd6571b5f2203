"""Templates as callers send them: what is refused, and where; and what becomes of parameters."""

import json
from typing import Any

import pytest

from app.rules.errors import ParametersInvalid, SecretInTemplate, TemplateInvalid
from app.rules.templates.reading import (
    MOST_TEMPLATE_BYTES,
    Template,
    read_template,
    template_text,
)
from app.rules.templates.rendering import (
    MOST_PARAMETER_BYTES,
    refuse_secret_places,
    render_template,
)

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "required": ["name", "port"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "port": {"type": "integer", "maximum": 65535},
        "debug": {"type": "boolean", "default": False},
        "tags": {"type": "array", "items": {"type": "string"}},
        "more": {"type": "object"},
    },
}
DATA: dict[str, Any] = {
    "http": {"port": {"$param": "port"}, "name": "svc-${name}", "home": "${HOME:/root}"},
    "debug": {"$param": "debug"},
    "tags": {"$param": "tags"},
}


def template(**members: Any) -> Template:
    return read_template(template_text({"parameters": PARAMETERS, "data": DATA, **members}))


def test_a_template_becomes_a_document() -> None:
    assert render_template(template(), {"name": "orders", "port": 80}) == {
        "http": {"port": 80, "name": "svc-orders", "home": "${HOME:/root}"},
        "debug": False,
    }


def test_a_template_is_rendered_below_its_key() -> None:
    found = template(at="plugins.web", data={"port.http": {"$param": "port"}})

    assert render_template(found, {"name": "a", "port": 1}) == {
        "plugins": {"web": {"port": {"http": 1}}}
    }
    empty = template(at="plugins.web", data={"tags": {"$param": "tags"}})
    assert render_template(empty, {"name": "a", "port": 1}) == {}


def test_without_parameters_the_data_is_all() -> None:
    found = read_template(template_text({"data": {"a.b": 1}}))

    assert render_template(found, {}) == {"a": {"b": 1}}
    assert found.applies_in("production", "orders")


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"data": None}, "/data"),
        ({"data": [1]}, "/data"),
        ({"data": {"$param": "port"}}, "/data"),
        ({"data": {"a": {"$param": "prot"}}}, "/data/a/$param"),
        ({"data": {"a": 1, "a.b": 2}}, "/data"),
        ({"data": {"a\n": 1}}, "/data"),
        ({"at": "a b\n"}, "/at"),
        ({"at": 5}, "/at"),
        ({"at": "list[0]"}, "/at"),
        ({"parameters": {"type": "array"}}, "/parameters"),
        ({"parameters": []}, "/parameters"),
        ({"parameters": {"properties": {"a.b": {}}}}, "/parameters/properties/a.b"),
        ({"parameters": {"properties": {"a": {"type": "int"}}}}, "/parameters/properties/a/type"),
        ({"parameters": {"properties": {"a": {"largest": 1}}}}, "/parameters/properties/a"),
        ({"parameters": {"properties": {"a": {"$ref": "http://x.example/"}}}}, "/parameters"),
        (
            {"parameters": {"properties": {"a": {"type": "integer", "default": "x"}}}},
            "/parameters/properties/a/default",
        ),
        ({"applies_to": [1]}, "/applies_to/0"),
        ({"applies_to": [{"environments": ["a b"]}]}, "/applies_to/0/environments/0"),
        ({"applies_to": [{"services": []}]}, "/applies_to/0/services"),
        ({"data": {"a": "x" * MOST_TEMPLATE_BYTES}}, ""),
    ],
)
def test_a_flaw_is_named_with_its_place(members: dict[str, Any], pointer: str) -> None:
    with pytest.raises(TemplateInvalid) as raised:
        template(**members)

    assert raised.value.pointer.startswith(pointer)
    assert raised.value.flaws[0]["pointer"] == "#" + raised.value.pointer
    assert raised.value.reason


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"data": {"a": {"$secret": {"value": "x"}}}}, "/data/a"),
        ({"data": {"a": [{"b": {"$secret": "masked"}}]}}, "/data/a/0/b"),
        ({"data": {"db": {"password": "correct horse 7 battery"}}}, "/data/db/password"),
        ({"data": {"urls": ["postgres://shop:s3cr3t-pw@db.example/shop"]}}, "/data/urls/0"),
        (
            {"parameters": {"properties": {"a": {"type": "string", "secret": True}}}},
            "/parameters/properties/a",
        ),
        (
            {"parameters": {"properties": {"a": {"anyOf": [{"writeOnly": True}, {}]}}}},
            "/parameters/properties/a/anyOf/0",
        ),
        (
            {"parameters": {"properties": {"password": {"default": "correct horse 7 battery"}}}},
            "/parameters/properties/password/default",
        ),
    ],
)
def test_a_secret_is_refused_with_its_place(members: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SecretInTemplate) as raised:
        template(**{"parameters": {}, "data": {}, **members})

    assert raised.value.flaws[0]["pointer"] == "#" + pointer
    assert "horse" not in str(raised.value)


def test_a_placeholder_in_the_place_of_a_password_is_none() -> None:
    found = template(data={"db": {"password": "${DB_PASSWORD}"}})

    assert render_template(found, {"name": "a", "port": 1}) == {
        "db": {"password": "${DB_PASSWORD}"}
    }


@pytest.mark.parametrize(
    ("parameters", "flaws"),
    [
        ({}, [("/name", "is missing"), ("/port", "is missing")]),
        ({"name": "a", "port": 70_000}, [("/port", "is above 65535")]),
        ({"name": "A", "port": 1}, [("/name", "does not match ^[a-z]+$")]),
        ({"name": "a", "port": "80"}, [("/port", "is not of type integer")]),
        ({"name": "a", "port": True}, [("/port", "is not of type integer")]),
        ({"name": "a", "port": 1, "tags": [1]}, [("/tags/0", "is not of type string")]),
        (
            {"name": "a", "port": 1, "prot": 2},
            [("/prot", "no such parameter; did you mean 'port'?")],
        ),
        (
            {"name": "a", "port": 1, "more": {"x": "y" * MOST_PARAMETER_BYTES}},
            [("", f"more than {MOST_PARAMETER_BYTES} bytes")],
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    parameters: dict[str, Any], flaws: list[tuple[str, str]]
) -> None:
    with pytest.raises(ParametersInvalid) as raised:
        render_template(template(), parameters)

    assert sorted(raised.value.found) == flaws
    assert [flaw["pointer"] for flaw in raised.value.flaws] == [
        f"#/parameters{pointer}" for pointer, _ in raised.value.found
    ]


def test_a_value_that_cannot_take_its_place_is_refused() -> None:
    data = {"a": "<${more}>", "b": "${tags}"}
    for parameters, pointer in (({"more": {}}, "/more"), ({"more": {"a": 1}}, "/more")):
        with pytest.raises(ParametersInvalid) as raised:
            render_template(template(data=data), {"name": "a", "port": 1, **parameters})
        assert raised.value.found[0][0] == pointer

    bad_key = template(data={"a": {"$param": "more"}})
    with pytest.raises(ParametersInvalid):
        render_template(bad_key, {"name": "a", "port": 1, "more": {"b": 1, "b.c": 2}})


@pytest.mark.parametrize(
    "value", [{"$secret": {"value": "x"}}, {"a": [{"$secret": "masked"}]}, {"a": {"$secret": 1}}]
)
def test_no_parameter_is_a_secret(value: Any) -> None:
    with pytest.raises(SecretInTemplate) as raised:
        render_template(template(), {"name": "a", "port": 1, "more": value})

    assert str(raised.value.flaws[0]["pointer"]).startswith("#/parameters/more")


def test_a_hostile_schema_of_parameters_costs_no_time() -> None:
    doubling: dict[str, Any] = {
        "properties": {"more": {"$ref": "#/$defs/n"}},
        "$defs": {
            "n": {
                "anyOf": [
                    {"properties": {"a": {"$ref": "#/$defs/n"}, "b": {"type": "null"}}},
                    {"properties": {"a": {"$ref": "#/$defs/n"}, "c": {"type": "null"}}},
                ]
            }
        },
    }
    deep: Any = 1
    for _ in range(30):
        deep = {"a": deep}
    found = read_template(template_text({"parameters": doubling, "data": {}}))

    with pytest.raises(ParametersInvalid, match="too often"):
        render_template(found, {"more": deep})


@pytest.mark.parametrize(
    ("secret_keys", "is_refused"),
    [
        ([], False),
        (["other"], False),
        (["db.password"], True),
        (["db"], True),
        (["db.password.part"], True),
        (["db.pass"], False),
    ],
)
def test_a_rendering_has_nothing_at_a_secret_place(
    secret_keys: list[str], *, is_refused: bool
) -> None:
    tree = {"db": {"password": "x", "host": "h"}}

    if not is_refused:
        refuse_secret_places(tree, secret_keys)
        return
    with pytest.raises(SecretInTemplate):
        refuse_secret_places(tree, secret_keys)


def test_a_template_applies_where_its_patterns_say() -> None:
    found = template(applies_to=[{"environments": ["staging", "test-*"]}, {"services": ["orders"]}])

    assert found.applies_in("test-1", "any")
    assert found.applies_in("production", "orders")
    assert not found.applies_in("production", "payments")


def test_the_parameters_of_a_key_are_known() -> None:
    found = template(
        at="x.y",
        data={"a.b": {"c": "${name}-${port}", "d": 1}, "more": {"$param": "more"}},
    )

    assert found.parameters_at("x.y.a.b.c") == {"name", "port"}
    assert found.parameters_at("x.y.a.b.d") == set()
    assert found.parameters_at("x.y.more.deep.key") == {"more"}


def test_a_text_has_every_member_so_that_equal_templates_have_equal_texts() -> None:
    short, long = (
        template_text({"data": {}}),
        template_text(
            {
                "description": "",
                "applies_to": [{"environments": ["*"], "services": ["*"]}],
                "parameters": {},
                "at": "",
                "data": {},
            }
        ),
    )

    assert short == long
    assert json.loads(short)["at"] == ""
