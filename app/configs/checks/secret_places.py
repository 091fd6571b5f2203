"""Secret places by schema: plain values there are sealed or refused, in every layer. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from app.configs.checks.errors import SecretInPlain
from app.configs.model import Body, DocumentId, Draft
from app.configs.secrets import ToSeal, mark_for_sealing
from app.rules.schemas.reading import Schema
from pilothouse_core.keys import key_of, names_of
from pilothouse_core.trees import (
    Tree,
    copy_sections,
    is_secret,
    node_at,
    with_change_at,
)

_ABSENT: Any = object()


def seal_secret_places(
    mounted: Sequence[tuple[Schema, str]],
    document: DocumentId,
    base: Body | None,
    draft: Draft,
    *,
    refuse: bool = True,
) -> Draft:
    """Return a draft in which every plain value at a secret place is marked for the cipher.

    Raises SecretInPlain if a schema refuses them, for values that the draft adds or changes;
    never for a rollback.
    """
    if not draft.data:
        return draft
    keys: dict[str, Schema] = {}
    for schema, at in mounted:
        for key in plain_secret_keys(schema, at, draft.data):
            if key not in keys or schema.refuses_plain_secrets:  # whatever others would do
                keys[key] = schema
    if not keys:
        return draft
    if refuse and draft.action != "rolled_back":
        before = base.data if base is not None else {}
        refused = [
            (str(document), key, schema.name)
            for key, schema in keys.items()
            if schema.refuses_plain_secrets and _is_changed(key, before, draft.data)
        ]
        if refused:
            raise SecretInPlain(refused)
    return replace(draft, data=_with_sealed(draft.data, keys))


def plain_secret_keys(schema: Schema, at: str, data: Tree) -> Iterator[str]:
    """Yield the keys of plain values at secret places of one layer, items of lists included."""
    for key in schema.compiled.walk.secret_keys(data, at):
        if not _is_sealed(node_at(data, key)):
            yield key


def _is_sealed(value: Any) -> bool:
    """Tell whether nothing in a value is plain."""
    if isinstance(value, ToSeal) or is_secret(value):
        return True
    if isinstance(value, dict):
        return all(map(_is_sealed, value.values())) and bool(value)
    return isinstance(value, list) and bool(value) and all(map(_is_sealed, value))


def _is_changed(key: str, before: Tree, after: Tree) -> bool:
    old = node_at(before, key, _ABSENT)
    return old is _ABSENT or old != node_at(after, key)


def _with_sealed(data: Tree, keys: dict[str, Schema]) -> Tree:
    sealed = copy_sections(data)
    for key in keys:
        seal_in(sealed, key)
    return sealed


def seal_in(data: Tree, key: str) -> None:
    """Mark for the cipher, in place, what is at a key that is there."""
    name, *rest = names_of(key)
    while rest and not isinstance(data[name], list):
        data = data[name]
        name, *rest = rest
    # A list is shared with the version before it.
    data[name] = with_change_at({name: data[name]}, key_of([name, *rest]), mark_for_sealing)[name]
