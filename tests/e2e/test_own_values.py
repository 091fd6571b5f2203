"""A key may have a value and be a section (`$value`): written, merged, read, changed, exported."""

from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, body_of, fresh_name, fresh_secret

LEVELS = "logging.level.com.acme=INFO\nlogging.level.com.acme.billing=DEBUG\n"
LOG4J = """\
log4j.rootLogger=INFO, file
log4j.appender.file=org.apache.log4j.FileAppender
log4j.appender.file.layout=org.apache.log4j.PatternLayout
log4j.appender.file.layout.ConversionPattern=%d %m%n
"""


def test_log_levels_are_imported_read_and_exported(layer: Layer) -> None:
    body_of(layer.load(LEVELS, format="properties"))

    own = body_of(layer.get("logging.level.com.acme"))
    assert (own["value"], own["children"]) == ("INFO", True)
    below = body_of(layer.get("logging.level.com.acme.billing"))
    assert (below["value"], below["children"]) == ("DEBUG", False)
    section = body_of(layer.get("logging.level.com"))
    assert section["value"] == {"acme": {"$value": "INFO", "billing": "DEBUG"}}
    assert layer.export("properties").body.decode() == LEVELS
    assert layer.export("dotenv").body.decode() == (
        "LOGGING_LEVEL_COM_ACME=INFO\nLOGGING_LEVEL_COM_ACME_BILLING=DEBUG\n"
    )


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_of_log4j_comes_back_line_for_line(layer: Layer, order: int) -> None:
    lines = LOG4J.splitlines(keepends=True)[::order]

    body_of(layer.load("".join(lines), format="properties"))

    exported = layer.export("properties").body.decode().splitlines(keepends=True)
    assert sorted(exported) == sorted(lines)
    assert body_of(layer.load("".join(lines), format="properties"))["documents"][0]["status"] == (
        "unchanged"
    )


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_an_export_brings_both_to_another_layer(layer: Layer, form: str) -> None:
    body_of(layer.load("a: 1\na.b: 2\nc: {$value: x, d: null}\n"))
    other = layer.at(service=fresh_name())

    body_of(other.load(layer.export(form).body, format=form))

    expected = {"a": {"$value": 1, "b": 2}, "c": {"$value": "x", "d": None}}
    assert body_of(layer.document())["config_data"] == expected
    assert body_of(other.document())["config_data"] == expected


def test_an_import_adds_the_other_half(layer: Layer) -> None:
    layer.create_document({"a": {"b": 1}, "c": 1})

    body_of(layer.load("a=0\nc.d=2\n", format="properties"))

    assert body_of(layer.document())["config_data"] == {
        "a": {"$value": "0", "b": 1},
        "c": {"$value": 1, "d": "2"},
    }


def test_no_write_makes_both_unless_it_says_so(layer: Layer) -> None:
    layer.create_document({"a": {"b": 1}, "c": 1})

    for answer in (
        layer.create("a", 2),
        layer.put("a", 2),
        layer.patch(set={"a": 2}),
        layer.create("c.d", 2),
        layer.patch(set={"c": {"d": 2}}),
        layer.put("c", {"d": 2}),
        layer.put_document({"a": 1, "a.b": 2}),
    ):
        assert body_of(answer, 409)["code"] == "key_conflict"
    assert body_of(layer.document())["version"] == 1


def test_what_says_so_sets_the_value_and_leaves_the_rest(layer: Layer) -> None:
    layer.create_document({"a": {"b": 1}, "c": 1, "d": {"e": 1}})

    body_of(layer.create("a", {"$value": 2}), 201)
    body_of(layer.patch(set={"c": {"$value": 2, "x": 3}}))
    body_of(layer.put("d", {"$value": 4}))

    assert body_of(layer.document())["config_data"] == {
        "a": {"b": 1, "$value": 2},
        "c": {"$value": 2, "x": 3},
        "d": {"e": 1, "$value": 4},
    }
    assert body_of(layer.create("a", {"$value": 2}), 409)["code"] == "key_exists"
    assert body_of(layer.create("a", 2), 409)["code"] == "key_exists"


def test_once_there_are_both_each_is_written_alone(layer: Layer) -> None:
    layer.create_document({"a": {"$value": 1, "b": 2}})

    assert body_of(layer.put("a", 5))["value"] == 5
    body_of(layer.patch(set={"a.b": 3}))
    assert body_of(layer.document())["config_data"] == {"a": {"$value": 5, "b": 3}}

    body_of(layer.put("a", {"c": 4}))
    assert body_of(layer.document())["config_data"] == {"a": {"$value": 5, "c": 4}}

    assert layer.delete("a[$value]").status == 204
    assert body_of(layer.document())["config_data"] == {"a": {"c": 4}}
    assert layer.delete("a[$value]").status == 404

    body_of(layer.patch(set={"a": {"$value": 7}}))
    body_of(layer.patch(unset=["a"]))
    assert body_of(layer.document())["config_data"] == {}


