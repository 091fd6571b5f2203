"""The history of a key: the versions in which it changed."""

from dataclasses import dataclass
from typing import Any

from app.configs.documents.members import checked_key
from app.configs.documents.reader import DocumentReader
from app.configs.errors import DocumentMalformed, KeyNotFound, VersionGone
from app.configs.model import Body, DocumentId
from app.configs.removals import DROPPED
from app.configs.secrets import (
    Protection,
    holds_secret,
    mask_leaf_of_version,
    mask_section_of_version,
    protection,
)
from app.configs.services.answers import changed_below
from app.workers import LARGE_TEXT, Slices, run_apart
from pilothouse_core.diff import is_same
from pilothouse_core.trees import (
    contains_key,
    is_secret,
    is_section,
    leaf_key,
    node_at,
    value_at,
    with_change_at,
)

_LOOKED_AT = 50  # versions, for the removal of one key


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One entry of a key's history, newest first; `value` is masked, None when removed."""

    version: int
    value: Any
    removed: bool
    is_encrypted: bool
    action: str
    actor: str
    comment: str
    at: str


@dataclass(frozen=True, slots=True)
class KeyHistory:
    reader: DocumentReader

    async def changes(
        self, document: DocumentId, key: str, limit: int, before: int | None = None
    ) -> list[KeyChange]:
        """Return the changes of a key (or of anything in a section) below version `before`.

        Newest first; it ends at the first version that the store has deleted.
        """
        key = checked_key(key)
        if self.reader.pointer(document) is None:
            raise KeyNotFound(key, str(document))
        current = await self.reader.current_or_last_readable(document)
        if await self._last_changed(document, current, key) is None:
            raise KeyNotFound(key, str(document))
        protected = await run_apart(current.size > LARGE_TEXT, protection, current)
        slices = Slices()
        entries: list[KeyChange] = []
        body: Body | None = current
        if before is not None and before <= current.version:
            body = await self.reader.last_readable(document, before - 1)
        latest: Body | None = None
        # One more than asked for: of an item of a list, the next one may be the same change.
        while body is not None and len(entries) <= limit:
            await slices.rest()
            changed = await self._last_changed(document, body, key)
            if changed is None:
                break
            entry = await self._readable(document, changed)
            if entry is not None:
                if latest is not None and _is_unchanged(key, entry, latest):
                    entries.pop()  # the list changed in the version after, and not this item of it
                entries.append(_entry(key, entry, protected))
                latest = entry
            body = await self.reader.last_readable(document, changed - 1)
        return entries[:limit]

    async def _last_changed(self, document: DocumentId, body: Body, key: str) -> int | None:
        """Return the version in which a key last changed, as of `body`; None if it never was.

        What is no longer remembered of a removed key is looked for in the versions before.
        """
        changed = changed_below(body, key)
        dropped = body.keys.get(DROPPED)
        if changed is not None or dropped is None:
            return changed and changed[0]
        for version in range(dropped.version - 1, max(0, dropped.version - _LOOKED_AT - 1), -1):
            earlier = await self._readable(document, version)
            changed = None if earlier is None else changed_below(earlier, key)
            if earlier is not None and changed is not None:
                return version + 1 if contains_key(earlier.data, key) else changed[0]
        return None

    async def _readable(self, document: DocumentId, version: int) -> Body | None:
        try:
            return await self.reader.version(document, version)
        except (VersionGone, DocumentMalformed):
            return None


def _is_unchanged(key: str, older: Body, newer: Body) -> bool:
    """Tell whether something in a list was the same before the list changed."""
    leaf, spelled = leaf_key(newer.data, key)
    if leaf == spelled:
        return False
    return contains_key(older.data, key) == contains_key(newer.data, key) and is_same(
        node_at(older.data, key), node_at(newer.data, key)
    )


def _entry(key: str, body: Body, protected: Protection) -> KeyChange:
    value = value_at(body.data, key)
    leaf, spelled = leaf_key(body.data, key)
    if leaf != spelled:
        shown = mask_leaf_of_version(
            leaf, node_at(body.data, leaf), body.version, protected, fingerprints=False
        )
        data = with_change_at(body.data, leaf, lambda _: shown)
        value = shown if is_secret(shown) else node_at(data, key)
    elif is_section(value):
        value = mask_section_of_version(
            value, body.version, protected, fingerprints=False, prefix=key
        )
    elif contains_key(body.data, key):
        value = mask_leaf_of_version(key, value, body.version, protected, fingerprints=False)
    return KeyChange(
        version=body.version,
        value=value,
        removed=not contains_key(body.data, key),
        is_encrypted=holds_secret(value),
        action=body.change.action,
        actor=body.change.actor,
        comment=body.change.comment,
        at=body.change.at,
    )
