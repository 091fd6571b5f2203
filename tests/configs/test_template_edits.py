"""What the use of a template makes of a document, and what the document remembers of it. Pure."""

import json

import pytest
from hypothesis import assume, given

from app.configs.documents.edits import (
    ApplyTemplate,
    CreateDocument,
    DeleteDocument,
    FormerRendering,
    PatchKeys,
    RemoveKey,
    ReplaceDocument,
    ReplaceKey,
    RestoreVersion,
)
from app.configs.errors import BadKey, KeyConflict, WriteConflict
from app.configs.model import Body, Stamp, TemplateUse, decode, encode
from app.rules.errors import SecretInTemplate
from pilothouse_core.trees import SECRET, Tree, leaves
from tests.configs.test_edits import DOCUMENT, LEDGERS, PLAIN_TREES, Ledger, flat, ledger

FIRST: Tree = {"http": {"port": 80, "host": "a"}, "old": 1}
SECOND: Tree = {"http": {"port": 8080, "host": "a"}, "new": 2}
USE = TemplateUse(1, {"port": 80})
LATER = TemplateUse(2, {"port": 8080})


def use_first(name: str = "web") -> ApplyTemplate:
    return ApplyTemplate(name, USE, FIRST)


def upgrade(name: str = "web") -> ApplyTemplate:
    return ApplyTemplate(name, LATER, SECOND, FormerRendering(USE, FIRST))


def origins(made: Ledger) -> dict[str, str]:
    assert made.current is not None
    return {key: fact.template for key, fact in made.current.keys.items() if fact.template}


def current_data(made: Ledger) -> Tree:
    assert made.current is not None
    return made.current.data


def test_a_use_is_set_over_what_the_document_has_and_remembered() -> None:
    made = ledger(CreateDocument({"http.port": 1, "mine": True}), use_first())

    assert current_data(made) == {"http": {"port": 80, "host": "a"}, "mine": True, "old": 1}
    assert made.current is not None
    assert made.current.templates == {"web": USE}
    assert origins(made) == {"http.port": "web", "http.host": "web", "old": "web"}


def test_a_use_creates_a_document_that_does_not_exist() -> None:
    for made in (ledger(), ledger(CreateDocument({"gone": 1}), DeleteDocument())):
        made.apply(use_first())

        assert made.current is not None
        assert made.current.change.action == "created"
        assert made.current.data == FIRST


def test_an_upgrade_changes_what_was_not_changed_by_hand() -> None:
    made = ledger(use_first(), PatchKeys({"http.host": "by hand", "mine": 1}), upgrade())

    assert current_data(made) == {"http": {"port": 8080, "host": "by hand"}, "mine": 1, "new": 2}
    assert made.current is not None
    assert made.current.templates == {"web": LATER}
    assert origins(made) == {"http.port": "web", "new": "web"}


def test_what_was_removed_by_hand_stays_removed() -> None:
    made = ledger(use_first(), RemoveKey("http.port"), upgrade())

    assert current_data(made) == {"http": {"host": "a"}, "new": 2}


def test_a_key_of_no_rendering_any_more_stays_if_it_was_changed_by_hand() -> None:
    made = ledger(use_first(), ReplaceKey("old", 5), upgrade())

    assert current_data(made)["old"] == 5
    assert "old" not in origins(made)


def test_a_key_that_already_had_the_value_comes_from_the_template_from_then_on() -> None:
    made = ledger(CreateDocument(FIRST), use_first())

    assert origins(made) == {"http.port": "web", "http.host": "web", "old": "web"}
    assert made.current is not None
    assert made.current.keys["old"].version == 1  # it was not changed


def test_the_same_use_again_writes_nothing() -> None:
    made = ledger(use_first())
    again = ApplyTemplate("web", USE, FIRST, FormerRendering(USE, FIRST))

    assert made.apply(again) is None


def test_another_version_with_the_same_rendering_is_remembered() -> None:
    made = ledger(use_first(), ApplyTemplate("web", LATER, FIRST, FormerRendering(USE, FIRST)))

    assert made.current is not None
    assert (made.current.version, made.current.templates) == (2, {"web": LATER})


def test_a_use_that_was_planned_on_another_one_is_refused() -> None:
    for made, edit in (
        (ledger(use_first()), use_first()),
        (ledger(use_first(), upgrade()), upgrade()),
        (ledger(CreateDocument({})), upgrade()),
        (ledger(use_first(), DeleteDocument()), upgrade()),
    ):
        with pytest.raises(WriteConflict):
            made.apply(edit)

    is_true = TemplateUse(1, {"port": True})
    one = ledger(ApplyTemplate("web", TemplateUse(1, {"port": 1}), FIRST))
    with pytest.raises(WriteConflict):
        one.apply(ApplyTemplate("web", LATER, SECOND, FormerRendering(is_true, FIRST)))


