"""What edits make of a document, and what becomes of its secrets: pure, hence exhaustively."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.configs.documents.edit_json import edit_from_json, edit_to_json
from app.configs.documents.edits import (
    ApplyTemplate,
    CreateDocument,
    CreateKey,
    DeleteDocument,
    Edit,
    FormerRendering,
    PatchKeys,
    RemoveKey,
    ReplaceDocument,
    ReplaceKey,
    RestoreKey,
    RestoreVersion,
    WriteTombstone,
)
from app.configs.documents.key_facts import key_facts
from app.configs.documents.members import tree_of
from app.configs.errors import (
    BadKey,
    BadMember,
    DocumentExists,
    DocumentNotFound,
    KeyConflict,
    KeyExists,
    KeyNotFound,
    NothingMasked,
    VersionIsDeletion,
)
from app.configs.model import Body, DocumentId, Stamp, TemplateUse, decode, encode
from app.configs.removals import DROPPED, REMOVALS_ROOM, removals_size
from app.configs.secrets import (
    MASK,
    ToSeal,
    hidden_keys,
    holds_secret,
    mask_history,
    mask_secrets,
    masked_diff,
    put_sealed,
    receive_tree,
    stored_secret,
    values_to_seal,
)
from app.errors import PilothouseError
from pilothouse_core.trees import SECRET, Tree, contains_key, is_secret, leaves, node_at

DOCUMENT = DocumentId("production", "orders")
MASKED = {SECRET: MASK}
SEALED = stored_secret("sealed-text", "mark")


def seal_secrets(data: Tree) -> Tree:
    """Put a ciphertext where the write path would."""
    texts = [
        stored_secret(f"sealed-{json.dumps(leaf.value)}", "mark")
        for *_, leaf in values_to_seal(data)
    ]
    result: Tree = put_sealed(data, iter(texts))
    return result


@dataclass
class Ledger:
    """The versions of one document, as the write path would make them."""

    bodies: list[Body] = field(default_factory=list)
    keep: int = 200
    room: int = REMOVALS_ROOM

    @property
    def current(self) -> Body | None:
        return self.bodies[-1] if self.bodies else None

    def version(self, number: int) -> Body:
        return self.bodies[number - 1]

    def apply(self, edit: Edit) -> Body | None:
        """Write what an edit makes of the current version; None when that is nothing."""
        base = self.current
        draft = edit.apply(DOCUMENT, base)
        if draft.data is None:
            return None
        data, version = seal_secrets(draft.data), len(self.bodies) + 1
        facts = key_facts(
            base,
            data,
            version,
            "ann",
            f"t{version}",
            self.keep,
            origins=draft.origins,
            room=self.room,
        )
        stamp = Stamp(f"i{version}", draft.action, "ann", "", f"t{version}")
        body = Body(
            version,
            stamp,
            "ann",
            "t1",
            draft.deleted,
            data,
            facts,
            templates=draft.templates_after(base),
        )
        self.bodies.append(body)
        return body


def ledger(*edits: Edit) -> Ledger:
    made = Ledger()
    for edit in edits:
        made.apply(edit)
    return made


def flat(data: Mapping[str, Any]) -> dict[str, Any]:
    return dict(leaves(data))


def is_coherent(members: Mapping[str, Any]) -> bool:
    try:
        tree_of(members)
    except KeyConflict:
        return False
    return True


# Few names, so that edits meet: as values, as sections and as secrets.
NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["a", "a.b", "a.b.c", "b", "b.a"])
PLAIN: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(0, 3), st.just([1]), st.builds(dict)
)
LEAVES = st.one_of(
    PLAIN, st.builds(lambda value: {SECRET: {"value": value}}, PLAIN), st.just(MASKED)
)
MEMBERS = st.dictionaries(KEYS, LEAVES, max_size=4).filter(is_coherent)
STORED = st.recursive(
    st.one_of(PLAIN, st.just(SEALED)), lambda inner: st.dictionaries(NAMES, inner), max_leaves=6
).filter(lambda value: isinstance(value, dict) and not is_secret(value))


FLAGS = st.sampled_from([None, True, False])
SOME_KEYS = st.lists(KEYS, max_size=2).map(tuple)
EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(PatchKeys, MEMBERS, SOME_KEYS, SOME_KEYS),
    st.builds(CreateKey, KEYS, LEAVES, st.booleans()),
    st.builds(ReplaceKey, KEYS, LEAVES, FLAGS),
    st.builds(RemoveKey, KEYS),
    st.just(DeleteDocument()),
)


@dataclass(frozen=True)
class Rollback:
    """To some earlier version, of one key or of all."""

    key: str | None
    number: int

    def edit(self, made: Ledger) -> Edit:
        old = made.bodies[self.number % len(made.bodies)]
        return RestoreVersion.of(old) if self.key is None else RestoreKey.of(self.key, old)


@dataclass(frozen=True)
class Use:
    """Of a template, whatever the document has used before."""

    name: str
    use: TemplateUse
    tree: Tree

    def edit(self, made: Ledger) -> Edit:
        former = None
        if made.current is not None and self.name in made.current.templates:
            used = made.current.templates[self.name]
            former = FormerRendering(used, used.parameters["tree"])
        return ApplyTemplate(self.name, self.use, self.tree, former)


# The rendering is the parameter, so that a former one is known again.
PLAIN_TREES = st.dictionaries(KEYS, PLAIN, max_size=4).filter(is_coherent).map(tree_of)
USES = st.builds(
    lambda name, version, tree: Use(name, TemplateUse(version, {"tree": tree}), tree),
    st.sampled_from(["one", "two"]),
    st.integers(1, 3),
    PLAIN_TREES,
)
STEPS = st.lists(
    st.one_of(EDITS, USES, st.builds(Rollback, st.one_of(st.none(), KEYS), st.integers(0, 7))),
    max_size=9,
)


def after(steps: Sequence[Edit | Rollback | Use], room: int = REMOVALS_ROOM) -> Ledger:
    """Make a document by these steps, of which those that are refused change nothing."""
    made = Ledger(room=room)
    made.apply(CreateDocument({"a.b": 1, "b": {}}))
    for step in steps:
        with suppress(PilothouseError):
            made.apply(step.edit(made) if isinstance(step, Rollback | Use) else step)
    return made


LEDGERS = STEPS.map(after)
# Whose room for removed keys holds none of them, one or a few.
CRAMPED = st.builds(after, STEPS, st.sampled_from([0, 1080, 1200]))


def outcome(edit: Edit, body: Body | None) -> object:
    try:
        return edit.apply(DOCUMENT, body)
    except PilothouseError as error:
        return type(error)


@given(LEDGERS, EDITS)
def test_an_edit_leaves_the_version_it_is_based_on_as_it_was(made: Ledger, edit: Edit) -> None:
    before = copy.deepcopy(made.current)

    first = outcome(edit, made.current)
    second = outcome(edit, made.current)

    assert made.current == before
    assert first == second


@given(LEDGERS)
def test_the_facts_tell_in_which_version_each_key_last_changed(made: Ledger) -> None:
    changed: dict[str, int] = {}
    before: dict[str, Any] = {}
    for body in made.bodies:
        now = flat(body.data)
        for key in now.keys() | before.keys():
            if json.dumps(now.get(key, "absent")) != json.dumps(before.get(key, "absent")):
                changed[key] = body.version
        before = now

    assert made.current is not None
    facts = made.current.keys
    assert {key: fact.version for key, fact in facts.items()} == changed
    assert {key for key, fact in facts.items() if not fact.removed} == before.keys()
    assert all(fact.at == f"t{fact.version}" for fact in facts.values())


def are_related(one: str, other: str) -> bool:
    """Tell whether they are the same key or one lies in the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


