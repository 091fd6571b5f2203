"""The use cases of flags and segments, but for evaluation."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.definitions.representations import (
    difference,
    is_simple_form,
    patched_flag,
    public_members,
    read_flag_body,
    read_segment_body,
)
from app.flags.errors import BadDefinition, BadEnvironment, FlagTypeInUse
from app.flags.evaluation.usage import UsageCounter
from app.flags.model import FlagUsage, Item, Kind, VersionAction, version_action
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
from app.workers import LARGE_TEXT, in_slices, run_apart, run_in_worker
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.diff import Diff
from pilothouse_core.flags.model import Flag
from pilothouse_core.names import is_name

T = TypeVar("T")
_IN_USE = timedelta(days=1)
_MANY_ITEMS = 500  # to look through them takes about as long as a thread does


@dataclass(frozen=True, slots=True)
class FlagFilter:
    """Filters of a list; None means no filter."""

    enabled: bool | None = None
    tag: str | None = None
    text: str | None = None
    stale_days: int | None = None
    archived: bool = False  # only these, which are left out otherwise


@dataclass(frozen=True, slots=True)
class FlagService:
    store: FlagStore
    sets: FlagCache
    writer: FlagWriter
    counter: UsageCounter

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
        found = known.live_item(kind, name) or known.archived_item(kind, name)
        if found is None:
            raise not_found(kind, name, known)
        return found

    def public_members(self, item: Item) -> dict[str, Any]:
        self.counter.collect()
        return self.members_without_collecting(item)

    async def page_of_members(
        self, items: Sequence[Item], make: Callable[[Any], T], *, is_large: bool
    ) -> list[T]:
        """Show many as `make` makes them of their members."""
        self.counter.collect()
        if is_large:
            return await run_in_worker(
                lambda: [make(self.members_without_collecting(item)) for item in items]
            )
        return await in_slices(items, lambda item: make(self.members_without_collecting(item)))

    def members_without_collecting(self, item: Item) -> dict[str, Any]:
        """Return the public members without collecting counts first."""
        known = self.sets.environment(item.environment)
        is_known = item.kind == "flag" and known.live_item("flag", item.name) is item
        members = public_members(item, known.flag(item.name) if is_known else None)
        if item.kind == "flag":
            members["last_evaluated_at"] = self.counter.last_evaluated_at(
                item.environment, item.name
            )
        return members

    async def list_items(self, kind: Kind, environment: str, wanted: FlagFilter) -> Sequence[Item]:
        """Return the items of an environment that pass the filter, by name."""
        items = self.environment(environment).items.values()
        if wanted.stale_days is not None:
            self.counter.collect()
        return await run_apart(len(items) > _MANY_ITEMS, self._filter_items, kind, items, wanted)

    def _filter_items(
        self, kind: Kind, items: Iterable[Item], wanted: FlagFilter
    ) -> Sequence[Item]:
        found = [
            item
            for item in items
            if item.kind == kind and (item.is_archived if wanted.archived else not item.is_deleted)
        ]
        if wanted != FlagFilter():
            found = [item for item in found if self._is_wanted(item, wanted)]
        return sorted(found, key=lambda item: item.name)

    def _is_wanted(self, item: Item, wanted: FlagFilter) -> bool:
        enabled, tags, description = self._listed_by(item)
        if wanted.enabled is not None and enabled is not wanted.enabled:
            return False
        if wanted.tag is not None and wanted.tag not in tags:
            return False
        if wanted.text is not None:
            told = f"{item.name} {description}".casefold()
            if wanted.text.casefold() not in told:
                return False
        return wanted.stale_days is None or self._is_stale(item, wanted.stale_days)

    def _listed_by(self, item: Item) -> tuple[Any, Sequence[str], str]:
        """Return whether it is enabled, its tags and its description, as they were read before."""
        known = self.sets.environment(item.environment)
        if item.kind == "flag" and (flag := known.flag(item.name)) is not None:
            return flag.enabled, flag.tags, flag.description
        if item.kind == "segment" and (segment := known.segment(item.name)) is not None:
            return None, (), segment.description
        members: Mapping[str, Any] = json.loads(item.definition)
        return members.get("enabled"), members.get("tags", ()), members.get("description", "")

    def _is_stale(self, item: Item, days: int) -> bool:
        """Tell whether a flag was neither evaluated nor created for this many days."""
        last = self.counter.last_evaluated_at(item.environment, item.name) or item.created_at
        return last <= datetime.now(UTC) - timedelta(days=days)

    def flag_set(self, environment: str) -> bytes:
        """Return the whole flag set of an environment as JSON, for local evaluation."""
        found = self.environment(environment)
        flags, segments = (
            b",".join(
                b'%b,"version":%d}' % (item.definition[:-1].encode(), item.version)
                for item in found.items.values()
                if item.kind == kind and not item.is_deleted
            )
            for kind in ("flag", "segment")
        )
        return b'{"environment":"%b","revision":%d,"flags":[%b],"segments":[%b]}' % (
            environment.encode(),
            found.revision,
            flags,
            segments,
        )

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
        found = await self.store.history(kind, environment, name, limit + 1, before)
        if not found:
            if before is None:
                raise not_found(kind, name, known)
            return []
        older: list[Item | None] = [*found[1:], None]
        pairs = list(zip(found, older, strict=True))[:limit]
        is_large = sum(len(item.definition) for item in found) > LARGE_TEXT
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

    def count(self, environment: str, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Add a client's own evaluations; flags and variants that do not exist are ignored."""
        found = self.environment(environment)
        evaluated = [
            (name, variant, times)
            for name, variants in counts.items()
            if (flag := found.flag(name)) is not None
            for variant, times in variants.items()
            if variant in flag.variants and times > 0
        ]
        self.counter.add(environment, evaluated)


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
