"""How flags and segments are written: checked against the whole environment, then one commit."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.access.fingerprints import Fingerprints
from app.changes.errors import IdempotencyKeyReused
from app.changes.model import Idempotency
from app.errors import PilothouseError
from app.flags.errors import (
    BadDefinition,
    BadEnvironment,
    FlagContended,
    FlagExists,
    FlagInUse,
    FlagNotFound,
    FlagStale,
    KeyTaken,
    SegmentNotFound,
    SetMoved,
)
from app.flags.forms import text_of
from app.flags.model import Commit, Edit, Item, Kind
from app.flags.port import FlagStore
from app.flags.sets import Environment, FlagSets
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.flags import Flag, Segment
from pilothouse_core.names import is_name
from pilothouse_core.references import BrokenReference, StillNeeded, check_references

EXPORT = "export"  # GET .../export: no flag can be read there
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Request:
    """Who writes and why. `expected` judges the current version (If-Match)."""

    actor: str
    comment: str
    request_id: str
    expected: Callable[[int], bool] | None = None
    idempotency: Idempotency | None = None
    source: str | None = None  # the address it came from


Definition = Flag | Segment
# What becomes of an environment: definitions by kind and name, None to delete.
Change = Mapping[tuple[Kind, str], Definition | None]
Plan = Callable[[Environment], Change]


class FlagWriter:
    def __init__(self, store: FlagStore, sets: FlagSets, fingerprints: Fingerprints) -> None:
        self._store = store
        self._sets = sets
        self._fingerprints = fingerprints

    async def write(self, environment: str, plan: Plan, request: Request) -> Sequence[Item]:
        """Do what `plan` makes of the environment as it stands; returns what was written.

        Nothing where everything was so already. Raises what `plan` raises, BadDefinition,
        FlagInUse, FlagContended, FlagsUnavailable and IdempotencyKeyReused.
        """
        if not is_name(environment):
            raise BadEnvironment(environment)
        if (earlier := await self._earlier(request.idempotency)) is not None:
            return earlier
        for attempt in range(_ATTEMPTS):
            try:
                return await self._attempt(environment, plan, request)
            except SetMoved:
                await self._sets.refresh()
                if attempt:  # several writers that look again at once would meet again
                    await asyncio.sleep(_PAUSE_SECONDS * random.random())  # noqa: S311 - jitter
            except KeyTaken:
                return await self._earlier(request.idempotency) or ()
        raise FlagContended("too many others write to this environment at once")

    async def preview(self, environment: str, plan: Plan) -> Sequence[Edit]:
        """Return what `write` would write; raises what it would raise for `plan`."""
        if not is_name(environment):
            raise BadEnvironment(environment)
        return (await self._planned(environment, plan))[1]

    async def forget(self) -> None:
        """Delete every idempotency key that has outlived its day; raises FlagsUnavailable."""
        while await self._store.forget():
            pass

    async def _earlier(self, idempotency: Idempotency | None) -> Sequence[Item] | None:
        earlier = idempotency and await self._store.repeated(idempotency.key)
        if not earlier or idempotency is None:
            return None
        if earlier.digest != _digest(idempotency):
            raise IdempotencyKeyReused
        return earlier.items

    async def _planned(self, name: str, plan: Plan) -> tuple[Environment, Sequence[Edit]]:
        try:
            environment = self._sets.environment(name)
            # Apart: a large definition, or thousands of flags that need each other, take long.
            return environment, await asyncio.to_thread(_edits, environment, plan)
        except (PilothouseError, DefinitionError):
            # This replica may lag: nothing is refused for what it has not seen yet.
            await self._sets.refresh()
            environment = self._sets.environment(name)
            return environment, await asyncio.to_thread(_edits_or_refusal, environment, plan)

    async def _attempt(self, name: str, plan: Plan, request: Request) -> Sequence[Item]:
        environment, edits = await self._planned(name, plan)
        if not edits:
            return ()
        idempotency = request.idempotency
        items = await self._store.commit(
            Commit(
                environment=name,
                base=environment.revision,
                edits=[self._told(environment, edit) for edit in edits],
                actor=request.actor,
                comment=request.comment,
                request_id=request.request_id,
                idempotency_key=None if idempotency is None else idempotency.key,
                digest=None if idempotency is None else _digest(idempotency),
                source=request.source,
            )
        )
        await self._sets.take(items)
        return items

    def _told(self, environment: Environment, edit: Edit) -> Edit:
        """Add what the audit says of it: nothing else is committed before it."""
        present = environment.live(edit.kind, edit.name)
        before = None if present is None else present.definition
        return replace(edit, facts=self._fingerprints.facts(before, edit.definition or None))


def _digest(idempotency: Idempotency) -> str:
    return hashlib.sha256(idempotency.request.encode("utf-8", "surrogatepass")).hexdigest()


def _edits_or_refusal(environment: Environment, plan: Plan) -> Sequence[Edit]:
    try:
        return _edits(environment, plan)
    except DefinitionError as error:
        raise BadDefinition.of(error) from error


def _edits(environment: Environment, plan: Plan) -> Sequence[Edit]:
    """Check what would stand then, and say what has to be written for it."""
    change = plan(environment)
    edits = [
        edit
        for (kind, name), definition in change.items()
        if (edit := _edit(environment, kind, name, definition)) is not None
    ]
    if edits:
        _check(environment, change)
    return edits


def _edit(
    environment: Environment, kind: Kind, name: str, definition: Definition | None
) -> Edit | None:
    present = environment.live(kind, name)
    if present is None and definition is not None:
        _refuse_reserved(kind, name)
    if definition is None:
        return None if present is None else Edit(kind, name, "", "deleted")
    text = text_of(definition)
    if present is not None and present.definition == text:
        return None
    return Edit(kind, name, text, "created" if present is None else "updated")


def _check(environment: Environment, change: Change) -> None:
    flags = {name: found.flag for name, found in environment.flags.flags.items()}
    segments = dict(environment.flags.segment_definitions)
    for (kind, name), definition in change.items():
        _put(flags if kind == "flag" else segments, name, definition)  # type: ignore[arg-type]
    try:
        check_references(flags, segments, _names(change, "flag"), _names(change, "segment"))
    except BrokenReference as error:
        facts = {"name": error.of} if len(change) > 1 else {}
        raise BadDefinition(error.pointer, error.detail, error.code, **facts) from error
    except StillNeeded as error:
        raise FlagInUse(str(error), error.users) from error


def _refuse_reserved(kind: Kind, name: str) -> None:
    if kind == "flag" and name == EXPORT:
        raise BadDefinition("/name", "is what the address of the export is called", "reserved")


def _put(into: dict[str, Definition], name: str, definition: Definition | None) -> None:
    if definition is None:
        into.pop(name, None)
    else:
        into[name] = definition


def _names(change: Change, kind: Kind) -> Iterable[str]:
    return [name for found, name in change if found == kind]


def created(kind: Kind, definition: Definition) -> Plan:
    """Plan a flag or segment that must not be there yet."""

    def plan(environment: Environment) -> Change:
        if environment.live(kind, definition.name) is not None:
            raise FlagExists(kind, definition.name, environment.name)
        return {(kind, definition.name): definition}

    return plan


def replaced(
    kind: Kind,
    name: str,
    make: Callable[[Environment, Item], Definition],
    expected: Callable[[int], bool] | None,
) -> Plan:
    """Plan what `make` makes of a flag or segment that is there."""

    def plan(environment: Environment) -> Change:
        return {(kind, name): make(environment, _present(environment, kind, name, expected))}

    return plan


def removed(kind: Kind, name: str, expected: Callable[[int], bool] | None) -> Plan:
    def plan(environment: Environment) -> Change:
        _present(environment, kind, name, expected)
        return {(kind, name): None}

    return plan


def _present(
    environment: Environment, kind: Kind, name: str, expected: Callable[[int], bool] | None
) -> Item:
    item = environment.live(kind, name)
    if expected is not None and not expected(0 if item is None else item.version):
        raise FlagStale(0 if item is None else item.version)
    if item is None:
        raise not_found(kind, name, environment.name)
    return item


def not_found(kind: Kind, name: str, environment: str) -> FlagNotFound | SegmentNotFound:
    error = FlagNotFound if kind == "flag" else SegmentNotFound
    return error(name, environment)