@given(LEDGERS)
def test_a_plain_value_is_masked_once_its_key_is_a_secret_and_only_then(made: Ledger) -> None:
    assert made.current is not None
    for body in made.bodies:
        later = [
            key
            for other in made.bodies[body.version - 1 :]
            for key, leaf in leaves(other.data)
            if is_secret(leaf)
        ]
        plain = [key for key, leaf in leaves(body.data) if not is_secret(leaf)]

        expected = {key for key in plain if any(are_related(key, secret) for secret in later)}

        assert hidden_keys(body, made.current) == expected


@given(CRAMPED)
def test_what_was_a_secret_is_masked_though_its_removal_is_no_longer_remembered(
    made: Ledger,
) -> None:
    assert made.current is not None
    for body in made.bodies:
        shown = flat(mask_history(body, made.current, fingerprints=False))
        secrets = {
            key
            for other in made.bodies[body.version - 1 :]
            for key, leaf in leaves(other.data)
            if is_secret(leaf)
        }
        for key, leaf in shown.items():
            is_protected = any(are_related(key, secret) for secret in secrets)
            assert leaf == MASKED or not is_protected, (body.version, key)


@given(CRAMPED)
def test_the_facts_of_removed_keys_stay_in_their_room(made: Ledger) -> None:
    for body in made.bodies:
        others = {key: fact for key, fact in body.keys.items() if key != DROPPED}
        assert removals_size(others) <= made.room
        assert {key for key, fact in others.items() if not fact.removed} == flat(body.data).keys()


