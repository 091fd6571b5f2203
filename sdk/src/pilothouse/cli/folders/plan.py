"""What makes the installation say what the folder says. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pilothouse.cli.folders.entries import Content, Entry, Kind, Present
from pilothouse_core.diff import Diff, diff, is_same
from pilothouse_core.trees import (
    KeysConflict,
    Tree,
    child_key,
    copy_sections,
    is_secret,
    is_section,
    leaves,
    merge_into,
    scalars,
    value_at,
    without_key,
)

Action = Literal["added", "changed", "removed"]
MASK = "masked"
ARCHIVED = "archived"
_EMPTY: tuple[Any, ...] = ("", [], {}, None)
# What others need comes first; what needs others is removed first.
_ORDER: tuple[Kind, ...] = ("schema", "template", "segment", "flag", "config", "policy")


@dataclass(frozen=True)
class Change:
    """What has to happen to one entry; `version` is the one that was compared, 0 for none.

    `content` is what the file says, None where there is no file. `missing` are the keys of secrets
    that the file only names and the layer does not have; `content` is without them.
    """

    entry: Entry
    action: Action
    version: int
    before: Content = field(repr=False)
    content: Content | None = field(repr=False)
    was_archived: bool = False
    missing: tuple[str, ...] = ()

    @property
    def is_deletion(self) -> bool:
        return self.action == "removed"

    @property
    def is_archived(self) -> bool:
        return self.content is not None and self.content.get(ARCHIVED) is True

    @property
    def definition(self) -> Content:
        """The members that are sent of everything but a layer."""
        return {name: each for name, each in (self.content or {}).items() if name != ARCHIVED}

    @property
    def changes(self) -> Diff:
        new = self.content or {}
        if self.entry.kind == "config":
            return diff(self.before, new)
        return _diff_of_values(_values_by_path(self.before), _values_by_path(new))

    def without(self, key: str) -> "Change":
        """Return the change without a key of a layer, which stays as it is."""
        before = value_at(self.before, key)
        content = without_key(self.content or {}, key)
        if before is not None:
            merge_into(content, patch_part(self.before, {key}))
        return replace(self, content=content, missing=(*self.missing, key))


@dataclass(frozen=True)
class Plan:
    """`changes` in the order in which they are made; `missing` also of layers that are equal.

    `surplus` is what the installation has and the folder lacks, where nothing is removed.
    """

    changes: list[Change]
    missing: list[tuple[Entry, str]]
    surplus: list[Entry]


def plan_changes(
    wanted: Mapping[Entry, Content],
    present: Mapping[Entry, Present],
    removable: Collection[str],
    *,
    prune: bool,
) -> Plan:
    """Compare what files say with what exists; `removable` are the groups that a folder is of."""
    compared = [_change_of(entry, wanted[entry], present.get(entry)) for entry in sorted(wanted)]
    changes = [change for change, _ in compared if change is not None]
    missing = [each for _, lacking in compared for each in lacking]
    surplus = sorted(entry for entry in present if entry not in wanted and entry.group in removable)
    if prune:
        changes += [_removal_of(entry, present[entry]) for entry in surplus]
        surplus = []
    return Plan(_in_order(changes), missing, surplus)


def _in_order(changes: Iterable[Change]) -> list[Change]:
    def rank(change: Change) -> tuple[bool, bool, int]:
        place = _ORDER.index(change.entry.kind)
        # A policy binds what is written after it.
        is_policy = change.entry.kind == "policy"
        return is_policy, change.is_deletion, -place if change.is_deletion else place

    return sorted(changes, key=rank)


def _change_of(
    entry: Entry, content: Content, present: Present | None
) -> tuple[Change | None, list[tuple[Entry, str]]]:
    before = {} if present is None else present.content
    if entry.kind != "config":
        # What a file leaves out keeps what the service has chosen for it.
        kept = {name: value for name, value in before.items() if name != ARCHIVED}
        content = {**kept, **content}
        if content.get(ARCHIVED) is False:
            del content[ARCHIVED]
    action: Action = "added" if present is None else "changed"
    change = Change(
        entry,
        action,
        0 if present is None else present.version,
        before,
        content,
        present is not None and present.is_archived,
    )
    if entry.kind == "config":
        for key in missing_secrets(content, before):
            change = change.without(key)
    lacking = [(entry, key) for key in change.missing]
    new = change.content or {}
    if present is not None and is_same(before, new):
        return None, lacking
    if present is None and change.missing and not new:
        return None, lacking
    return change, lacking


def _is_empty(value: Any) -> bool:
    return any(is_same(value, empty) for empty in _EMPTY)


def _removal_of(entry: Entry, present: Present) -> Change:
    return Change(entry, "removed", present.version, present.content, None, present.is_archived)


def missing_secrets(tree: Tree, present: Tree) -> list[str]:
    """Return the keys with a mask whose secret the layer does not have."""
    return [
        key
        for key, leaf in leaves(tree)
        if any(map(_is_mask, _values_in(leaf))) and not _may_have_secret(value_at(present, key))
    ]


def _may_have_secret(present: Any) -> bool:
    """Tell whether a mask may mean a secret in a leaf; of a list, the service finds which."""
    return any(map(is_secret, _values_in(present)))


def _values_in(leaf: Any) -> Iterator[Any]:
    return (value for _, value in scalars(leaf, "")) if isinstance(leaf, list) else iter((leaf,))


def _is_mask(value: Any) -> bool:
    return is_secret(value) and value["$secret"] == MASK


def patch_of(before: Tree, after: Tree) -> tuple[Tree, list[str]]:
    """Return what is set and what is unset to make one layer of another.

    By single keys where that says it; whole members where a value becomes a section, say.
    """
    changes = diff(before, after)
    additions = patch_part(after, {*changes.added, *changes.changed})
    removals = list(changes.removed)
    if _leads_to(before, additions, removals, after):
        return additions, removals
    names = [
        name
        for name in {**before, **after}
        if name not in before or name not in after or not is_same(before[name], after[name])
    ]
    return (
        {name: after[name] for name in names if name in after},
        [name for name in names if name in before],
    )


def patch_part(tree: Tree, keys: Collection[str], prefix: str = "") -> Tree:
    """Return the part of a tree with these leaves."""
    part: Tree = {}
    for name, value in tree.items():
        key = child_key(prefix, name)
        if is_section(value):
            if inner := patch_part(value, keys, key):
                part[name] = inner
        elif key in keys:
            part[name] = value
    return part


def _leads_to(before: Tree, additions: Tree, removals: list[str], after: Tree) -> bool:
    tree = copy_sections(before)
    for key in removals:
        tree = without_key(tree, key)
    try:
        merge_into(tree, additions)
    except KeysConflict:
        return False
    return is_same(tree, after)


def _values_by_path(content: Content) -> Content:
    """Return what a definition says by the paths of its values; empty ones say nothing."""
    return {
        path: value
        for name, member in content.items()
        for path, value in scalars(member, name)
        if not _is_empty(value)
    }


def _diff_of_values(before: Content, after: Content) -> Diff:
    return Diff(
        added={path: value for path, value in after.items() if path not in before},
        removed={path: value for path, value in before.items() if path not in after},
        changed={
            path: (before[path], value)
            for path, value in after.items()
            if path in before and not is_same(before[path], value)
        },
    )
