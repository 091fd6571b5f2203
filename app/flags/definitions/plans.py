"""Plans: each says as data what a write changes in an environment, and `apply` computes it.

Pure: a plan is applied to an environment without a call to any server. So a write that lost a race
is simply applied again, and a plan can be checked, shown or stored before it is written.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, TypeAlias, overload

from app.flags.cache import EnvironmentFlags, ItemKey
from app.flags.definitions.missing_references import missing_references
from app.flags.definitions.planned_change import (
    Definition,
    PlanFacts,
    PlannedChange,
    PlannedDefinition,
)
from app.flags.definitions.preconditions import (
    refuse_archived,
    refuse_present,
    require_present,
)
from app.flags.definitions.representations import (
    definition_of,
    definition_text,
    named_users,
    patched_flag,
    read_flag_body,
    read_segment_body,
    with_named_users,
)
from app.flags.errors import (
    BadDefinition,
    FlagNotArchived,
    FlagTypeInUse,
    ItemsMoved,
    ReferencesMissing,
)
from app.flags.model import Item, Kind
from pilothouse_core.conditions.reading import MAX_VALUES
from pilothouse_core.flags.model import Flag, Segment

TargetOperation = Literal["replace", "append", "remove"]
_IN_USE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CreateFlag:
    """Write a flag that does not exist."""

    flag: Flag = field(repr=False)

    @property
    def name(self) -> str:
        return self.flag.name

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        return _creation("flag", self.flag, environment)


@dataclass(frozen=True, slots=True)
class CreateSegment:
    """Write a segment that does not exist."""

    segment: Segment = field(repr=False)

    @property
    def name(self) -> str:
        return self.segment.name

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        return _creation("segment", self.segment, environment)


@dataclass(frozen=True, slots=True)
class ReplaceFlag:
    """Write a whole definition in the place of a flag; buckets move as little as possible.

    A flag in use gets another type only with `force`.
    """

    name: str
    members: Mapping[str, Any] = field(repr=False)
    force: bool = False

    def apply(self, environment: EnvironmentFlags, facts: PlanFacts) -> PlannedChange:
        require_present(environment, "flag", self.name)
        flag = _read_flag({**self.members, "name": self.name}, environment)
        if not self.force:
            _refuse_type_in_use(environment, flag, facts)
        return {("flag", self.name): flag}


@dataclass(frozen=True, slots=True)
class ReplaceSegment:
    """Write a whole definition in the place of a segment."""

    name: str
    members: Mapping[str, Any] = field(repr=False)

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        require_present(environment, "segment", self.name)
        return {("segment", self.name): read_segment_body({**self.members, "name": self.name})}


@dataclass(frozen=True, slots=True)
class ChangeFlag:
    """Replace single members of a flag, in either form; see `ReplaceFlag` for `force`."""

    name: str
    members: Mapping[str, Any] = field(repr=False)
    force: bool = False

    def apply(self, environment: EnvironmentFlags, facts: PlanFacts) -> PlannedChange:
        item = require_present(environment, "flag", self.name)
        present = environment.flag(self.name)
        if present is None:  # this release cannot read it
            return {
                ("flag", self.name): _read_flag(_merged_members(item, self.members), environment)
            }
        flag = patched_flag(present, self.members)
        if not self.force:
            _refuse_type_in_use(environment, flag, facts)
        return {("flag", self.name): flag}


@dataclass(frozen=True, slots=True)
class ChangeSegment:
    """Replace single members of a segment."""

    name: str
    members: Mapping[str, Any] = field(repr=False)

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        item = require_present(environment, "segment", self.name)
        return {("segment", self.name): read_segment_body(_merged_members(item, self.members))}


@dataclass(frozen=True, slots=True)
class ChangeTargets:
    """Change the users that a flag names one by one.

    They are served `variant` if it names no users yet.
    """

    name: str
    operation: TargetOperation
    users: tuple[str, ...] = field(repr=False)
    variant: str | None = None

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        item = require_present(environment, "flag", self.name)
        flag = environment.flag(self.name) or definition_of(item)
        assert isinstance(flag, Flag)
        named = named_users(flag)
        present = () if named is None else named.users
        then = _OPERATIONS[self.operation](present, self.users)
        if len(then) > MAX_VALUES:
            detail = f"would name {len(then)} users, more than {MAX_VALUES}"
            raise BadDefinition("", detail, "too_many")
        if set(then) != set(present):
            flag = with_named_users(flag, then, self.variant)
        return {("flag", self.name): flag}


@dataclass(frozen=True, slots=True)
class DeleteFlag:
    """Delete a flag for good, which may be archived."""

    name: str

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        if environment.archived_item("flag", self.name) is None:
            require_present(environment, "flag", self.name)
        return {("flag", self.name): None}


@dataclass(frozen=True, slots=True)
class DeleteSegment:
    """Delete a segment that exists."""

    name: str

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        require_present(environment, "segment", self.name)
        return {("segment", self.name): None}


@dataclass(frozen=True, slots=True)
class ArchiveFlag:
    """Archive a flag; nothing changes where it is archived already."""

    name: str

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        if environment.archived_item("flag", self.name) is not None:
            return {}
        item = require_present(environment, "flag", self.name)
        flag = environment.flag(self.name) or definition_of(item)
        return {("flag", self.name): PlannedDefinition(flag, is_archived=True)}


@dataclass(frozen=True, slots=True)
class RestoreFlag:
    """Restore an archived flag as it was."""

    name: str

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        archived = environment.archived_item("flag", self.name)
        if archived is None:
            require_present(environment, "flag", self.name)
            raise FlagNotArchived(self.name, environment.name)
        return {("flag", self.name): PlannedDefinition(definition_of(archived))}


@dataclass(frozen=True, slots=True)
class KillFlag:
    """Turn a flag off and leave all else; nothing changes where it is off already."""

    name: str
    reason: str

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        item = require_present(environment, "flag", self.name)
        flag = environment.flag(self.name) or definition_of(item)
        assert isinstance(flag, Flag)
        if not flag.enabled:
            return {}
        off = replace(flag, enabled=False)
        return {("flag", self.name): PlannedDefinition(off, reason=self.reason)}


@dataclass(frozen=True, slots=True)
class RestoreVersion:
    """Write again what `version` held: `flag`, with its buckets, also where it is deleted now.

    See `ReplaceFlag` for `force`.
    """

    version: int
    flag: Flag = field(repr=False)
    force: bool = False

    @property
    def name(self) -> str:
        return self.flag.name

    def apply(self, environment: EnvironmentFlags, facts: PlanFacts) -> PlannedChange:
        if environment.live_item("flag", self.name) is None:
            refuse_archived(environment, "flag", self.name)
        if not self.force:
            _refuse_type_in_use(environment, self.flag, facts)
        return {("flag", self.name): PlannedDefinition(self.flag, action="rolled_back")}


@dataclass(frozen=True, slots=True)
class CopyFlag:
    """Write a flag of another environment, with its salts and buckets.

    One that exists is replaced only with `overwrite`; see `ReplaceFlag` for `force`.
    """

    flag: Flag = field(repr=False)
    overwrite: bool = False
    force: bool = False

    @property
    def name(self) -> str:
        return self.flag.name

    def apply(self, environment: EnvironmentFlags, facts: PlanFacts) -> PlannedChange:
        change = self.unchecked_change(environment, facts)
        if change and (missing := missing_references(self.flag, environment)):
            places = [(one.pointer, one.detail) for one in missing]
            raise ReferencesMissing(self.name, environment.name, places)
        return change

    def unchecked_change(self, environment: EnvironmentFlags, facts: PlanFacts) -> PlannedChange:
        """Return the change as if the environment had all that the flag needs."""
        present = environment.live_item("flag", self.name)
        if present is not None and present.definition == definition_text(self.flag):
            return {}
        if not self.overwrite:
            refuse_present(environment, "flag", self.name)
        if not self.force:
            _refuse_type_in_use(environment, self.flag, facts)
        return {("flag", self.name): PlannedDefinition(self.flag)}


@dataclass(frozen=True, slots=True)
class ImportItems:
    """Write many flags and segments, whether they exist or not.

    `archived` has the names of those flags that are archived then; None: no flag that is archived
    is written.
    """

    flags: tuple[Flag, ...] = field(repr=False)
    segments: tuple[Segment, ...] = field(repr=False)
    archived: frozenset[str] | None = field(default=None, repr=False)

    def apply(self, _: EnvironmentFlags, __: PlanFacts) -> PlannedChange:
        return self.change()

    def change(self) -> PlannedChange:
        """Return the change, which is the same in every environment; flags first."""
        archived = self.archived
        flags: dict[ItemKey, Definition | PlannedDefinition | None] = {
            ("flag", flag.name): flag
            if archived is None
            else PlannedDefinition(flag, flag.name in archived)
            for flag in self.flags
        }
        return flags | {("segment", segment.name): segment for segment in self.segments}


@dataclass(frozen=True, slots=True)
class StatedItem:
    """A flag or segment as it is to be, None for a deletion, on top of version `base`.

    `base` 0: it never existed; None: on top of any version.
    """

    kind: Kind
    name: str
    definition: Definition | None = field(repr=False)
    is_archived: bool = False
    base: int | None = None


@dataclass(frozen=True, slots=True)
class SetItems:
    """Write several definitions as they are stated, all or none.

    Raises ItemsMoved with those that have another version than they state.
    """

    items: tuple[StatedItem, ...]

    def apply(self, environment: EnvironmentFlags, _: PlanFacts) -> PlannedChange:
        moved = {
            (each.kind, each.name): version
            for each in self.items
            if each.base not in (None, version := _version_of(environment, each.kind, each.name))
        }
        if moved:
            raise ItemsMoved(moved)
        return {
            (each.kind, each.name): None
            if each.definition is None
            else PlannedDefinition(each.definition, each.is_archived)
            for each in self.items
        }


def _version_of(environment: EnvironmentFlags, kind: Kind, name: str) -> int:
    item = environment.items.get((kind, name))
    return 0 if item is None else item.version


_FlagPlan: TypeAlias = (
    CreateFlag
    | ReplaceFlag
    | ChangeFlag
    | ChangeTargets
    | DeleteFlag
    | ArchiveFlag
    | RestoreFlag
    | KillFlag
    | RestoreVersion
    | CopyFlag
)
_SegmentPlan: TypeAlias = CreateSegment | ReplaceSegment | ChangeSegment | DeleteSegment
ItemPlan: TypeAlias = _FlagPlan | _SegmentPlan
Plan: TypeAlias = ItemPlan | ImportItems | SetItems
"""`apply(environment, facts)` returns what becomes of the environment, which is not changed.