def test_removals_of_former_secrets_are_remembered_longest() -> None:
    numbers = range(60)
    made = Ledger(room=2200)
    made.apply(CreateDocument({f"k{number}": {SECRET: {"value": 1}} for number in numbers[:3]}))
    made.apply(ReplaceDocument({f"k{number}": number for number in numbers[3:]}))
    made.apply(ReplaceDocument({"last": 1}))

    assert made.current is not None
    facts = made.current.keys
    assert {key for key, fact in facts.items() if fact.secret_until} == {"k0", "k1", "k2"}
    assert facts[DROPPED].version == 3
    assert 4 < len(facts) < 60
    assert hidden_keys(made.version(2), made.current) == set()


def test_one_fact_stands_for_former_secrets_that_found_no_room() -> None:
    made = Ledger(room=0)
    made.apply(CreateDocument({"a": {SECRET: {"value": 1}}, "b": 1}))
    made.apply(ReplaceDocument({"a": 1, "b": 2}))
    made.apply(PatchKeys(set={"a": 2}, encrypt=("a",)))
    made.apply(ReplaceDocument({"b": 3}))
    made.apply(ReplaceDocument({"b": 4}))

    assert made.current is not None
    assert made.current.keys.keys() == {"b", DROPPED}
    assert made.current.keys[DROPPED].secret_until == 3
    masked_in = [bool(hidden_keys(body, made.current)) for body in made.bodies]
    assert masked_in == [True, True, True, False, False]


@given(LEDGERS)
def test_history_shows_no_ciphertext_and_no_value_that_is_masked(made: Ledger) -> None:
    assert made.current is not None
    for body in made.bodies:
        shown = flat(mask_history(body, made.current, fingerprints=False))

        masks = hidden_keys(body, made.current)
        assert shown.keys() == flat(body.data).keys()
        for key, leaf in leaves(body.data):
            assert shown[key] == (MASKED if is_secret(leaf) or key in masks else leaf)
        assert "sealed" not in json.dumps(shown)


@given(LEDGERS, st.data())
def test_a_rollback_makes_no_secret_plain(made: Ledger, data: st.DataObject) -> None:
    assert made.current is not None
    old = data.draw(st.sampled_from([body for body in made.bodies if not body.deleted]))
    secret = hidden_keys(old, made.current)

    draft = RestoreVersion.of(old).apply(DOCUMENT, made.current)

    assert draft.data is not None
    restored = flat(draft.data)
    assert restored.keys() == flat(old.data).keys()
    for key, leaf in leaves(old.data):
        assert restored[key] == (ToSeal(leaf) if key in secret else leaf)


