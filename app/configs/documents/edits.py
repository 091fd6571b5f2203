"""Edits of a document as data: each says what a write changes, and `apply` changes it.

Pure: an edit is applied to a version without a call to any server. So a write that lost a race is
simply applied again, and an edit can be checked, shown or stored before it is written.

**Secrets**: an edit holds what a client has sent. `value`, `set` and `members` may hold secrets in
the clear; `data` of an earlier version holds them encrypted, with plain values that have become
secrets since. The writer encrypts after `apply`: whatever stores an edit has to encrypt all of it.
None of these members is part of an edit's `repr`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.changes.model import Action
from app.configs.checks.secret_places import seal_in
from app.configs.documents.key_changes import (
    merge_sent,
    refuse_item,
    refuse_occupied,
    refuse_other_shape,
    remove_in,
    with_item,
    with_key,
    with_replaced,
)
from app.configs.documents.members import checked_key, removable_key, sent_tree
from app.configs.errors import (
    BadKey,
    DocumentExists,
    DocumentNotFound,
    KeyNotFound,
    ListItem,
    VersionIsDeletion,
    WriteConflict,
)
from app.configs.model import Body, DocumentId, Draft, TemplateUse, use_to_json
from app.configs.secrets import holds_secret, receive_tree, reseal
from app.rules.errors import SecretInTemplate
from pilothouse_core.diff import is_same
from pilothouse_core.keys import is_key
from pilothouse_core.merging import changed_keys, merge_three_ways
from pilothouse_core.trees import (
    OWN_VALUE,
    Tree,
    contains_key,
    copy_sections,
    has_own_value,
    is_section,
    leaf_key,
    leaves,
    node_at,
    value_at,
    without_key,
)


def _data_of(body: Body | None) -> Tree:
    return body.data if body is not None else {}


def _is_existing(body: Body | None) -> bool:
    return body is not None and not body.deleted


def _action_of_change(body: Body | None) -> Action:
    return "updated" if _is_existing(body) else "created"


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Set a key that its layer does not have; `value` may hold secrets.

    Raises BadKey and BadMember.
    """

    key: str
    value: Any = field(repr=False)
    is_encrypted: bool = False

    def __post_init__(self) -> None:
        _set_member(self, "key", checked_key(self.key))

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        data = _data_of(body)
        refuse_occupied(data, self.key, self.value, str(document))
        changed = with_key(data, self.key, self.value, is_encrypted=self.is_encrypted)
        return Draft(_action_of_change(body), changed)


@dataclass(frozen=True, slots=True)
class ReplaceKey:
    """Set a key that its layer has; `value` may hold secrets.

    Without `is_encrypted`, a secret stays a secret. Raises BadKey and BadMember.
    """

    key: str
    value: Any = field(repr=False)
    is_encrypted: bool | None = None

    def __post_init__(self) -> None:
        _set_member(self, "key", checked_key(self.key))

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        data = _data_of(body)
        if not contains_key(data, self.key):
            raise KeyNotFound(self.key, str(document))
        refuse_other_shape(data, self.key, self.value)
        changed = with_key(data, self.key, self.value, is_encrypted=self.is_encrypted)
        return Draft("updated", changed)


@dataclass(frozen=True, slots=True)
class RemoveKey:
    """Remove a key from its layer; raises BadKey and BadMember."""

    key: str

    def __post_init__(self) -> None:
        _set_member(self, "key", removable_key(self.key))

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        data = _data_of(body)
        if not contains_key(data, self.key):
            raise KeyNotFound(self.key, str(document))
        refuse_item(data, self.key)
        return Draft("updated", without_key(data, self.key))


