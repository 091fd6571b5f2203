"""The use cases of flags and segments, but for evaluation."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.flags.errors import BadDefinition, BadEnvironment
from app.flags.forms import difference, merged, read, read_any_segment, shown
from app.flags.model import Item, Kind, Usage
from app.flags.port import FlagStore
from app.flags.sets import Environment, FlagSets
from app.flags.usage import UsageCounter
from app.flags.writing import (
    Definition,
    FlagWriter,
    Request,
    created,
    not_found,
    removed,
    replaced,
)
from app.telemetry import FLAG_WRITES
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.diff import Diff
from pilothouse_core.names import is_name


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is asked for; None is everything."""

    enabled: bool | None = None
    tag: str | None = None
    text: str | None = None
    stale_days: int | None = None


@dataclass(frozen=True, slots=True)
class FlagService:
    store: FlagStore
    sets: FlagSets
    writer: FlagWriter
    counter: UsageCounter

    def environment(self, name: str) -> Environment:
        if not is_name(name):
            raise BadEnvironment(name)
        return self.sets.environment(name)

    def item(self, kind: Kind, environment: str, name: str) -> Item:
        """Return a flag or segment as it stands; raises FlagNotFound or SegmentNotFound."""
        found = self.environment(environment).live(kind, name)
        if found is None:
            raise not_found(kind, name, environment)
        return found

    def shown(self, item: Item) -> dict[str, Any]:
        known = self.sets.environment(item.environment)
        is_known = item.kind == "flag" and known.live("flag", item.name) is item
        members = shown(item, known.flag(item.name) if is_known else None)
        if item.kind == "flag":
            members["last_evaluated_at"] = self.counter.last_evaluated_at(
                item.environment, item.name
            )
        return members

    def listed(self, kind: Kind, environment: str, wanted: Wanted) -> Sequence[Item]:
        """Return what stands in an environment and is wanted, by name."""
        items = self.environment(environment).items.values()
        found = (item for item in items if item.kind == kind and not item.deleted)
        return sorted(
            (item for item in found if self._is_wanted(item, wanted)), key=lambda item: item.name
        )

    def _is_wanted(self, item: Item, wanted: Wanted) -> bool:
        if wanted == Wanted():
            return True
        members: Mapping[str, Any] = json.loads(item.definition)
        if wanted.enabled is not None and members.get("enabled") is not wanted.enabled:
            return False
        if wanted.tag is not None and wanted.tag not in members.get("tags", ()):
            return False
        if wanted.text is not None:
            told = f"{item.name} {members.get('description', '')}".casefold()
            if wanted.text.casefold() not in told:
                return False
        return wanted.stale_days is None or self._is_stale(item, wanted.stale_days)

    def _is_stale(self, item: Item, days: int) -> bool:
        """Tell whether nobody has evaluated a flag for so long, nor made it since."""
        last = self.counter.last_evaluated_at(item.environment, item.name) or item.created_at
        return last <= datetime.now(UTC) - timedelta(days=days)

    def flag_set(self, environment: str) -> bytes:
        """Return all that stands in an environment as JSON, for those who evaluate themselves."""
        found = self.environment(environment)
        flags, segments = (
            b",".join(
                b'%b,"version":%d}' % (item.definition[:-1].encode(), item.version)
                for item in found.items.values()
                if item.kind == kind and not item.deleted
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
        self, kind: Kind, environment: str, body: Mapping[str, Any], request: Request
    ) -> Item:
        definition = await asyncio.to_thread(_checked, lambda: _read(kind, body))
        items = await self.writer.write(environment, created(kind, definition), request)
        return self._written(kind, environment, definition.name, items)

    async def replace(
        self, kind: Kind, environment: str, name: str, body: Mapping[str, Any], request: Request
    ) -> Item:
        """Replace a whole definition; buckets move as little as the new weights allow."""
        body = {**body, "name": _same_name(name, body)}

        def make(found: Environment, _: Item) -> Definition:
            return _read(kind, body, found)

        return await self._replaced(kind, environment, name, make, request)

    async def change(
        self, kind: Kind, environment: str, name: str, body: Mapping[str, Any], request: Request
    ) -> Item:
        """Replace single members of a definition."""
        _same_name(name, body)

        def make(found: Environment, item: Item) -> Definition:
            flag = found.flag(name) if kind == "flag" else None
            members = json.loads(item.definition)
            return _read(kind, merged(flag, body) if flag else {**members, **body}, found)

        return await self._replaced(kind, environment, name, make, request)

    async def _replaced(
        self,
        kind: Kind,
        environment: str,
        name: str,
        make: Callable[[Environment, Item], Definition],
        request: Request,
    ) -> Item:
        plan = replaced(kind, name, make, request.expected)
        items = await self.writer.write(environment, plan, request)
        return self._written(kind, environment, name, items)

    async def delete(self, kind: Kind, environment: str, name: str, request: Request) -> Item:
        plan = removed(kind, name, request.expected)
        items = await self.writer.write(environment, plan, request)
        FLAG_WRITES.labels(kind).inc()
        return items[0]

    def _written(self, kind: Kind, environment: str, name: str, items: Sequence[Item]) -> Item:
        """Return what was written, or what stands where that was so already."""
        if items:
            FLAG_WRITES.labels(kind).inc()
            return items[0]
        return self.item(kind, environment, name)

    async def history(
        self, kind: Kind, environment: str, name: str, limit: int, before: int | None
    ) -> Sequence[tuple[Item, Diff]]:
        """Return the versions of a flag or segment, newest first, with what each has changed."""
        self.environment(environment)
        found = await self.store.history(kind, environment, name, limit + 1, before)
        if not found and before is None:
            raise not_found(kind, name, environment)
        older: list[Item | None] = [*found[1:], None]
        pairs = list(zip(found, older, strict=True))[:limit]
        return [(item, difference(former, item)) for item, former in pairs]

    async def usage(self, environment: str, name: str) -> Usage | None:
        self.item("flag", environment, name)
        return (await self.counter.usage(environment)).get(name)

    def count(self, environment: str, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Take over what a client has evaluated itself; what does not exist is left out."""
        found = self.environment(environment)
        for name, variants in counts.items():
            flag = found.flag(name)
            for variant, times in variants.items():
                if flag is not None and variant in flag.variants and times > 0:
                    self.counter.add(environment, name, variant, times)


def _same_name(name: str, body: Mapping[str, Any]) -> str:
    if body.get("name", name) != name:
        raise BadDefinition("/name", f"is not the {name!r} of the address", "contradiction")
    return name


def _read(
    kind: Kind, body: Mapping[str, Any], environment: Environment | None = None
) -> Definition:
    if kind == "segment":
        return read_any_segment(body)
    before = environment.flag(str(body.get("name"))) if environment is not None else None
    return read(body, before)


def _checked(make: Callable[[], Definition]) -> Definition:
    try:
        return make()
    except DefinitionError as error:
        raise BadDefinition.of(error) from error
