"""The use cases of flags and segments, except evaluation."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.definitions.representations import (
    difference,
    is_simple_form,
    patched_flag,
    read_flag_body,
    read_segment_body,
)
from app.flags.errors import BadDefinition, BadEnvironment, FlagTypeInUse
from app.flags.evaluation.usage import UsageCounter
from app.flags.listing import FlagListing
from app.flags.model import FlagUsage, Item, Kind, VersionAction, version_action
from app.flags.presentation import FlagPresenter
from app.flags.store.port import FlagStore
from app.flags.writer import (
    Definition,
    FlagWriter,
    WriteRequest,
    not_found,
    plan_create,
    plan_delete,
    plan_replace,
)
from app.telemetry import FLAG_WRITES
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.diff import Diff
from pilothouse_core.flags.model import Flag
from pilothouse_core.names import is_name

_IN_USE = timedelta(days=1)


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
    def presenter(self) -> FlagPresenter:
        return FlagPresenter(self.sets, self.counter)

    def environment(self, name: str) -> EnvironmentFlags:
        if not is_name(name):
            raise BadEnvironment(name)
        return self.sets.environment(name)

    def environments(self) -> Sequence[str]:
        """Return the environments in which anything was ever written, in order.

        Raises FlagsUnavailable where that cannot be told because nothing was read yet.
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

    async def create(
        self, kind: Kind, environment: str, body: Mapping[str, Any], request: WriteRequest
    ) -> Item:
        definition = await asyncio.to_thread(
            _or_bad_definition, lambda: _read_definition(kind, body)
        )
        items = await self.writer.write(environment, plan_create(kind, definition), request)
        return self.written_or_current(kind, environment, definition.name, items)

    async def replace(
        self,
        kind: Kind,
        environment: str,
        name: str,
        body: Mapping[str, Any],
        request: WriteRequest,
        *,
        force: bool = False,
    ) -> Item:
        """Replace a whole definition; buckets move as little as the new weights allow.

        The simple form of a flag keeps what it does not name. A flag in use gets another type only
        with `force`: raises FlagTypeInUse.
        """
        if kind == "flag" and is_simple_form(body):
            return await self.change(kind, environment, name, body, request, force=force)
        body = {**body, "name": _same_name(name, body)}

        check_type = await self.type_check(kind, environment, name, body.get("type"), force=force)

        def make(found: EnvironmentFlags, _: Item) -> Definition:
            return check_type(found, _read_definition(kind, body, found))

        return await self._write_replacement(kind, environment, name, make, request)

    async def change(
        self,
        kind: Kind,
        environment: str,
        name: str,
        body: Mapping[str, Any],
        request: WriteRequest,
        *,
        force: bool = False,
    ) -> Item:
        """Replace single members of a definition; see `replace` for `force`."""
        _same_name(name, body)
        check_type = await self.type_check(kind, environment, name, body.get("type"), force=force)

        def make(found: EnvironmentFlags, item: Item) -> Definition:
            flag = found.flag(name) if kind == "flag" else None
            if flag is not None:
                return check_type(found, patched_flag(flag, body))
            members = json.loads(item.definition)
            return _read_definition(kind, {**members, **body, "name": name}, found)

        return await self._write_replacement(kind, environment, name, make, request)

    async def type_check(
        self, kind: Kind, environment: str, name: str, wanted: str | None, *, force: bool
    ) -> Callable[[EnvironmentFlags, Definition], Definition]:
        """Return what passes a new definition, of the `wanted` type, on; it raises FlagTypeInUse.

        Programs that evaluate the flag would get their own default from one moment to the next.
        """
        flag = self.environment(environment).flag(name) if kind == "flag" else None
        if flag is not None and not force and wanted not in {None, flag.type}:
            await self.counter.usage(environment)  # what other replicas have counted until now

        def check(found: EnvironmentFlags, definition: Definition) -> Definition:
            present = found.flag(name)
            if force or present is None or not isinstance(definition, Flag):
                return definition
            last = self.counter.last_evaluated_at(environment, name)
            if definition.type != present.type and last and last > datetime.now(UTC) - _IN_USE:
                raise FlagTypeInUse(name, present.type, last)
            return definition

        return check

    async def _write_replacement(
        self,
        kind: Kind,
        environment: str,
        name: str,
        make: Callable[[EnvironmentFlags, Item], Definition],
        request: WriteRequest,
    ) -> Item:
        plan = plan_replace(kind, name, make, request.expected)
        items = await self.writer.write(environment, plan, request)
        return self.written_or_current(kind, environment, name, items)

    async def delete(self, kind: Kind, environment: str, name: str, request: WriteRequest) -> Item:
        plan = plan_delete(kind, name, request.expected)
        items = await self.writer.write(environment, plan, request)
        FLAG_WRITES.labels(kind).inc()
        return items[0]

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
                (item, version_action(item, former), difference(former, item))
                for item, former in pairs
            ],
        )

    async def usage(self, environment: str, name: str) -> FlagUsage | None:
        self.item("flag", environment, name)
        return (await self.counter.usage(environment)).get(name)


def _same_name(name: str, body: Mapping[str, Any]) -> str:
    if body.get("name", name) != name:
        raise BadDefinition("/name", f"is not the {name!r} of the address", "contradiction")
    return name


def _read_definition(
    kind: Kind, body: Mapping[str, Any], environment: EnvironmentFlags | None = None
) -> Definition:
    if kind == "segment":
        return read_segment_body(body)
    before = environment.flag(str(body.get("name"))) if environment is not None else None
    return read_flag_body(body, before)


def _or_bad_definition(make: Callable[[], Definition]) -> Definition:
    try:
        return make()
    except DefinitionError as error:
        raise BadDefinition.of(error) from error