It raises the feature's errors, and DefinitionError for a flaw in a definition. `planned_edits`
applies a plan, checks the result, and returns what will be committed.
"""


@overload
def item_key(plan: ItemPlan) -> ItemKey: ...


@overload
def item_key(plan: Plan) -> ItemKey | None: ...


def item_key(plan: Plan) -> ItemKey | None:
    """Return the flag or segment that a plan is about; None: not about a single one."""
    match plan:
        case ImportItems() | SetItems():
            return None
        case CreateSegment() | ReplaceSegment() | ChangeSegment() | DeleteSegment():
            return "segment", plan.name
        case _:
            return "flag", plan.name


def _creation(kind: Kind, definition: Definition, environment: EnvironmentFlags) -> PlannedChange:
    refuse_present(environment, kind, definition.name)
    return {(kind, definition.name): definition}


def _refuse_type_in_use(environment: EnvironmentFlags, flag: Flag, facts: PlanFacts) -> None:
    """Refuse another type for a flag that was evaluated within a day.

    Programs that evaluate it would get their own default from one moment to the next.
    """
    present, last = environment.flag(flag.name), facts.last_evaluated_at
    if present is None or flag.type == present.type or last is None:
        return
    if last > facts.now - _IN_USE:
        raise FlagTypeInUse(flag.name, present.type, last)


def _read_flag(members: Mapping[str, Any], environment: EnvironmentFlags) -> Flag:
    return read_flag_body(members, environment.flag(str(members.get("name"))))


def _merged_members(item: Item, members: Mapping[str, Any]) -> dict[str, Any]:
    return {**json.loads(item.definition), **members, "name": item.name}


def _given_users(_: Sequence[Any], users: Sequence[str]) -> list[Any]:
    return list(dict.fromkeys(users))


def _all_users(present: Sequence[Any], users: Sequence[str]) -> list[Any]:
    return list(dict.fromkeys([*present, *users]))


def _remaining_users(present: Sequence[Any], users: Sequence[str]) -> list[Any]:
    gone = set(users)
    return [user for user in present if user not in gone]


_OPERATIONS: Mapping[TargetOperation, Callable[[Sequence[Any], Sequence[str]], list[Any]]] = {
    "replace": _given_users,
    "append": _all_users,
    "remove": _remaining_users,
}