@given(LEDGERS, KEYS, st.data())
def test_nor_does_the_rollback_of_a_key(made: Ledger, key: str, data: st.DataObject) -> None:
    assert made.current is not None
    old = data.draw(st.sampled_from([body for body in made.bodies if not body.deleted]))
    secret = hidden_keys(old, made.current)

    found = outcome(RestoreKey.of(key, old), made.current)

    if isinstance(found, type):
        assert found in {KeyNotFound, KeyConflict}
    else:
        restored = flat(found.data)  # type: ignore[attr-defined]
        for inner, leaf in leaves(old.data):
            if inner == key or inner.startswith(f"{key}."):
                assert restored[inner] == (ToSeal(leaf) if inner in secret else leaf)


@given(LEDGERS)
def test_a_difference_names_what_differs_and_shows_what_may_be_shown(made: Ledger) -> None:
    assert made.current is not None
    first, last = made.bodies[0], made.current
    before, after = flat(first.data), flat(last.data)

    found = masked_diff(first, last, last)

    assert found.added.keys() == after.keys() - before.keys()
    assert found.removed.keys() == before.keys() - after.keys()
    assert found.changed.keys() == {
        key
        for key in before.keys() & after.keys()
        if json.dumps(before[key]) != json.dumps(after[key])
    }
    assert "sealed" not in json.dumps([found.added, found.removed, found.changed])


@given(STORED)
def test_what_is_shown_and_sent_back_is_what_was_stored(data: Tree) -> None:
    assert receive_tree(mask_secrets(data, fingerprints=True), data) == data
    assert receive_tree(mask_secrets(data, fingerprints=False), data) == data


@given(STORED)
def test_a_mask_shows_only_that_there_is_a_secret(data: Tree) -> None:
    shown = flat(mask_secrets(data, fingerprints=False))

    assert {key: leaf == MASKED for key, leaf in shown.items()} == {
        key: is_secret(leaf) for key, leaf in flat(data).items()
    }
    assert holds_secret(data) == any(leaf == MASKED for leaf in shown.values())


@given(LEDGERS)
def test_a_stored_document_is_read_as_it_was_written(made: Ledger) -> None:
    for body in made.bodies:
        read = decode(encode(body))

        assert (read.version, read.change, read.deleted) == (
            body.version,
            body.change,
            body.deleted,
        )
        assert read.data == body.data
        assert read.keys == body.keys
        assert read.templates == body.templates
        if not body.templates:
            assert "templates" not in json.loads(encode(body))


@given(LEDGERS, st.dictionaries(KEYS, PLAIN, max_size=4).filter(is_coherent))
def test_a_file_merged_twice_changes_nothing_the_second_time(
    made: Ledger, members: dict[str, Any]
) -> None:
    try:
        made.apply(PatchKeys(members, keep_both=True))
    except KeyConflict:
        return
    assert made.current is not None
    if any(is_secret(node_at(made.current.data, key)) for key in members):
        return  # a plain value sent for a secret is sealed anew

    assert made.apply(PatchKeys(members, keep_both=True)) is None


def test_what_was_a_secret_once_stays_masked_through_all_that_follows() -> None:
    made = ledger(
        CreateDocument({"a": "before"}),
        PatchKeys(encrypt=("a",)),
        ReplaceKey("a", "after", is_encrypted=False),
        ReplaceKey("a", "later", is_encrypted=None),
        RemoveKey("a"),
        CreateKey("a", "again", is_encrypted=False),
    )

    assert made.current is not None
    masks = [bool(hidden_keys(body, made.current)) for body in made.bodies]

    assert masks == [True, False, False, False, False, False]


def test_an_empty_object_is_filled_in_the_new_version_only() -> None:
    made = ledger(CreateDocument({"a": {}, "b": 0}))

    made.apply(PatchKeys({"a.b": 1}))
    made.apply(CreateKey("a.c", 2, is_encrypted=False))

    assert [body.data["a"] for body in made.bodies] == [{}, {"b": 1}, {"b": 1, "c": 2}]