@dataclass(frozen=True, slots=True)
class PatchKeys:
    """Many keys, one version: `unset` first, then `set`, then `encrypt` over the result.

    `set` may hold secrets. `keep_both`: a key may have a value and be a section, as files of Spring
    mean it. If nothing changes, there is no new version. Raises BadKey, BadMember, KeyTwice,
    TooManyKeys and, without `keep_both`, KeyConflict.
    """

    set: Mapping[str, Any] = field(default_factory=dict, repr=False)
    unset: tuple[str, ...] = ()
    encrypt: tuple[str, ...] = ()
    keep_both: bool = False

    def __post_init__(self) -> None:
        for key in self.set:
            if not is_key(key):
                raise BadKey(key)
        _set_member(self, "unset", tuple(map(removable_key, self.unset)))
        _set_member(self, "encrypt", tuple(map(checked_key, self.encrypt)))
        _set_member(self, "set", sent_tree(self.set, keep_both=self.keep_both))

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        before = _data_of(body)
        # Changed in place: a copy for each of its keys would take seconds.
        data = copy_sections(before)
        for key in self.unset:
            if contains_key(data, key):
                remove_in(data, key)
        merge_sent(data, receive_tree(self.set, before), keep_both=self.keep_both)
        for key in self.encrypt:
            if not contains_key(data, key):
                raise KeyNotFound(key, str(document))
            seal_in(data, key)
        return Draft(_action_of_change(body), None if is_same(before, data) else data)


@dataclass(frozen=True, slots=True)
class PatchSealed:
    """Many keys, one version, as they are stored: the secrets in `set` are encrypted already.

    `set` was made for the same document, to which its ciphertexts are bound. `unset` comes first; a
    key that is gone already is passed over. If nothing changes, there is no new version.
    """

    set: Tree = field(default_factory=dict, repr=False)
    unset: tuple[str, ...] = ()

    def apply(self, _: DocumentId, body: Body | None) -> Draft:
        before = _data_of(body)
        data = copy_sections(before)
        for key in self.unset:
            if contains_key(data, key):
                remove_in(data, key)
        merge_sent(data, copy_sections(self.set), keep_both=True)
        return Draft(_action_of_change(body), None if is_same(before, data) else data)


@dataclass(frozen=True, slots=True)
class CreateDocument:
    """Write a document that does not exist; `members` may hold secrets.

    Raises BadKey, KeyConflict, KeyTwice and TooManyKeys.
    """

    members: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        _set_member(self, "members", sent_tree(self.members))

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        if _is_existing(body):
            raise DocumentExists(str(document))
        return Draft("created", receive_tree(self.members, {}))


@dataclass(frozen=True, slots=True)
class ReplaceDocument:
    """Write a document in the place of one that exists; `members` may hold secrets.

    Raises BadKey, KeyConflict, KeyTwice and TooManyKeys.
    """

    members: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        _set_member(self, "members", sent_tree(self.members))

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        if not _is_existing(body):
            raise DocumentNotFound(str(document))
        return Draft("updated", receive_tree(self.members, _data_of(body)))


@dataclass(frozen=True, slots=True)
class DeleteDocument:
    """Write a deletion on top of a document that exists."""

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        if not _is_existing(body):
            raise DocumentNotFound(str(document))
        return Draft("deleted", {}, deleted=True)


@dataclass(frozen=True, slots=True)
class WriteTombstone:
    """Write a deletion over a version that was deleted in the store itself."""

    def apply(self, _: DocumentId, __: Body | None) -> Draft:
        return Draft("external", {}, deleted=True)


@dataclass(frozen=True, slots=True)
class RestoreVersion:
    """Write again what `version` held: `data`, as it is stored, and the use of templates.

    What was plain in it and has been a secret since is encrypted: a rollback reveals nothing.
    `origins`: the keys that had come from templates.
    """

    version: int
    data: Tree = field(repr=False)
    is_deletion: bool = False
    templates: Mapping[str, TemplateUse] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, old: Body) -> "RestoreVersion":
        origins = {key: fact.template for key, fact in old.keys.items() if fact.template}
        return cls(old.version, old.data, old.deleted, old.templates, origins)

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        if self.is_deletion:
            raise VersionIsDeletion(str(document), self.version)
        return Draft(
            "rolled_back",
            _resealed_data(self, body),
            templates=self.templates,
            origins=self.origins,
        )


