"""Templates with their parameters in place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.rendering import (
    MAX_RENDERED_CHARACTERS,
    MAX_TEMPLATE_DEPTH,
    MAX_TEMPLATE_NODES,
    PARAMETER,
    BadParameter,
    BadTemplate,
    RenderingTooLarge,
    check_template,
    is_parameter_name,
    render,
    used_parameters,
)
from tests.core.drawn import json_values

DECLARED = ("name", "port", "tags", "empty")
GIVEN = {"name": "orders", "port": 8080, "tags": ["a", "b"], "empty": None}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"port": {PARAMETER: "port"}}, {"port": 8080}),
        ({"tags": {PARAMETER: "tags"}}, {"tags": ["a", "b"]}),
        ({"list": [{PARAMETER: "port"}, 1]}, {"list": [8080, 1]}),
        ({"none": {PARAMETER: "empty"}}, {"none": None}),
        ({"name": "svc-${name}-${port}"}, {"name": "svc-orders-8080"}),
        ({"name": "${port}"}, {"name": "8080"}),  # a text stays a text
        ({"name": "<${empty}>"}, {"name": "<>"}),
        ({"home": "${HOME:/root}/${unknown}"}, {"home": "${HOME:/root}/${unknown}"}),
        ({"port": "${port:80}"}, {"port": "${port:80}"}),  # a placeholder of the reader
        ({"text": "$${name} $${other} $name $$"}, {"text": "${name} ${other} $name $$"}),
        ({"text": "$$${name}"}, {"text": "$${name}"}),
        ({"text": "${${name}}"}, {"text": "${orders}"}),
        ({"${name}": 1}, {"${name}": 1}),  # names are no texts
        ({"a": {}, "b": [], "c": 1.5}, {"a": {}, "b": [], "c": 1.5}),
    ],
)
def test_parameters_take_their_places(data: dict[str, Any], expected: dict[str, Any]) -> None:
    check_template(data, DECLARED)

    assert json.dumps(render(data, GIVEN, DECLARED)) == json.dumps(expected)


def test_a_value_is_not_rendered_again() -> None:
    rendered = render(
        {"a": {PARAMETER: "tags"}, "b": "${name}"},
        {"tags": [{PARAMETER: "port"}, "${port}"], "name": "${port}", "port": 1},
        DECLARED,
    )

    assert rendered == {"a": [{PARAMETER: "port"}, "${port}"], "b": "${port}"}


def test_a_parameter_without_a_value_is_left_out_with_the_section_it_leaves_empty() -> None:
    data = {"a": {"b": {"c": {PARAMETER: "port"}}, "d": {}}, "e": [{PARAMETER: "port"}, 1]}

    assert render(data, {}, DECLARED) == {"a": {"d": {}}, "e": [1]}
    assert render({"a": {PARAMETER: "port"}}, {}, DECLARED) == {}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({}, "no value"), ({"name": [1]}, "is a list"), ({"name": {"a": 1}}, "is a list")],
)
def test_a_text_needs_a_value_that_can_be_part_of_it(
    parameters: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadParameter, match=reason) as raised:
        render({"a": "svc-${name}"}, parameters, DECLARED)
    assert raised.value.name == "name"


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({"a": {PARAMETER: "port", "more": 1}}, "/a"),
        ({"a": [{PARAMETER: "prot"}]}, "/a/0/$param"),
        ({"a": {PARAMETER: 5}}, "/a/$param"),
        ({"a": {PARAMETER: {PARAMETER: "port"}}}, "/a/$param"),
        ({"a/b": {"~": {PARAMETER: "prot"}}}, "/a~1b/~0/$param"),
    ],
)
def test_a_malformed_parameter_is_refused_with_its_place(data: Any, pointer: str) -> None:
    with pytest.raises(BadTemplate) as raised:
        check_template(data, DECLARED)
    assert raised.value.pointer == pointer


def test_data_may_be_neither_too_deep_nor_too_rich() -> None:
    deep: Any = 1
    for _ in range(MAX_TEMPLATE_DEPTH):
        deep = [deep]
    check_template(deep, ())
    with pytest.raises(BadTemplate, match="levels"):
        check_template([deep], ())
    check_template([1] * (MAX_TEMPLATE_NODES - 1), ())
    with pytest.raises(BadTemplate, match="more than"):
        check_template([1] * MAX_TEMPLATE_NODES, ())


@pytest.mark.parametrize(
    "data", [{"a": ["${name}" * 500] * 500}, {"a": [{PARAMETER: "name"}] * 4000}]
)
def test_a_rendering_that_would_explode_is_refused_early(data: Any) -> None:
    with pytest.raises(RenderingTooLarge):
        render(data, {"name": "x" * 10_000}, DECLARED)
    assert render(data, {"name": ""}, DECLARED)


def test_a_rendering_is_bounded_by_what_is_written() -> None:
    text = "x" * (MAX_RENDERED_CHARACTERS - 1)

    assert render({"a": "${name}"}, {"name": text}, DECLARED) == {"a": text}
    with pytest.raises(RenderingTooLarge):
        render({"ab": "${name}"}, {"name": text}, DECLARED)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_data_without_parameters_is_its_own_rendering(data: dict[str, Any]) -> None:
    text = json.dumps(data)
    if PARAMETER in text or "$${" in text:
        return
    assert json.dumps(render(data, {}, ())) == text


@given(st.text(st.sampled_from("${}nameport:x"), max_size=30))
def test_a_text_says_what_was_meant_once_it_is_escaped(text: str) -> None:
    escaped = text.replace("${", "$${")

    assert render({"a": escaped}, GIVEN, DECLARED) == {"a": text}


@given(json_values)
def test_a_value_keeps_its_type(value: Any) -> None:
    rendered = render({"a": {PARAMETER: "name"}}, {"name": value}, DECLARED)

    assert json.dumps(rendered) == json.dumps({"a": value})


def test_the_parameters_that_are_used_are_told() -> None:
    data = {"a": [{PARAMETER: "port"}], "b": "$${tags} ${name} ${other} ${empty:x}"}

    assert used_parameters(data, DECLARED) == {"port", "name"}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("port", True),
        ("_a-b_C9", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("9a", False),
        ("a.b", False),
        ("", False),
        ("é", False),
        ("a\n", False),
    ],
)
def test_parameters_have_names_that_fit_between_braces(name: str, *, is_one: bool) -> None:
    assert is_parameter_name(name) is is_one