@pytest.mark.parametrize(
    ("first", "second", "keys"),
    [
        ({"a": 1}, ("a.b", 2), ["a", "a.b"]),
        ({"a.b": 1}, ("a", 2), ["a", "a.b"]),
        ({"a.b.c": 1}, ("a.b", 2), ["a.b", "a.b.c"]),
        ({"a.b": 1}, ("a.b.c", 2), ["a.b", "a.b.c"]),
        ({"a": SEALED}, ("a.b", 2), ["a", "a.b"]),
        ({"a": None}, ("a.b", 2), ["a", "a.b"]),
        ({"a": []}, ("a.b", 2), ["a", "a.b"]),
    ],
)
def test_a_conflict_names_both_keys(
    first: dict[str, Any], second: tuple[str, Any], keys: list[str]
) -> None:
    key, value = second
    base = Body(1, Stamp("", "created", "", "", ""), "", "", data=create(first))

    for edit in (CreateKey(key, value, is_encrypted=False), PatchKeys({key: value})):
        with pytest.raises(KeyConflict) as raised:
            edit.apply(DOCUMENT, base)
        assert raised.value.facts["keys"] == keys


def create(members: Mapping[str, Any]) -> Tree:
    """Spread dotted names; ciphertexts stay as they are."""
    tree: Tree = {}
    for key, value in members.items():
        *outer, last = key.split(".")
        below = tree
        for name in outer:
            below = below.setdefault(name, {})
        below[last] = value
    return tree


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (CreateKey("a", 2, is_encrypted=False), KeyExists),
        (CreateKey("s", {"b": 1}, is_encrypted=False), KeyExists),
        (CreateKey("z", MASKED, is_encrypted=False), NothingMasked),
        (CreateKey("z", {"x": MASKED}, is_encrypted=True), NothingMasked),
        (CreateKey("z", {SECRET: "vault:v1:x"}, is_encrypted=True), BadMember),
        (CreateKey("z", [{"$value": 1}], is_encrypted=False), BadMember),
        (ReplaceKey("z", 1, is_encrypted=None), KeyNotFound),
        (ReplaceKey("s", 1, is_encrypted=None), KeyConflict),
        (ReplaceKey("a", {"b": 1}, is_encrypted=None), KeyConflict),
        (ReplaceKey("a", MASKED, is_encrypted=None), NothingMasked),
        (RemoveKey("z"), KeyNotFound),
        (PatchKeys({"s.new": 1}, ("a",), ("z",)), KeyNotFound),
        (PatchKeys({"s.new": 1, "a.b": 1}), KeyConflict),
        (PatchKeys({"s.new": 1, "a": MASKED}), NothingMasked),
        (CreateDocument({}), DocumentExists),
        (ReplaceDocument({"a": MASKED}), NothingMasked),
    ],
)
def test_an_edit_is_refused_as_a_whole(edit: Edit, error: type[PilothouseError]) -> None:
    made = ledger(CreateDocument({"a": 1, "s.t": 2}))

    with pytest.raises(error):
        made.apply(edit)

    assert [body.data for body in made.bodies] == [{"a": 1, "s": {"t": 2}}]


@pytest.mark.parametrize("edit", [ReplaceDocument({}), DeleteDocument()])
def test_what_does_not_exist_is_neither_replaced_nor_deleted(edit: Edit) -> None:
    deleted = ledger(CreateDocument({}), DeleteDocument())

    for body in (None, deleted.current):
        with pytest.raises(DocumentNotFound):
            edit.apply(DOCUMENT, body)


def test_a_deletion_is_nothing_to_roll_back_to() -> None:
    made = ledger(CreateDocument({"a": 1}), DeleteDocument())

    with pytest.raises(VersionIsDeletion):
        made.apply(RestoreVersion.of(made.version(2)))


@pytest.mark.parametrize("key", ["", "a\n", "\x7f", "x y" * 100, "a." * 600 + "a"])
def test_a_patch_takes_only_what_is_a_key(key: str) -> None:
    with pytest.raises(BadKey):
        PatchKeys(set={key: 1})
    with pytest.raises(BadKey):
        PatchKeys(unset=(key,))
    with pytest.raises(BadKey):
        PatchKeys(encrypt=(key,))


def test_a_patch_unsets_then_sets_then_encrypts() -> None:
    made = ledger(CreateDocument({"a.b": 1, "c": 1}))

    made.apply(PatchKeys({"a": 2, "c": 2}, ("a.b",), ("c", "a")))

    assert made.current is not None
    assert {key: is_secret(leaf) for key, leaf in leaves(made.current.data)} == {
        "a": True,
        "c": True,
    }


