"""Compares two environments as they are now, with what was promoted between them last."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from app.access.model import Caller, Right
from app.configs.documents.reader import DocumentReader
from app.configs.errors import DocumentMalformed, DocumentNotFound, VersionGone, VersionNotFound
from app.configs.model import SHARED, Body, DocumentId, document_id
from app.configs.secrets import holds_secret
from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.model import Kind
from app.flags.store.port import FlagStore
from app.proposals.promotion.comparison import Values
from app.proposals.promotion.errors import SamePlace, TooManyRows
from app.proposals.promotion.model import (
    ABSENT,
    MOST_ROWS,
    UNKNOWN,
    Base,
    Pin,
    Row,
    RowKey,
)
from app.proposals.promotion.pinned_places import environment_keys
from app.proposals.promotion.store.port import PromotionStore
from app.rules.catalog import DefinitionCatalog
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.keys import canonical_key, is_below
from pilothouse_core.trees import leaves

_AT_ONCE: Final = 8  # earlier versions that are read at the same time
_MOST_BASES: Final = 50  # versions of one document; of older ones nothing is known
_FLAG_KINDS: Final[tuple[Kind, ...]] = ("segment", "flag")


@dataclass(frozen=True, slots=True)
class Route:
    """What is compared: two environments, their services, and their flags.

    `overlay` has values by service and key that win over the source.
    """

    source: str
    target: str
    services: Sequence[str]
    flags: bool = False
    overlay: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows by kind, service and key, and the current versions of what they are about.

    `versions`: by document of a service, or by flag and segment, in the source and the target; 0
    where there is none. A deletion counts as a version too.
    """

    rows: Sequence[Row]
    versions: Mapping[RowKey, tuple[int, int]]
    bases: Mapping[RowKey, Base]
    plain: Mapping[RowKey, Any] = field(repr=False)  # values of the source that are no secrets
    expected: Mapping[str, int]  # by service: what `If-Match` of a write to the target would name

    @property
    def tag(self) -> str:
        """What changes whenever a version on either side does, or a row another state."""
        facts = (
            sorted((*subject, *pair) for subject, pair in self.versions.items()),
            [(*row.subject, row.state) for row in self.rows],
        )
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class PromotionComparer:
    reader: DocumentReader
    catalog: DefinitionCatalog
    flags: FlagCache
    flag_versions: FlagStore
    store: PromotionStore

    async def compare(self, route: Route, caller: Caller) -> Comparison:
        """Compare what the caller may read on both sides.

        Raises Denied, SamePlace, BadName, TooManyRows, and what a read raises.
        """
        self._demand_rights(route, caller)
        await self.flags.refresh()  # another replica may have written just now
        services = sorted(set(route.services))
        asked = [*services, *([""] if route.flags else [])]
        bases = {
            base.subject: base for base in await self.store.bases(route.source, route.target, asked)
        }
        pins = await self.store.pins_of(route.target)
        parts: list[Values] = []
        versions: dict[RowKey, tuple[int, int]] = {}
        expected: dict[str, int] = {}
        for service in services:
            bodies = (
                await self.reader.current(document_id(route.source, service)),
                await self.reader.current(document_id(route.target, service)),
            )
            parts.append(await self._service_values(route, service, bodies, bases, pins))
            versions[RowKey("config", service, "")] = (
                _version_of(bodies[0]),
                _version_of(bodies[1]),
            )
            target = bodies[1]
            expected[service] = 0 if target is None or target.deleted else target.version
        if route.flags:
            parts += [
                await self._flag_values(route, kind, bases, pins, versions) for kind in _FLAG_KINDS
            ]
        rows = await asyncio.to_thread(lambda: list(islice(_rows(parts), MOST_ROWS + 1)))
        if len(rows) > MOST_ROWS:
            raise TooManyRows(MOST_ROWS)
        plain = {
            RowKey(part.kind, part.service, key): value
            for part in parts
            for key, value in part.source.items()
            if not holds_secret(value)
        }
        return Comparison(rows, versions, bases, plain, expected)

    def _demand_rights(self, route: Route, caller: Caller) -> None:
        for environment in (route.source, route.target):
            document_id(environment, SHARED)
            for service in route.services:
                document_id(environment, service)
                caller.demand(Right.READ_CONFIGS, environment, service)
            if route.flags:
                caller.demand(Right.READ_FLAGS, environment)
        if route.source == route.target:
            raise SamePlace

    async def _service_values(
        self,
        route: Route,
        service: str,
        bodies: tuple[Body | None, Body | None],
        bases: Mapping[RowKey, Base],
        pins: Sequence[Pin],
    ) -> Values:
        source = document_id(route.source, service)
        target = document_id(route.target, service)
        is_large = sum(0 if body is None else body.size for body in bodies) > LARGE_TEXT
        old, new = [await run_apart(is_large, _leaves_of, body) for body in bodies]
        own = [base for base in bases.values() if base.subject[:2] == ("config", service)]
        former = await self._former_bodies(source, bodies[0], [base.version for base in own])
        marked = await run_apart(is_large, self._marked_keys, target, bodies)
        pinned = [pin.key for pin in pins if (pin.kind, pin.service) == ("config", service)]

        def base_of(key: str) -> Any:
            base = bases.get(RowKey("config", service, key))
            if base is None or base.version not in former:
                return UNKNOWN
            return former[base.version].get(key, ABSENT)

        def is_pinned(key: str) -> bool:
            return key in marked or any(key == pin or is_below(key, pin) for pin in pinned)

        overlay = {
            canonical_key(key): value for key, value in route.overlay.get(service, {}).items()
        }
        return Values("config", service, old, new, base_of, is_pinned, overlay)

    async def _former_bodies(
        self, document: DocumentId, current: Body | None, versions: Sequence[int]
    ) -> Mapping[int, Mapping[str, Any]]:
        """Return the leaves of earlier versions; those that are no longer kept are left out."""
        newest = sorted(set(versions), reverse=True)[:_MOST_BASES]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def read(version: int) -> tuple[int, Mapping[str, Any]] | None:
            if version == 0:
                return version, {}
            if current is not None and version == current.version:
                return version, _leaves_of(current)
            async with gate:
                with suppress(DocumentMalformed, DocumentNotFound, VersionGone, VersionNotFound):
                    return version, _leaves_of(await self.reader.version(document, version))
            return None

        bodies = await asyncio.gather(*map(read, newest))
        return dict(body for body in bodies if body is not None)

    def _marked_keys(self, target: DocumentId, bodies: Sequence[Body | None]) -> frozenset[str]:
        """Return the keys that schemas of the target say belong to the environment."""
        mounted = self.catalog.schemas_reaching(target.environment, target.service).mounted
        return frozenset(
            key
            for body in bodies
            if body is not None
            for key in environment_keys(mounted, body.data)
        )

    async def _flag_values(
        self,
        route: Route,
        kind: Kind,
        bases: Mapping[RowKey, Base],
        pins: Sequence[Pin],
        versions: dict[RowKey, tuple[int, int]],
    ) -> Values:
        """Return the definitions of one kind, and add the current versions to `versions`."""
        sides = [self.flags.environment(name) for name in (route.source, route.target)]
        texts = [_definitions(side, kind) for side in sides]
        for name in texts[0].keys() | texts[1].keys():
            pair = [side.items.get((kind, name)) for side in sides]
            source, target = (0 if item is None else item.version for item in pair)
            versions[RowKey(kind, "", name)] = source, target
        former = await self._former_definitions(route.source, kind, texts[0], versions, bases)
        pinned = {pin.key for pin in pins if pin.kind == kind}
        source_values, target_values = (
            {name: json.loads(text) for name, text in side.items()} for side in texts
        )
        return Values(
            kind,
            "",
            source_values,
            target_values,
            lambda name: former.get(name, UNKNOWN),
            lambda name: name in pinned,
        )

    async def _former_definitions(
        self,
        environment: str,
        kind: Kind,
        current: Mapping[str, str],
        versions: Mapping[RowKey, tuple[int, int]],
        bases: Mapping[RowKey, Base],
    ) -> Mapping[str, Any]:
        """Return the definitions that were promoted last, ABSENT where there was none."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def read(base: Base) -> tuple[str, Any]:
            name = base.subject.key
            if base.version == 0:
                return name, ABSENT
            if base.version == versions.get(base.subject, (0, 0))[0] and name in current:
                return name, json.loads(current[name])
            async with gate:
                history = await self.flag_versions.history(
                    kind, environment, name, 1, base.version + 1
                )
            if not history or history[0].version != base.version:
                return name, UNKNOWN
            item = history[0]
            return name, ABSENT if item.is_deleted else json.loads(item.definition)

        own = [base for base in bases.values() if base.subject.kind == kind]
        return dict(await asyncio.gather(*map(read, own)))


def _version_of(body: Body | None) -> int:
    return 0 if body is None else body.version


def _rows(parts: Sequence[Values]) -> Iterator[Row]:
    for part in parts:
        yield from part.rows()


def _leaves_of(body: Body | None) -> Mapping[str, Any]:
    return {} if body is None or body.deleted else dict(leaves(body.data))


def _definitions(flags: EnvironmentFlags, kind: Kind) -> Mapping[str, str]:
    return {name: flags.items[kind, name].definition for name in flags.live_names(kind)}