@dataclass(frozen=True, slots=True)
class RestoreKey:
    """Set a key, or a section, to what `version` held there; the same rule for secrets.

    Raises BadKey and BadMember.
    """

    key: str
    version: int
    data: Tree = field(repr=False)

    def __post_init__(self) -> None:
        _set_member(self, "key", checked_key(self.key))

    @classmethod
    def of(cls, key: str, old: Body) -> "RestoreKey":
        return cls(key, old.version, old.data)

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        key = self.key
        if not contains_key(self.data, key):
            raise KeyNotFound(key, f"version {self.version} of {document}")
        value, data = node_at(_resealed_data(self, body), key), _data_of(body)
        leaf, spelled = leaf_key(data, key)
        if leaf != spelled:
            return Draft("rolled_back", with_item(data, key, value))
        was_in, was = leaf_key(self.data, key)
        if was_in != was:
            raise ListItem(key)
        if has_own_value(value) and is_section(node_at(data, key)):
            value = {OWN_VALUE: value[OWN_VALUE]}
        return Draft("rolled_back", with_replaced(data, key, value))


@dataclass(frozen=True, slots=True)
class FormerRendering:
    """What a template made of a document when it was last used there; `tree` begins at its top."""

    use: TemplateUse
    tree: Tree = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApplyTemplate:
    """Merge the rendering of a template into a document, and remember `use`.

    `tree` is rendered, and begins at the top of the document. Without a `former` rendering it is
    set like the keys of a patch. Else it takes the place of the former one, of which keys that
    are not rendered any more vanish; what was changed by hand stays. If nothing changes, there is
    no new version. Raises BadKey, KeyConflict, KeyTwice, SecretInTemplate and TooManyKeys.
    """

    name: str
    use: TemplateUse
    tree: Mapping[str, Any] = field(repr=False)
    former: FormerRendering | None = None

    def __post_init__(self) -> None:
        tree = sent_tree(self.tree)
        secret = next((key for key, leaf in leaves(tree) if holds_secret(leaf)), None)
        if secret is not None:
            raise SecretInTemplate(secret)
        _set_member(self, "tree", receive_tree(tree, {}))

    def apply(self, document: DocumentId, body: Body | None) -> Draft:
        """Raises WriteConflict if the document has used the template otherwise than `former`."""
        before = _data_of(body)
        templates = body.templates if body is not None else {}
        used = templates.get(self.name)
        if not _is_same_use(used, self.former.use if self.former is not None else None):
            raise WriteConflict(str(document))
        data = self._merged_data(before)
        if is_same(before, data) and _is_same_use(used, self.use):
            return Draft(_action_of_change(body), None)
        changed = set(changed_keys(self.tree, data))
        origins = {key: self.name for key, _ in leaves(self.tree) if key not in changed}
        after = {**templates, self.name: self.use}
        return Draft(_action_of_change(body), data, templates=after, origins=origins)

    def _merged_data(self, before: Tree) -> Tree:
        if self.former is not None:
            return merge_three_ways(self.former.tree, before, self.tree).data
        for key, _ in leaves(self.tree):
            if holds_secret(value_at(before, key)):
                raise SecretInTemplate(key)
        data = copy_sections(before)
        merge_sent(data, dict(self.tree), keep_both=False)
        return data


def _is_same_use(one: TemplateUse | None, other: TemplateUse | None) -> bool:
    """Compare as JSON does: the parameter 1 is not the parameter true."""
    if one is None or other is None:
        return one is other
    return is_same(use_to_json(one), use_to_json(other))


def _resealed_data(old: RestoreVersion | RestoreKey, current: Body | None) -> Tree:
    return old.data if current is None else reseal(old.data, old.version, current)


Edit: TypeAlias = (
    CreateKey
    | ReplaceKey
    | RemoveKey
    | PatchKeys
    | PatchSealed
    | CreateDocument
    | ReplaceDocument
    | DeleteDocument
    | WriteTombstone
    | RestoreVersion
    | RestoreKey
    | ApplyTemplate
)
"""`apply(document, body)` returns the draft of the next version and raises the feature's errors.

`body` is None where there never was a document; it is not changed, but shares what stays the same.
"""


def _set_member(edit: Any, name: str, value: Any) -> None:
    """Set a member of an edit that is being made to its canonical form."""
    object.__setattr__(edit, name, value)
