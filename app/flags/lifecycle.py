"""Archiving, restoring, rollback and copying of flags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.flags.cache import EnvironmentFlags
from app.flags.definitions.representations import definition_of, definition_text
from app.flags.errors import (
    BadDefinition,
    FlagArchived,
    FlagExists,
    FlagVersionIsDeletion,
    FlagVersionNotFound,
    ReferencesMissing,
)
from app.flags.model import Item, Kind
from app.flags.service import FlagService
from app.flags.writer import (
    Plan,
    PlannedChange,
    PlannedDefinition,
    WriteRequest,
    not_found,
    plan_archive,
    plan_restore,
    plan_rollback,
)
from app.telemetry import FLAG_WRITES
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.flags.model import Flag, segment_references

Status = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class MissingReference:
    """A flag or segment that a copied flag needs and the target environment does not have."""

    kind: Kind
    name: str
    pointer: str
    archived: bool = False

    @property
    def detail(self) -> str:
        what = f"the {self.kind} {self.name!r}"
        return f"{what} is archived there" if self.archived else f"there is no {what[4:]}"


@dataclass(frozen=True, slots=True)
class CopyResult:
    status: Status
    version: int  # the one it has there, or would have
    revision: int = 0  # of the change that was made; 0 where none was
    missing: Sequence[MissingReference] = ()


@dataclass(frozen=True, slots=True)
class FlagLifecycle:
    flags: FlagService

    async def archive(self, environment: str, name: str, request: WriteRequest) -> Item:
        """Archive a flag: it is no longer served, and its definition is kept. Raises FlagInUse."""
        return await self._write(environment, name, plan_archive(name, request.expected), request)

    async def restore(self, environment: str, name: str, request: WriteRequest) -> Item:
        """Restore an archived flag as it was; raises BadDefinition where its needs are gone."""
        return await self._write(environment, name, plan_restore(name, request.expected), request)

    async def roll_back(
        self, environment: str, name: str, version: int, request: WriteRequest, *, force: bool
    ) -> Item:
        """Let the definition of an earlier version hold again, with the buckets it had.

        A flag that is deleted comes back. Raises FlagVersionNotFound, FlagVersionIsDeletion,
        FlagArchived, and FlagTypeInUse unless forced.
        """
        former = await self._version(environment, name, version)
        is_large = len(former.definition) > LARGE_TEXT
        flag = await run_apart(is_large, definition_of, former)
        assert isinstance(flag, Flag)
        check_type = await self.flags.type_check("flag", environment, name, flag.type, force=force)
        plan = plan_rollback(flag, check_type, request.expected)
        return await self._write(environment, name, plan, request)

    async def _version(self, environment: str, name: str, version: int) -> Item:
        known = self.flags.environment(environment)
        versions = await self.flags.store.history("flag", environment, name, 1, version + 1)
        if not versions:
            newest = await self.flags.store.history("flag", environment, name, 1)
            if not newest:
                raise not_found("flag", name, known)
        if not versions or versions[0].version != version:
            raise FlagVersionNotFound(name, environment, version)
        if not versions[0].definition:
            raise FlagVersionIsDeletion(name, environment, version)
        return versions[0]

    async def copy(
        self,
        name: str,
        source: str,
        to: str,
        request: WriteRequest,
        *,
        overwrite: bool,
        force: bool,
    ) -> CopyResult:
        """Copy a flag to another environment, with its salts and buckets.

        Raises FlagExists where another flag of this name is there, unless it is overwritten,
        FlagArchived likewise, ReferencesMissing, and FlagTypeInUse unless forced.
        """
        plan = await self._copy_plan(name, source, to, overwrite=overwrite, force=force)

        def complete(found: EnvironmentFlags) -> PlannedChange:
            change = plan(found)
            if missing := _missing_references(change, found):
                raise ReferencesMissing(name, to, [(one.pointer, one.detail) for one in missing])
            return change

        items = await self.flags.writer.write(to, complete, request)
        if not items:
            return CopyResult("unchanged", self.flags.item("flag", to, name).version)
        FLAG_WRITES.labels("flag").inc()
        status: Status = "created" if items[0].action == "created" else "updated"
        return CopyResult(status, items[0].version, items[0].revision)

    async def preview_copy(
        self, name: str, source: str, to: str, *, overwrite: bool, force: bool
    ) -> CopyResult:
        """Return the result and missing references of a copy; otherwise raises as `copy` does."""
        plan = await self._copy_plan(name, source, to, overwrite=overwrite, force=force)
        await self.flags.sets.refresh()
        target = self.flags.environment(to)
        change = plan(target)
        missing = _missing_references(change, target)
        present = target.items.get(("flag", name))
        version = 0 if present is None else present.version
        if not change:
            return CopyResult("unchanged", version)
        if not missing:
            await self.flags.writer.preview(to, plan)
        is_there = target.live_item("flag", name) is not None
        return CopyResult("updated" if is_there else "created", version + 1, missing=missing)

    async def _copy_plan(
        self, name: str, source: str, to: str, *, overwrite: bool, force: bool
    ) -> Plan:
        if source == to:
            raise BadDefinition("/to", "is the environment that the flag is in", "same_environment")
        self.flags.environment(to)
        await self.flags.sets.refresh()  # another replica may have written the flag just now
        origin = self.flags.environment(source)
        flag = origin.flag(name)
        if flag is None:
            if origin.archived_item("flag", name) is not None:
                raise FlagArchived(name, source)
            raise not_found("flag", name, origin)
        check_type = await self.flags.type_check("flag", to, name, flag.type, force=force)

        def plan(target: EnvironmentFlags) -> PlannedChange:
            present = target.live_item("flag", name)
            if present is not None and present.definition == definition_text(flag):
                return {}
            if not overwrite and present is not None:
                raise FlagExists("flag", name, to)
            if not overwrite and target.archived_item("flag", name) is not None:
                raise FlagArchived(name, to)
            return {("flag", name): PlannedDefinition(check_type(target, flag))}

        return plan

    async def _write(self, environment: str, name: str, plan: Plan, request: WriteRequest) -> Item:
        items = await self.flags.writer.write(environment, plan, request)
        return self.flags.written_or_current("flag", environment, name, items)


def _missing_references(
    change: PlannedChange, target: EnvironmentFlags
) -> Sequence[MissingReference]:
    """Return the references of changed flags that do not exist in the target environment."""
    outcomes = [found for found in change.values() if isinstance(found, PlannedDefinition)]
    return [
        one
        for outcome in outcomes
        if isinstance(outcome.definition, Flag)
        for one in _missing_references_of(outcome.definition, target)
    ]


def _missing_references_of(flag: Flag, target: EnvironmentFlags) -> Sequence[MissingReference]:
    segments = [
        MissingReference("segment", used, pointer)
        for used, pointer in segment_references(flag)
        if target.segment(used) is None
    ]
    return segments + [
        MissingReference(
            "flag",
            need.flag,
            f"/prerequisites/{number}/flag",
            target.archived_item("flag", need.flag) is not None,
        )
        for number, need in enumerate(flag.prerequisites)
        if target.flag(need.flag) is None
    ]
