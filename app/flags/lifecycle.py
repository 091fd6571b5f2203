"""Rollback of flags, and copying to another environment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.flags.definitions.missing_references import MissingReference, missing_references
from app.flags.definitions.plans import CopyFlag, RestoreVersion
from app.flags.definitions.preconditions import not_found
from app.flags.definitions.representations import definition_of
from app.flags.errors import (
    BadDefinition,
    FlagArchived,
    FlagVersionIsDeletion,
    FlagVersionNotFound,
)
from app.flags.model import Item
from app.flags.service import FlagService
from app.flags.writer import WriteRequest
from app.telemetry import FLAG_WRITES
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.flags.model import Flag

Status = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class CopyResult:
    status: Status
    version: int  # in the target environment, after the copy
    revision: int = 0  # of the change that was made; 0 where none was
    missing: Sequence[MissingReference] = ()


@dataclass(frozen=True, slots=True)
class FlagLifecycle:
    flags: FlagService

    async def rollback_plan(
        self, environment: str, name: str, version: int, *, force: bool
    ) -> RestoreVersion:
        """Return the plan that restores the definition of an earlier version, with its buckets.

        A flag that is deleted comes back. Raises FlagVersionNotFound and FlagVersionIsDeletion; the
        write raises FlagArchived, and FlagTypeInUse unless forced.
        """
        former = await self._version(environment, name, version)
        is_large = len(former.definition) > LARGE_TEXT
        flag = await run_apart(is_large, definition_of, former)
        assert isinstance(flag, Flag)
        await self.flags.update_usage(environment, name, flag.type, force=force)
        return RestoreVersion(version, flag, force)

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

        Raises FlagExists or FlagArchived if the target has another flag of this name and is not to
        `overwrite` it, ReferencesMissing, and FlagTypeInUse unless forced.
        """
        plan = await self._copy_plan(name, source, to, overwrite=overwrite, force=force)
        items = await self.flags.writer.write(to, plan, request)
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
        change = plan.unchecked_change(target, self.flags.writer.plan_facts(to, plan))
        missing = missing_references(plan.flag, target) if change else ()
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
    ) -> CopyFlag:
        if source == to:
            raise BadDefinition("/to", "is the environment of the flag itself", "same_environment")
        self.flags.environment(to)
        await self.flags.sets.refresh()  # another replica may have written the flag just now
        origin = self.flags.environment(source)
        flag = origin.flag(name)
        if flag is None:
            if origin.archived_item("flag", name) is not None:
                raise FlagArchived(name, source)
            raise not_found("flag", name, origin)
        await self.flags.update_usage(to, name, flag.type, force=force)
        return CopyFlag(flag, overwrite, force)