@pytest.mark.parametrize(
    "edit",
    [
        PatchKeys(),
        PatchKeys(set={"a": 1, "s.t": [1]}),
        PatchKeys(unset=("z", "a.b", "s.t.u")),
        PatchKeys(encrypt=("p",)),
        PatchKeys(set={"p": MASKED, "s": {}}),
    ],
)
def test_a_patch_that_changes_nothing_writes_nothing(edit: PatchKeys) -> None:
    made = ledger(CreateDocument({"a": 1, "s.t": [1], "p": {SECRET: {"value": 1}}}))

    assert made.apply(edit) is None


def test_what_was_a_secret_is_sealed_again_even_when_it_was_unset_at_once() -> None:
    made = ledger(CreateDocument({"p": {SECRET: {"value": 1}}}))

    made.apply(PatchKeys({"p": "plain"}, ("p",)))

    assert made.current is not None
    assert is_secret(made.current.data["p"])


@pytest.mark.parametrize(
    ("value", "is_encrypted", "becomes_secret"),
    [
        ("x", None, True),
        ("x", True, True),
        ("x", False, False),
        (MASKED, None, True),
        ({SECRET: {"value": "x"}}, None, True),
    ],
)
def test_a_secret_stays_one_unless_told_otherwise(
    value: object, *, is_encrypted: bool | None, becomes_secret: bool
) -> None:
    made = ledger(CreateKey("p", "old", is_encrypted=True))

    made.apply(ReplaceKey("p", value, is_encrypted=is_encrypted))

    assert made.current is not None
    assert is_secret(made.current.data["p"]) is becomes_secret


def test_a_removed_key_is_forgotten_when_no_version_that_had_it_is_kept() -> None:
    made = Ledger(keep=3)
    made.apply(CreateDocument({"a": 1, "b": 0}))
    made.apply(RemoveKey("a"))
    remembered = []

    for value in (1, 2, 3):
        made.apply(PatchKeys({"b": value}))
        assert made.current is not None
        remembered.append("a" in made.current.keys)

    assert remembered == [True, True, False]


def test_removing_the_last_key_of_a_section_removes_the_section() -> None:
    made = ledger(CreateDocument({"a.b.c": 1, "d": 1}), RemoveKey("a.b.c"))

    assert made.current is not None
    assert made.current.data == {"d": 1}
    assert not contains_key(made.current.data, "a")


def test_what_is_to_be_sealed_shows_itself_in_no_message() -> None:
    assert "hush" not in repr({"a": [ToSeal("hush")]})


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)
ANY_KEYS = st.one_of(KEYS, st.sampled_from(["l.0.a", "l[0].a", "x[y.z]", "a[$value]"]))
ANY_MEMBERS = st.dictionaries(ANY_KEYS, JSON, max_size=4)
OLD = st.dictionaries(NAMES, JSON, max_size=3)
VERSIONS = st.integers(1, 2**31)
TEMPLATE_USES = st.builds(
    TemplateUse, VERSIONS, st.dictionaries(NAMES, JSON, max_size=2), st.sampled_from(["", "a.b"])
)


def valid(build: Callable[..., Edit], *members: st.SearchStrategy[Any]) -> st.SearchStrategy[Edit]:
    """Build edits, of those members that they take."""

    def build_or_none(drawn: tuple[Any, ...]) -> Edit | None:
        try:
            return build(*drawn)
        except PilothouseError:
            return None

    def is_edit(edit: Edit | None) -> TypeGuard[Edit]:
        return edit is not None

    return st.tuples(*members).map(build_or_none).filter(is_edit)