def test_two_templates_keep_to_their_own_keys() -> None:
    other = ApplyTemplate("log", USE, {"log": {"level": "info"}})
    made = ledger(use_first(), other, upgrade())

    assert current_data(made) == {**SECOND, "log": {"level": "info"}}
    assert made.current is not None
    assert made.current.templates == {"web": LATER, "log": USE}
    assert origins(made)["log.level"] == "log"


def test_every_other_write_keeps_what_is_known_of_templates() -> None:
    made = ledger(use_first(), PatchKeys({"mine": 1}), ReplaceDocument({"http.port": 80}))

    assert made.current is not None
    assert made.current.templates == {"web": USE}
    assert origins(made) == {"http.port": "web"}


def test_a_deleted_document_uses_no_template() -> None:
    made = ledger(use_first(), DeleteDocument())
    assert made.current is not None
    assert made.current.templates == {}

    made.apply(CreateDocument({"a": 1}))

    assert made.current.templates == {}


def test_a_rollback_brings_back_the_use_of_then() -> None:
    made = ledger(use_first(), PatchKeys({"http.host": "by hand"}), upgrade())
    made.apply(RestoreVersion.of(made.version(2)))

    assert made.current is not None
    assert made.current.templates == {"web": USE}
    assert origins(made) == {"http.port": "web", "old": "web"}
    made.apply(upgrade())
    assert current_data(made) == {"http": {"port": 8080, "host": "by hand"}, "new": 2}


@pytest.mark.parametrize(
    "tree",
    [
        {"a": {SECRET: {"value": "x"}}},
        {"a": {"b": [{"c": {SECRET: "masked"}}]}},
        {"a.b": {SECRET: {"value": "x"}}},
    ],
)
def test_no_secret_comes_from_a_template(tree: Tree) -> None:
    with pytest.raises(SecretInTemplate):
        ApplyTemplate("web", USE, tree)


def test_a_use_does_not_write_over_a_secret() -> None:
    secret = {SECRET: {"value": "hush"}}
    for before in ({"http.port": secret}, {"http.port": [{"a": secret}]}):
        made = ledger(CreateDocument(before))

        with pytest.raises(SecretInTemplate) as raised:
            made.apply(use_first())

        assert raised.value.facts["key"] == "http.port"


def test_a_key_that_has_become_a_secret_stays_one() -> None:
    made = ledger(use_first(), PatchKeys(encrypt=("http.port", "old")), upgrade())

    assert current_data(made)["http"]["port"] == {SECRET: "sealed-80", "fingerprint": "mark"}
    assert SECRET in current_data(made)["old"]


def test_a_first_use_is_refused_where_a_patch_would_be() -> None:
    with pytest.raises(KeyConflict):
        ledger(CreateDocument({"http": 1}), use_first())
    with pytest.raises(BadKey):
        ApplyTemplate("web", USE, {"a\n": 1})


@given(PLAIN_TREES, PLAIN_TREES, LEDGERS)
def test_what_a_write_by_hand_changes_no_upgrade_changes(
    first: Tree, second: Tree, made: Ledger
) -> None:
    assert made.current is not None
    by_hand = made.current.data
    version = Body(
        7,
        Stamp("i", "updated", "ann", "", "t"),
        "ann",
        "t",
        data=by_hand,
        templates={"mine": USE},
    )
    edit = ApplyTemplate("mine", LATER, second, FormerRendering(USE, first))

    draft = edit.apply(DOCUMENT, version)

    assert draft.data is not None
    after = flat(draft.data)
    for key, value in leaves(by_hand):
        if json.dumps(flat(first).get(key, "none")) != json.dumps(value):
            assert json.dumps(after[key]) == json.dumps(value)


@given(PLAIN_TREES, PLAIN_TREES)
def test_an_upgrade_without_changes_by_hand_is_as_the_new_version_alone(
    first: Tree, second: Tree
) -> None:
    made = ledger(ApplyTemplate("mine", USE, first))
    alone = ledger(ApplyTemplate("mine", LATER, second))
    assume(made.current is not None and alone.current is not None)

    made.apply(ApplyTemplate("mine", LATER, second, FormerRendering(USE, first)))

    assert current_data(made) == current_data(alone)


def test_a_document_without_templates_is_stored_as_ever() -> None:
    text = (
        '{"format":1,"version":1,"change":{"id":"i","kind":"created","actor":"ann","comment":"",'
        '"at":"t"},"created":{"by":"ann","at":"t"},"deleted":false,"data":{"a":1},'
        '"keys":{"a":{"version":1,"actor":"ann","at":"t"}}}'
    )

    assert encode(decode(text)) == text


def test_a_document_tells_its_templates_and_the_keys_that_are_theirs() -> None:
    made = ledger(use_first())
    assert made.current is not None

    stored = json.loads(encode(made.current))

    assert stored["templates"] == {"web": {"version": 1, "parameters": {"port": 80}, "at": ""}}
    assert stored["keys"]["old"]["from"] == "web"
    with pytest.raises((TypeError, KeyError)):
        decode(json.dumps({**stored, "templates": {"web": {"version": 1}}}))
