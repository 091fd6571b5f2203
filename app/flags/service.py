"""The use cases of flags and segments, except evaluation."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.definitions.plans import (
    ChangeFlag,
    ChangeSegment,
    CreateFlag,
    CreateSegment,
    ItemPlan,
    ReplaceFlag,
    ReplaceSegment,
    item_key,
)
from app.flags.definitions.preconditions import not_found
from app.flags.definitions.previews import ItemPreview
from app.flags.definitions.representations import (
    difference,
    is_simple_form,
    read_flag_body,
    read_segment_body,
)
from app.flags.errors import BadDefinition, BadEnvironment
from app.flags.evaluation.usage import UsageCounter
from app.flags.listing import FlagListing
from app.flags.model import FlagUsage, Item, Kind, VersionAction, version_action
from app.flags.presentation import FlagPresenter
from app.flags.stale import StaleFlags
from app.flags.store.port import FlagStore
from app.flags.writer import FlagWriter, WriteRequest
from app.telemetry import FLAG_WRITES
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.diff import Diff
from pilothouse_core.names import is_name


@dataclass(frozen=True, slots=True)
class FlagService:
    store: FlagStore
    sets: FlagCache
    writer: FlagWriter
    counter: UsageCounter

    @property
    def listing(self) -> FlagListing:
        return FlagListing(self.sets, self.counter)

    @property
    def stale(self) -> StaleFlags:
        return StaleFlags(self.sets, self.counter)

    @property
    def presenter(self) -> FlagPresenter:
        return FlagPresenter(self.sets, self.counter)

    def environment(self, name: str) -> EnvironmentFlags:
        if not is_name(name):
            raise BadEnvironment(name)
        return self.sets.environment(name)

    def environments(self) -> Sequence[str]:
        """Return the environments in which anything was ever written, in order.

        Raises FlagsUnavailable if the flags have not been read yet.
        """
        return self.sets.known_environments()

    def item(self, kind: Kind, environment: str, name: str) -> Item:
        """Return the current flag or segment; raises FlagNotFound or SegmentNotFound.

        A flag may be archived.
        """
        known = self.environment(environment)
        item = known.live_item(kind, name) or known.archived_item(kind, name)
        if item is None:
            raise not_found(kind, name, known)
        return item

    async def creation_plan(
        self, kind: Kind, body: Mapping[str, Any]
    ) -> CreateFlag | CreateSegment:
        return await asyncio.to_thread(_creation, kind, body)

    async def replacement_plan(
        self,
        kind: Kind,
        environment: str,
        name: str,
        body: Mapping[str, Any],
        *,
        force: bool = False,
    ) -> ReplaceFlag | ReplaceSegment | ChangeFlag | ChangeSegment:
        """Return the plan that replaces a whole definition.

        Buckets move as little as the new weights allow. The simple form of a flag keeps what it
        does not name. A flag in use gets another type only with `force`: the write raises
        FlagTypeInUse.
        """
        if kind == "flag" and is_simple_form(body):
            return await self.change_plan(kind, environment, name, body, force=force)
        _refuse_other_name(name, body)
        if kind == "segment":
            return ReplaceSegment(name, body)
        await self.update_usage(environment, name, body.get("type"), force=force)
        return ReplaceFlag(name, body, force)

    async def change_plan(
        self,
        kind: Kind,
        environment: str,
        name: str,
        body: Mapping[str, Any],
        *,
        force: bool = False,
    ) -> ChangeFlag | ChangeSegment:
        """Return the plan that replaces single members; see `replacement_plan` for `force`."""
        _refuse_other_name(name, body)
        if kind == "segment":
            return ChangeSegment(name, body)
        await self.update_usage(environment, name, body.get("type"), force=force)
        return ChangeFlag(name, body, force)

    async def update_usage(
        self, environment: str, name: str, wanted: str | None, *, force: bool
    ) -> None:
        """Read what other replicas have counted until now if a flag is to get another type.

        For the check whether it is in use, which `force` turns off.
        """
        flag = self.environment(environment).flag(name)
        if flag is not None and not force and wanted not in {None, flag.type}:
            await self.counter.usage(environment)

    async def write(self, environment: str, plan: ItemPlan, request: WriteRequest) -> Item:
        """Carry out a plan; returns the written item, or the current one if nothing changed.

        Raises what `FlagWriter.write` raises.
        """
        kind, name = item_key(plan)
        items = await self.writer.write(environment, plan, request)
        return self.written_or_current(kind, environment, name, items)

    async def preview(self, environment: str, plan: ItemPlan, request: WriteRequest) -> ItemPreview:
        """Return what `write` would do, and write nothing; raises as `write` does."""
        kind, name = item_key(plan)
        preview = await self.writer.preview(
            environment, plan, request.expected, is_kill=request.is_kill
        )
        return preview.item(kind, name)

    def written_or_current(
        self, kind: Kind, environment: str, name: str, items: Sequence[Item]
    ) -> Item:
        """Return the written item, or the current one if nothing had to be written."""
        if items:
            FLAG_WRITES.labels(kind).inc()
            return items[0]
        return self.item(kind, environment, name)

    async def history(
        self, kind: Kind, environment: str, name: str, limit: int, before: int | None
    ) -> Sequence[tuple[Item, VersionAction, Diff]]:
        """Return the versions of a flag or segment, newest first, each with its changes."""
        known = self.environment(environment)
        versions = await self.store.history(kind, environment, name, limit + 1, before)
        if not versions:
            if before is None:
                raise not_found(kind, name, known)
            return []
        older: list[Item | None] = [*versions[1:], None]
        pairs = list(zip(versions, older, strict=True))[:limit]
        is_large = sum(len(item.definition) for item in versions) > LARGE_TEXT
        return await run_apart(
            is_large,
            lambda: [
                (item, version_action(item, former), _difference(former, item))
                for item, former in pairs
            ],
        )

    async def usage(self, environment: str, name: str) -> FlagUsage | None:
        self.item("flag", environment, name)
        return (await self.counter.usage(environment)).get(name)


def _refuse_other_name(name: str, body: Mapping[str, Any]) -> None:
    if body.get("name", name) != name:
        raise BadDefinition("/name", f"differs from {name!r} in the path", "contradiction")


def _difference(former: Item | None, item: Item) -> Diff:
    return difference("" if former is None else former.definition, item.definition)


def _creation(kind: Kind, body: Mapping[str, Any]) -> CreateFlag | CreateSegment:
    try:
        if kind == "flag":
            return CreateFlag(read_flag_body(body))
        return CreateSegment(read_segment_body(body))
    except DefinitionError as error:
        raise BadDefinition.of(error) from error
