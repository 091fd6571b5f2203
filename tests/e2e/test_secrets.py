"""Secrets, over HTTP: masked wherever they are shown, ciphertext wherever they are kept."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, Service, body_of, fresh_secret
from tests.e2e.conftest import RealBackend
from tests.servers.answer import Answer


def reveal_secret(layer: Layer, key: str, **query: Any) -> Any:
    return body_of(layer.get(key, reveal=True, **query))["value"]


def create_secret(layer: Layer, value: Any, **more: Any) -> None:
    layer.create("password", value, is_encrypted=True, **more)


def put(layer: Layer, value: Any) -> None:
    layer.create("password", "first")
    layer.put("password", value, is_encrypted=True)


def encrypt_in_place(layer: Layer, value: Any) -> None:
    layer.create("password", value)
    layer.patch(encrypt=["password"])


def set_and_encrypted(layer: Layer, value: Any) -> None:
    layer.patch(set={"password": value}, encrypt=["password"])


def write_marked(layer: Layer, value: Any) -> None:
    layer.patch(set={"password": {"$secret": {"value": value}}})


def marked_in_a_document(layer: Layer, value: Any) -> None:
    layer.create_document({"password": {"$secret": {"value": value}}})


def marked_in_a_replaced_document(layer: Layer, value: Any) -> None:
    layer.create_document({})
    layer.put_document({"password": {"$secret": {"value": value}}})


def marked_in_a_created_key(layer: Layer, value: Any) -> None:
    layer.create("password", {"$secret": {"value": value}})


def marked_in_a_file(layer: Layer, value: Any) -> None:
    layer.load(json.dumps({"password": {"$secret": {"value": value}}}), format="json")


WAYS = [
    create_secret,
    put,
    encrypt_in_place,
    set_and_encrypted,
    write_marked,
    marked_in_a_document,
    marked_in_a_replaced_document,
    marked_in_a_created_key,
    marked_in_a_file,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_key_can_become_a_secret(layer: Layer, way: Callable[[Layer, Any], None]) -> None:
    value = fresh_secret()

    way(layer, value)

    found = body_of(layer.get("password"))
    assert (found["value"], found["is_encrypted"]) == (MASK, True)
    assert reveal_secret(layer, "password") == value
    assert value.encode() not in layer.of.backend.stored_bytes() or way in {put, encrypt_in_place}


@pytest.mark.parametrize("value", ["", "pass wörd\n", 0, False, None, [1, "a"]], ids=repr)
def test_every_value_can_be_a_secret(layer: Layer, value: Any) -> None:
    create_secret(layer, value)

    assert body_of(layer.get("password"))["value"] == MASK
    assert reveal_secret(layer, "password") == value


def test_a_whole_object_can_be_one_secret(layer: Layer) -> None:
    layer.patch(set={"login": {"$secret": {"value": {"user": "root", "tries": [1, 2]}}}})

    assert body_of(layer.get("login"))["value"] == MASK
    assert layer.get("login.user").status == 404
    assert reveal_secret(layer, "login") == {"user": "root", "tries": [1, 2]}


def test_a_section_encrypted_is_a_secret_in_each_of_its_keys(layer: Layer) -> None:
    layer.create("login", {"user": "root", "try": {"most": 3}}, is_encrypted=True)

    found = body_of(layer.get("login"))

    assert found["value"] == {"user": MASK, "try": {"most": MASK}}
    assert found["is_encrypted"] is True
    assert reveal_secret(layer, "login") == {"user": "root", "try": {"most": 3}}
    assert reveal_secret(layer, "login.try.most") == 3


def test_a_secret_stays_one_when_it_is_replaced(layer: Layer) -> None:
    create_secret(layer, "old")
    value = fresh_secret()

    replaced = body_of(layer.put("password", value))

    assert (replaced["value"], replaced["is_encrypted"]) == (MASK, True)
    assert reveal_secret(layer, "password") == value
    assert value.encode() not in layer.of.backend.stored_bytes()


def test_a_secret_stays_one_when_its_document_is_replaced(layer: Layer) -> None:
    create_secret(layer, "old")
    value = fresh_secret()

    replaced = body_of(layer.put_document({"password": value, "open": 1}))

    assert replaced["config_data"] == {"password": MASK, "open": 1}
    assert reveal_secret(layer, "password") == value


def test_a_secret_stays_one_when_it_is_patched(layer: Layer) -> None:
    create_secret(layer, "old")
    value = fresh_secret()

    body_of(layer.patch(set={"password": value}))
    body_of(layer.patch(unset=["password"], set={"password": value}))

    assert body_of(layer.get("password"))["value"] == MASK
    assert value.encode() not in layer.of.backend.stored_bytes()


def test_a_secret_stops_being_one_only_when_told_so(layer: Layer) -> None:
    create_secret(layer, "old")

    replaced = body_of(layer.put("password", "plain", is_encrypted=False))

    assert (replaced["value"], replaced["is_encrypted"]) == ("plain", False)
    assert body_of(layer.get("password"))["value"] == "plain"


def test_a_masked_value_sent_back_keeps_the_secret(layer: Layer) -> None:
    value = fresh_secret()
    layer.create_document({"db": {"password": {"$secret": {"value": value}}, "host": "a"}})
    document = body_of(layer.document())["config_data"]
    document["db"]["host"] = "b"

    body_of(layer.put_document(document))
    body_of(layer.put("db", {"password": MASK, "host": "c"}))
    body_of(layer.patch(set={"db.password": MASK, "db.host": "d"}))
    body_of(layer.put("db.password", MASK))

    assert body_of(layer.document())["config_data"] == {"db": {"password": MASK, "host": "d"}}
    assert reveal_secret(layer, "db.password") == value
    history = body_of(layer.history("db.password"))["items"]
    assert [item["version"] for item in history] == [1]


@pytest.mark.parametrize(
    "send",
    [
        lambda layer: layer.create("b", MASK),
        lambda layer: layer.put("a", MASK),
        lambda layer: layer.patch(set={"a": MASK}),
        lambda layer: layer.patch(set={"b": MASK}),
        lambda layer: layer.put_document({"a": MASK}),
        lambda layer: layer.put_document({"b": {"c": MASK}}),
        lambda layer: layer.load('{"a": {"$secret": "masked"}}', format="json"),
    ],
)
def test_a_mask_where_nothing_is_secret_is_refused(
    layer: Layer, send: Callable[[Layer], Answer]
) -> None:
    layer.create("a", 1)

    problem = body_of(send(layer), 422)

    assert problem["code"] == "nothing_masked"
    assert body_of(layer.document())["version"] == 1


def test_a_mask_of_another_layer_is_refused(layer: Layer) -> None:
    create_secret(layer.at(environment="default"), "below")

    problem = body_of(layer.create("password", MASK), 422)

    assert problem["code"] == "nothing_masked"


@pytest.mark.parametrize(
    "value",
    [
        {"$secret": "vault:v1:abc"},
        {"$secret": {"value": 1, "more": 2}},
        {"$secret": {}},
        {"$secret": None},
        {"$secret": {"value": 1}, "other": 2},
        {"$secret": "masked", "other": 2},
        [{"$secret": {"value": 1}, "other": 2}],
        [{"$secret": "vault:v1:abc"}],
        {"$secret": {"value": {"$secret": {"value": 1}}}},
        [[{"$value": 1}]],
    ],
    ids=json.dumps,
)
def test_any_other_use_of_a_reserved_member_is_refused(layer: Layer, value: Any) -> None:
    layer.create("b", 1, is_encrypted=True)
    answers = [
        layer.create("a", value),
        layer.create("a", value, is_encrypted=True),
        layer.put("b", value),
        layer.put("b", value, is_encrypted=False),
        layer.patch(set={"a": value}),
        layer.put_document({"a": value}),
        layer.at(environment="default").create_document({"a": value}),
        layer.load(json.dumps({"a": value}), format="json"),
    ]

    codes = {body_of(answer, 422)["code"] for answer in answers}

    assert codes <= {"bad_member", "bad_key"}
    assert body_of(layer.document())["version"] == 1


def test_a_revealed_answer_is_kept_by_nobody(layer: Layer) -> None:
    create_secret(layer, "secret")

    answers = [layer.get("password", reveal=True), layer.effective(reveal=True)]

    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
        assert int(answer.headers["X-Revision"]) > 0


def test_a_revealed_answer_is_given_also_to_who_knows_the_masked_one(layer: Layer) -> None:
    create_secret(layer, "secret")
    tag = layer.get("password").headers["ETag"]

    answer = layer.get("password", reveal=True, headers={"If-None-Match": tag})

    assert body_of(answer)["value"] == "secret"


def test_each_reveal_is_audited(layer: Layer) -> None:
    layer.patch(set={"a": 1, "b.c": 2, "d": 3}, encrypt=["a", "b.c"])

    requests = [
        layer.get("a", reveal=True),
        layer.get("b", reveal=True),
        layer.effective(reveal=True),
        layer.get("a", reveal=True, resolve=False),
        layer.get("a", reveal=True, version=1),
    ]

    rows = [layer.of.backend.audit(answer.headers["X-Request-Id"]) for answer in requests]
    assert [[row["action"] for row in each] for each in rows] == [["revealed"]] * 5
    assert [sorted(each[0]["facts"]["keys"]) for each in rows] == [
        ["a"],
        ["b.c"],
        ["a", "b.c"],
        ["a"],
        ["a"],
    ]
    assert {(row["environment"], row["name"]) for each in rows for row in each} == {
        (layer.environment, layer.service)
    }


def test_nothing_is_audited_where_nothing_was_secret(layer: Layer) -> None:
    layer.create("a", 1)

    answer = layer.get("a", reveal=True)

    assert body_of(answer)["value"] == 1
    assert layer.of.backend.audit(answer.headers["X-Request-Id"]) == []


def test_every_write_is_audited(layer: Layer) -> None:
    answer = layer.create("a", 1)

    (row,) = layer.of.backend.audit(answer.headers["X-Request-Id"])

    assert (row["action"], row["version"]) == ("created", 1)
    assert row["revision"] == int(answer.headers["X-Revision"])


def test_the_effective_configuration_reveals_the_secrets_of_every_layer(layer: Layer) -> None:
    base, mine = layer.at(environment="default"), layer.at(user="ann")
    for number, each in enumerate([base, layer, mine]):
        each.patch(set={f"k{number}": f"v{number}", "same": number}, encrypt=[f"k{number}", "same"])

    masked = body_of(mine.effective())["data"]
    plain = body_of(mine.effective(reveal=True))["data"]

    names = ("k0", "k1", "k2", "same")
    assert {name: masked[name] for name in names} == dict.fromkeys(names, MASK)
    assert {name: plain[name] for name in names} == {"k0": "v0", "k1": "v1", "k2": "v2", "same": 2}


def test_earlier_plain_values_of_a_secret_are_masked_too(layer: Layer) -> None:
    layer.create("a", "plain then")
    layer.patch(encrypt=["a"])
    layer.put("a", "plain now", is_encrypted=False)

    history = body_of(layer.history("a"))["items"]

    assert [item["value"] for item in history] == ["plain now", MASK, MASK]
    assert [item["is_encrypted"] for item in history] == [False, True, True]
    assert body_of(layer.get("a", version=1))["value"] == MASK
    assert body_of(layer.document(version=1))["config_data"] == {"a": MASK}
    assert body_of(layer.diff(1, 3))["changed"] == {"a": {"old": MASK, "new": "plain now"}}


def test_earlier_plain_values_stay_masked_when_the_secret_is_gone(layer: Layer) -> None:
    layer.create("a.b", "plain then")
    layer.patch(encrypt=["a"])
    layer.delete("a")
    layer.delete_document()

    assert [item["value"] for item in body_of(layer.history("a.b"))["items"]] == [None, MASK, MASK]
    assert body_of(layer.document(version=1))["config_data"] == {"a": {"b": MASK}}


def test_an_earlier_value_can_be_revealed(layer: Layer) -> None:
    layer.create("a", "plain then")
    layer.patch(encrypt=["a"])
    layer.put("a", "later")

    assert [reveal_secret(layer, "a", version=version) for version in (1, 2, 3)] == [
        "plain then",
        "plain then",
        "later",
    ]
    answer = layer.get("a", version=1, reveal=True)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    (row,) = layer.of.backend.audit(answer.headers["X-Request-Id"])
    assert row["facts"]["keys"] == ["a"]


def test_a_rollback_never_makes_a_secret_plain(layer: Layer) -> None:
    plain = fresh_secret()
    layer.create("a", plain)
    layer.patch(encrypt=["a"])
    layer.put("a", "other")

    by_key = body_of(layer.rollback("a", 1))
    by_document = body_of(layer.rollback_document(1))

    assert by_key["value"] == MASK
    assert by_document["config_data"] == {"a": MASK}
    assert reveal_secret(layer, "a") == plain
    assert plain not in layer.document().body.decode()


def test_a_secret_rolled_back_is_the_secret_it_was(layer: Layer) -> None:
    create_secret(layer, "one")
    layer.put("password", "two")

    body_of(layer.rollback("password", 1))

    assert reveal_secret(layer, "password") == "one"


def test_a_changed_secret_is_named_as_changed_and_shown_masked(layer: Layer) -> None:
    layer.patch(set={"a": "one", "same": "x", "plain": 1}, encrypt=["a", "same"])
    layer.patch(set={"a": "two", "plain": 2, "new": "n"}, encrypt=["new"])
    layer.patch(unset=["same"])

    assert body_of(layer.diff(1, 2))["changed"] == {
        "a": {"old": MASK, "new": MASK},
        "plain": {"old": 1, "new": 2},
    }
    assert body_of(layer.diff(1, 2))["added"] == {"new": MASK}
    assert body_of(layer.diff(2, 3))["removed"] == {"same": MASK}


def test_no_fingerprint_is_shown_to_who_was_not_given_the_right(layer: Layer) -> None:
    create_secret(layer, "secret")

    answers = [layer.get("password"), layer.document(), layer.effective(), layer.keys()]

    assert all(b"fingerprint" not in answer.body for answer in answers)


def every_word_about(layer: Layer) -> bytes:
    """Return whatever the service says of a layer without being asked to reveal."""
    service = layer.of
    accepts = ["application/yaml", "text/x-dotenv", "text/x-java-properties"]
    answers = [
        layer.get("a"),
        layer.get("a", resolve=False),
        layer.get("a", version=1),
        layer.get("section"),
        layer.keys(),
        layer.keys(keys=["a", "section"]),
        service.call("POST", "/api/v1/config/bulk", {**layer.names, "keys": ["a", "section"]}),
        layer.effective(),
        *(layer.effective(headers={"Accept": accept}) for accept in accepts),
        layer.history("a"),
        layer.history("section"),
        layer.document(),
        layer.document(version=1),
        layer.document_history(),
        layer.diff(1, 2),
        service.get("/api/configs", limit=1000),
        *(layer.export(form) for form in ("json", "yaml", "properties", "dotenv")),
        service.get("/api/v1/changes", environment=layer.environment),
        service.get("/metrics"),
        service.get("/health"),
        service.get("/stats"),
    ]
    assert {answer.status for answer in answers} == {200}
    return b"\n".join(b"%s\n%s" % (str(answer.headers).encode(), answer.body) for answer in answers)


def test_a_secret_is_seen_nowhere(layer: Layer) -> None:
    a, b, c, d = secrets = [fresh_secret() for _ in range(4)]
    layer.create("a", a, is_encrypted=True, comment="made")
    layer.patch(
        set={"section.b": b, "section.c.d": {"$secret": {"value": [c]}}}, encrypt=["section"]
    )
    layer.put("a", d)
    wrong = [
        layer.create("a", a, is_encrypted=True),
        layer.create("a.b", b, is_encrypted=True),
        layer.create("bad\tkey", {"$secret": {"value": c}}),
        layer.patch(set={"x": {"$secret": {"value": c}, "y": d}}),
        layer.put("missing", d, is_encrypted=True),
        layer.put("a", {"$secret": {"value": d, "x": a}}),
        layer.put_document({"a": [{"$secret": a}], "b": b}),
        layer.load(f"a: {a}\na: {b}", format="yaml"),
        layer.load(f"a={a}\na={b}", format="properties"),
        layer.of.call("POST", "/api/v1/config", {"key": "k", "value": a, "is_encrypted": b}),
    ]
    statuses = [answer.status for answer in wrong]

    said = every_word_about(layer) + b"".join(answer.body for answer in wrong)
    logged = layer.of.process.log().encode()
    kept = layer.of.backend.stored_bytes()

    assert all(400 <= status < 500 for status in statuses), statuses
    assert [secret for secret in secrets if secret.encode() in said] == []
    assert [secret for secret in secrets if secret.encode() in logged] == []
    assert [secret for secret in secrets if secret.encode() in kept] == []


def test_a_plain_value_is_in_no_log_line_and_no_row_of_the_change_log(layer: Layer) -> None:
    value = fresh_secret()
    layer.create("a", value)
    layer.put("a", [value])
    layer.create("a", value)

    said = b"".join(
        layer.of.get(path).body for path in ("/metrics", "/api/v1/changes", "/health", "/stats")
    )

    assert value not in layer.of.process.log()
    assert value.encode() not in said
    assert value not in json.dumps(layer.changes())


def test_an_import_shows_what_it_does_to_secrets_masked(layer: Layer) -> None:
    secret = fresh_secret()
    layer.patch(set={"a": "one"}, encrypt=["a"])
    text = json.dumps({"a": secret, "b": {"$secret": {"value": secret}}})

    answers = [layer.load(text, format="json", dry_run=dry_run) for dry_run in (True, False)]

    for answer in answers:
        changes = body_of(answer)["documents"][0]["changes"]
        assert changes == {
            "added": {"b": MASK},
            "removed": {},
            "changed": {"a": {"old": MASK, "new": MASK}},
        }
    assert reveal_secret(layer, "a") == secret


def test_old_versions_can_be_revealed_after_the_key_was_rotated(real: Service) -> None:
    layer, backend = real.layer(), real.backend
    assert isinstance(backend, RealBackend)
    layer.create("a", "one", is_encrypted=True)
    transit = f"transit/keys/{backend.prefix}-{layer.environment}"

    status, _ = backend.vault.api("POST", f"{transit}/rotate")
    layer.put("a", "two")
    layer.create("b", "three", is_encrypted=True)

    assert status == 200
    texts = backend.stored_bytes()
    assert b"vault:v1:" in texts
    assert b"vault:v2:" in texts
    assert reveal_secret(layer, "a", version=1) == "one"
    assert body_of(layer.effective(reveal=True))["data"]["a"] == "two"
    body_of(layer.rollback("a", 1))
    assert reveal_secret(layer, "a") == "one"


def test_each_environment_has_a_transit_key_of_its_own(real: Service) -> None:
    layer, backend = real.layer(), real.backend
    assert isinstance(backend, RealBackend)
    other = layer.at(environment=real.layer().environment)
    for each in (layer, other):
        each.create("a", "one", is_encrypted=True)

    statuses = [
        backend.vault.api("GET", f"transit/keys/{backend.prefix}-{each.environment}")[0]
        for each in (layer, other)
    ]

    assert statuses == [200, 200]