ANY_EDITS: st.SearchStrategy[Edit] = st.one_of(
    valid(CreateKey, ANY_KEYS, JSON, st.booleans()),
    valid(ReplaceKey, ANY_KEYS, JSON, FLAGS),
    valid(RemoveKey, ANY_KEYS),
    valid(
        PatchKeys,
        ANY_MEMBERS,
        st.lists(ANY_KEYS, max_size=2),
        st.lists(ANY_KEYS, max_size=2),
        st.booleans(),
    ),
    valid(CreateDocument, ANY_MEMBERS),
    valid(ReplaceDocument, ANY_MEMBERS),
    st.builds(DeleteDocument),
    st.builds(WriteTombstone),
    st.builds(
        RestoreVersion,
        VERSIONS,
        OLD,
        st.booleans(),
        st.dictionaries(NAMES, TEMPLATE_USES, max_size=2),
        st.dictionaries(KEYS, NAMES, max_size=2),
    ),
    valid(RestoreKey, ANY_KEYS, VERSIONS, OLD),
    valid(
        ApplyTemplate,
        NAMES,
        TEMPLATE_USES,
        ANY_MEMBERS,
        st.one_of(st.none(), st.builds(FormerRendering, TEMPLATE_USES, OLD)),
    ),
)


@given(ANY_EDITS)
def test_an_edit_that_becomes_json_and_back_is_the_same(edit: Edit) -> None:
    text = json.dumps(edit_to_json(edit))

    again = edit_from_json(json.loads(text))

    assert again == edit
    assert json.dumps(edit_to_json(again)) == text


@given(LEDGERS, st.one_of(EDITS, ANY_EDITS))
def test_an_edit_that_was_json_does_the_same(made: Ledger, edit: Edit) -> None:
    again = edit_from_json(json.loads(json.dumps(edit_to_json(edit))))

    assert outcome(again, made.current) == outcome(edit, made.current)


@given(LEDGERS, st.data())
def test_a_rollback_that_was_json_does_the_same(made: Ledger, data: st.DataObject) -> None:
    old = data.draw(st.sampled_from(made.bodies))
    edit = data.draw(
        st.one_of(st.just(RestoreVersion.of(old)), KEYS.map(lambda key: RestoreKey.of(key, old)))
    )

    again = edit_from_json(json.loads(json.dumps(edit_to_json(edit))))

    assert outcome(again, made.current) == outcome(edit, made.current)


def test_an_edit_shows_no_value_of_its_own() -> None:
    edits: list[Edit] = [
        CreateKey("a", "hush"),
        ReplaceKey("a", "hush"),
        PatchKeys({"a": "hush"}),
        CreateDocument({"a": "hush"}),
        ReplaceDocument({"a": "hush"}),
        RestoreVersion(1, {"a": "hush"}),
        RestoreKey("a", 1, {"a": "hush"}),
        ApplyTemplate(
            "t",
            TemplateUse(1, {"a": "hush"}),
            {"a": "hush"},
            FormerRendering(TemplateUse(1, {"a": "hush"}), {"a": "hush"}),
        ),
    ]

    assert "hush" not in repr(edits)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"kind": "no_such"},
        {"kind": ["remove_key"], "key": "a"},
        {"kind": "remove_key"},
        {"kind": "remove_key", "key": 1},
        {"kind": "remove_key", "key": "a", "more": 1},
        {"kind": "create_key", "key": "a", "value": 1, "is_encrypted": None},
        {"kind": "patch_keys", "set": {}, "unset": "a", "encrypt": [], "keep_both": False},
        {"kind": "patch_keys", "set": {}, "unset": [1], "encrypt": [], "keep_both": False},
        {"kind": "create_document", "members": []},
        {"kind": "restore_version", "version": True, "data": {}, "is_deletion": False},
        {"kind": "apply_template", "name": "t", "use": {}, "tree": {}, "former": None},
        {
            "kind": "apply_template",
            "name": "t",
            "use": {"version": 1, "parameters": {}, "at": ""},
            "tree": {},
            "former": {"tree": {}},
        },
    ],
)
def test_json_that_is_no_edit_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"kind|member"):
        edit_from_json(raw)


def test_the_json_of_an_edit_is_checked_as_what_a_client_sends() -> None:
    with pytest.raises(BadMember):
        edit_from_json({"kind": "remove_key", "key": "a[$secret]"})
    with pytest.raises(BadKey):
        edit_from_json({"kind": "create_document", "members": {"a\n": 1}})