@pytest.mark.parametrize(
    "data", [{"$value": 1}, {"a": {"$value": {"b": 1}}}, {"a": {"$value": {"$value": 1}}}]
)
def test_a_value_of_another_shape_is_refused(layer: Layer, data: Any) -> None:
    answers = [layer.create_document(data), layer.patch(set=data)]

    assert {body_of(answer, 422)["code"] for answer in answers} == {"bad_member"}
    assert layer.get("a[$value]").status == 422


def test_layers_keep_both_where_one_says_so(layer: Layer) -> None:
    base = layer.at(environment="default")
    base.create_document({"log": {"$value": "INFO", "billing": "DEBUG"}, "x": {"y": 1}, "z": 1})
    layer.create_document({"log": "WARN", "x": {"$value": 0}, "z": {"$value": 2, "deep": 3}})

    merged = body_of(layer.effective())
    assert merged["data"] == {
        "log": {"$value": "WARN", "billing": "DEBUG"},
        "x": {"y": 1, "$value": 0},
        "z": {"$value": 2, "deep": 3},
    }
    assert merged["sources"]["log"]["environment"] == layer.environment
    assert merged["sources"]["log.billing"]["environment"] == "default"
    assert body_of(layer.get("log"))["children"] is True

    body_of(layer.put("log", None))
    assert body_of(layer.effective())["data"]["log"] is None


def test_profiles_of_one_file_keep_both_as_spring_does(layer: Layer) -> None:
    base = layer.at(environment="default")
    text = "log.acme: INFO\nlog.io.x: 1\n---\nspring.config.activate.on-profile: E\n"
    text += "log.acme.billing: DEBUG\nlog.io: WARN\n"

    body_of(base.load(text.replace("E\n", f"{layer.environment}\n", 1)))

    assert body_of(layer.effective())["data"]["log"] == {
        "acme": {"$value": "INFO", "billing": "DEBUG"},
        "io": {"x": 1, "$value": "WARN"},
    }


def test_history_and_rollback_of_the_value_leave_the_rest_alone(layer: Layer) -> None:
    layer.create_document({"a": {"$value": 1, "b": 1}})
    body_of(layer.put("a.b", 2))
    body_of(layer.put("a", 2))

    values = [(item["version"], item["value"]) for item in body_of(layer.history("a"))["items"]]
    assert values == [(3, 2), (1, 1)]
    assert body_of(layer.diff())["changed"] == {"a": {"old": 1, "new": 2}}
    assert body_of(layer.get("a", version=1))["value"] == 1
    assert body_of(layer.rollback("a", 1))["value"] == 1
    assert body_of(layer.document())["config_data"] == {"a": {"$value": 1, "b": 2}}


def test_what_was_removed_as_a_whole_comes_back_as_a_whole(layer: Layer) -> None:
    layer.create_document({"a": {"$value": 1, "b": 1}, "c": 1})
    layer.delete("a")

    body_of(layer.rollback("a", 1))

    assert body_of(layer.document())["config_data"]["a"] == {"$value": 1, "b": 1}


def test_a_value_beside_others_may_be_a_secret(layer: Layer) -> None:
    secret = fresh_secret()
    layer.create_document({"a": {"$value": {"$secret": {"value": secret}}, "b": "plain"}})
    body_of(layer.put("a.b", "plain too"))

    assert secret.encode() not in layer.of.backend.stored_bytes()
    assert body_of(layer.get("a"))["value"] == MASK
    assert body_of(layer.effective())["data"] == {"a": {"$value": MASK, "b": "plain too"}}
    assert body_of(layer.get("a", reveal=True))["value"] == secret
    assert body_of(layer.effective(reveal=True))["data"] == {
        "a": {"$value": secret, "b": "plain too"}
    }
    # What lies beside it was never in it, and stays readable.
    assert body_of(layer.get("a.b", version=1))["value"] == "plain"
    body_of(layer.put_document(body_of(layer.document())["config_data"]))
    body_of(layer.rollback_document(1))
    assert body_of(layer.document())["config_data"] == {"a": {"$value": MASK, "b": "plain"}}
    assert body_of(layer.put("a", "other"))["value"] == MASK


def test_lists_of_keys_name_both(layer: Layer) -> None:
    layer.create_document({"a": {"$value": 1, "b": 2}})

    listed = body_of(layer.keys())["items"]
    assert [(item["key"], item["value"], item["children"]) for item in listed] == [
        ("a", 1, True),
        ("a.b", 2, False),
    ]
    assert [item["value"] for item in body_of(layer.keys(key="a"))["items"]] == [1]


def test_both_doors_answer_the_same(layer: Layer) -> None:
    layer.create_document({"a": {"$value": 1, "b": 2}, "l": [{"p": 1}]})
    layer.effective()

    for key, named in (("a", "a"), ("l.0.p", "l[0].p")):
        hot = body_of(layer.get(key))
        slow = body_of(layer.of.get("/api/v1/config/-", key=named, **layer.names))
        assert hot == slow
