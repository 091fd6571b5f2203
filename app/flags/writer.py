"""Writer of flags and segments: checks a plan against the environment, then commits it."""

import asyncio
import hashlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from app.audit.fingerprints import Fingerprints
from app.changes.errors import IdempotencyKeyReused
from app.changes.model import Action, Idempotency
from app.errors import PilothouseError
from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.definitions.representations import definition_of, definition_text
from app.flags.errors import (
    BadDefinition,
    BadEnvironment,
    FlagArchived,
    FlagContended,
    FlagExists,
    FlagInUse,
    FlagNotArchived,
    FlagNotFound,
    FlagStale,
    FlagsUnavailable,
    KeyTaken,
    SegmentNotFound,
    SetMoved,
)
from app.flags.model import Commit, Edit, Item, Kind
from app.flags.store.port import FlagStore
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.flags.model import Flag, Segment
from pilothouse_core.names import is_name
from pilothouse_core.references import BrokenReference, StillNeeded, check_references

EXPORT = "export"  # GET .../export: no flag can be read there
WAIT_SECONDS = 10.0  # for other writers of the same environment
# For them while the store does not answer: each of them would wait for it in vain.
_WAIT_SECONDS_IF_UNAVAILABLE = 2.0
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """The actor and reason of a write; `expected` checks the current version (If-Match)."""

    actor: str
    comment: str
    request_id: str
    expected: Callable[[int], bool] | None = None
    idempotency: Idempotency | None = None
    source: str | None = None  # the address it came from


Definition = Flag | Segment


@dataclass(frozen=True, slots=True)
class PlannedDefinition:
    """A planned definition of a flag or segment that is or becomes archived or restored."""

    definition: Definition
    is_archived: bool = False
    action: Action | None = None  # `created` or `updated` where nothing is stated


# What becomes of an environment, by kind and name: None deletes, and a bare definition is not
# written over one that is archived.
PlannedChange = Mapping[tuple[Kind, str], Definition | PlannedDefinition | None]
Plan = Callable[[EnvironmentFlags], PlannedChange]


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    is_unavailable: bool = False  # the store was, for the last one whose turn it was


class FlagWriter:
    def __init__(
        self,
        store: FlagStore,
        sets: FlagCache,
        fingerprints: Fingerprints,
        seconds: float = WAIT_SECONDS,
    ) -> None:
        """Let a write wait for other writers of its environment for at most `seconds`."""
        self._store = store
        self._sets = sets
        self._fingerprints = fingerprints
        self._seconds = seconds
        self._queues: defaultdict[str, _Queue] = defaultdict(_Queue)

    async def write(self, environment: str, plan: Plan, request: WriteRequest) -> Sequence[Item]:
        """Apply a plan to the current environment; returns the written items.

        Nothing where everything was so already. Raises what `plan` raises, BadDefinition,
        FlagInUse, FlagContended, FlagsUnavailable and IdempotencyKeyReused.
        """
        if not is_name(environment):
            raise BadEnvironment(environment)
        deadline = asyncio.get_running_loop().time() + self._seconds
        async with self._wait_for_turn(environment, deadline):
            if (earlier := await self._earlier_commit(request.idempotency)) is not None:
                return earlier
            return await self._write_until_committed(environment, plan, request, deadline)

    @asynccontextmanager
    async def _wait_for_turn(self, environment: str, deadline: float) -> AsyncIterator[None]:
        """Wait for this replica's other writers of the environment: of racing writers, one wins."""
        loop = asyncio.get_running_loop()
        queue = self._queues[environment]
        queue.waiting += 1
        began = loop.time()
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await queue.lock.acquire()
            except TimeoutError:
                raise FlagContended(environment, self._seconds) from None
            try:
                _refuse_if_unavailable(queue, loop.time() - began)
                queue.is_unavailable = False
                yield
            except FlagsUnavailable:
                queue.is_unavailable = True
                raise
            finally:
                queue.lock.release()
        finally:
            queue.waiting -= 1
            if not queue.waiting:
                self._queues.pop(environment, None)

    async def _write_until_committed(
        self, environment: str, plan: Plan, request: WriteRequest, deadline: float
    ) -> Sequence[Item]:
        """Try until no other replica commits in between."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await self._try_commit(environment, plan, request)
            except SetMoved:
                if loop.time() > deadline:
                    raise FlagContended(environment, self._seconds) from None
                await asyncio.sleep(_PAUSE_SECONDS * random.random())  # noqa: S311 - jitter
                await self._sets.refresh()
            except KeyTaken:
                return await self._earlier_commit(request.idempotency) or ()
            except (FlagsUnavailable, IdempotencyKeyReused):
                raise
            except PilothouseError:
                # Another replica may have answered the same request in the meantime.
                if (earlier := await self._earlier_commit(request.idempotency)) is not None:
                    return earlier
                raise

    async def preview(self, environment: str, plan: Plan) -> Sequence[Edit]:
        """Return the edits that `write` would commit; raises as it would for `plan`."""
        if not is_name(environment):
            raise BadEnvironment(environment)
        return (await self._plan_edits(environment, plan))[1]

    async def delete_expired_keys(self) -> None:
        """Delete every idempotency key that has outlived its day; raises FlagsUnavailable."""
        while await self._store.delete_expired_keys():
            pass

    async def _earlier_commit(self, idempotency: Idempotency | None) -> Sequence[Item] | None:
        earlier = idempotency and await self._store.commit_by_idempotency_key(idempotency.key)
        if not earlier or idempotency is None:
            return None
        if earlier.digest != await _digest(idempotency):
            raise IdempotencyKeyReused
        return earlier.items

    async def _plan_edits(self, name: str, plan: Plan) -> tuple[EnvironmentFlags, Sequence[Edit]]:
        try:
            environment = self._sets.environment(name)
            # Apart: a large definition, or thousands of flags that need each other, take long.
            return environment, await asyncio.to_thread(edits_of, environment, plan)
        except (PilothouseError, DefinitionError):
            # This replica may lag: nothing is refused for what it has not seen yet.
            await self._sets.refresh()
            environment = self._sets.environment(name)
            return environment, await asyncio.to_thread(_edits_or_bad_definition, environment, plan)

    async def _try_commit(self, name: str, plan: Plan, request: WriteRequest) -> Sequence[Item]:
        environment, edits = await self._plan_edits(name, plan)
        if not edits:
            return ()
        idempotency = request.idempotency
        is_large = sum(_character_count(environment, edit) for edit in edits) > LARGE_TEXT
        told = await run_apart(
            is_large, lambda: [self._with_fingerprints(environment, edit) for edit in edits]
        )
        items = await self._store.commit(
            Commit(
                environment=name,
                base=environment.revision,
                edits=told,
                actor=request.actor,
                comment=request.comment,
                request_id=request.request_id,
                idempotency_key=None if idempotency is None else idempotency.key,
                digest=None if idempotency is None else await _digest(idempotency),
                source=request.source,
            )
        )
        await self._sets.apply_items(items)
        return items

    def _with_fingerprints(self, environment: EnvironmentFlags, edit: Edit) -> Edit:
        """Add the fingerprints for the audit to an edit, computed from the version it replaces."""
        present = environment.live_item(edit.kind, edit.name)
        archived = environment.archived_item(edit.kind, edit.name)
        former = present or archived
        before = None if former is None else former.definition
        facts = dict(self._fingerprints.facts(before, edit.definition or None))
        if edit.action == "deleted" and edit.definition:
            facts["state"] = "archived"
        elif archived is not None and edit.definition:
            facts["state"] = "restored"
        return replace(edit, facts=facts)


def _character_count(environment: EnvironmentFlags, edit: Edit) -> int:
    """Return how much of text there is to look at for the audit of an edit."""
    former = environment.items.get((edit.kind, edit.name))
    return len(edit.definition) + (0 if former is None else len(former.definition))


def _refuse_if_unavailable(queue: _Queue, waited: float) -> None:
    if queue.is_unavailable and waited > _WAIT_SECONDS_IF_UNAVAILABLE:
        raise FlagsUnavailable("the store of flags does not answer other writers either")


async def _digest(idempotency: Idempotency) -> str:
    return await run_apart(len(idempotency.request) > LARGE_TEXT, _sha256, idempotency.request)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _edits_or_bad_definition(environment: EnvironmentFlags, plan: Plan) -> Sequence[Edit]:
    try:
        return edits_of(environment, plan)
    except DefinitionError as error:
        raise BadDefinition.of(error) from error


def edits_of(environment: EnvironmentFlags, plan: Plan) -> Sequence[Edit]:
    """Check the planned environment, and return the edits that lead to it."""
    change = plan(environment)
    edits = [
        edit
        for (kind, name), definition in change.items()
        if (edit := _edit_of(environment, kind, name, definition)) is not None
    ]
    if edits:
        _check_result(environment, change)
    return edits


def _edit_of(
    environment: EnvironmentFlags,
    kind: Kind,
    name: str,
    definition: Definition | PlannedDefinition | None,
) -> Edit | None:
    present, archived = environment.live_item(kind, name), environment.archived_item(kind, name)
    if definition is None:
        return None if present is None and archived is None else Edit(kind, name, "", "deleted")
    if present is None and archived is None:
        _refuse_reserved(kind, name)
    if not isinstance(definition, PlannedDefinition):
        if archived is not None:
            raise FlagArchived(name, environment.name)
        definition = PlannedDefinition(definition)
    text = definition_text(definition.definition)
    former = archived if definition.is_archived else present
    if former is not None and former.definition == text:
        return None
    if definition.is_archived:
        return Edit(kind, name, text, "deleted")
    action = definition.action or ("created" if present is None else "updated")
    return Edit(kind, name, text, action)


def _check_result(environment: EnvironmentFlags, change: PlannedChange) -> None:
    flags = {name: found.flag for name, found in environment.flags.flags.items()}
    segments = dict(environment.flags.segment_definitions)
    for (kind, name), outcome in change.items():
        definition = _live_definition(outcome)
        _set_or_remove(flags if kind == "flag" else segments, name, definition)  # type: ignore[arg-type]
    for outcome in change.values():
        if isinstance(flag := _live_definition(outcome), Flag):
            _refuse_archived_prerequisites(environment, flag, flags)
    try:
        check_references(flags, segments, _names(change, "flag"), _names(change, "segment"))
    except BrokenReference as error:
        facts = {"name": error.of} if len(change) > 1 else {}
        raise BadDefinition(error.pointer, error.detail, error.code, **facts) from error
    except StillNeeded as error:
        raise FlagInUse(str(error), error.users) from error


def _live_definition(outcome: Definition | PlannedDefinition | None) -> Definition | None:
    """Return the definition that will be evaluated, None if it is archived or deleted."""
    if isinstance(outcome, PlannedDefinition):
        return None if outcome.is_archived else outcome.definition
    return outcome


def _refuse_archived_prerequisites(
    environment: EnvironmentFlags, flag: Flag, flags: Mapping[str, Flag]
) -> None:
    for number, need in enumerate(flag.prerequisites):
        if need.flag not in flags and environment.archived_item("flag", need.flag) is not None:
            raise BadDefinition(
                f"/prerequisites/{number}/flag",
                f"names the flag {need.flag!r}, which is archived",
                "archived_flag",
                name=flag.name,
            )


def _refuse_reserved(kind: Kind, name: str) -> None:
    if kind == "flag" and name == EXPORT:
        raise BadDefinition("/name", "is what the address of the export is called", "reserved")


def _set_or_remove(into: dict[str, Definition], name: str, definition: Definition | None) -> None:
    if definition is None:
        into.pop(name, None)
    else:
        into[name] = definition


def _names(change: PlannedChange, kind: Kind) -> Iterable[str]:
    return [name for found, name in change if found == kind]


def plan_create(kind: Kind, definition: Definition) -> Plan:
    """Plan a flag or segment that must not be there yet."""

    def plan(environment: EnvironmentFlags) -> PlannedChange:
        if environment.live_item(kind, definition.name) is not None:
            raise FlagExists(kind, definition.name, environment.name)
        _refuse_archived(environment, kind, definition.name)
        return {(kind, definition.name): definition}

    return plan


def plan_replace(
    kind: Kind,
    name: str,
    make: Callable[[EnvironmentFlags, Item], Definition],
    expected: Callable[[int], bool] | None,
) -> Plan:
    """Plan to replace an existing flag or segment with the result of `make`."""

    def plan(environment: EnvironmentFlags) -> PlannedChange:
        return {
            (kind, name): make(environment, _require_present(environment, kind, name, expected))
        }

    return plan


def plan_delete(kind: Kind, name: str, expected: Callable[[int], bool] | None) -> Plan:
    """Plan to delete a flag or segment, which may be archived."""

    def plan(environment: EnvironmentFlags) -> PlannedChange:
        if (archived := environment.archived_item(kind, name)) is not None:
            _check_version(archived, expected)
        else:
            _require_present(environment, kind, name, expected)
        return {(kind, name): None}

    return plan


def plan_archive(name: str, expected: Callable[[int], bool] | None) -> Plan:
    """Plan to archive a flag; nothing changes where it is archived already."""

    def plan(environment: EnvironmentFlags) -> PlannedChange:
        if (archived := environment.archived_item("flag", name)) is not None:
            _check_version(archived, expected)
            return {}
        item = _require_present(environment, "flag", name, expected)
        flag = environment.flag(name) or definition_of(item)
        return {("flag", name): PlannedDefinition(flag, is_archived=True)}

    return plan


def plan_restore(name: str, expected: Callable[[int], bool] | None) -> Plan:
    """Plan to restore an archived flag."""

    def plan(environment: EnvironmentFlags) -> PlannedChange:
        archived = environment.archived_item("flag", name)
        if archived is None:
            _require_present(environment, "flag", name, expected)
            raise FlagNotArchived(name, environment.name)
        _check_version(archived, expected)
        return {("flag", name): PlannedDefinition(definition_of(archived))}

    return plan


def plan_rollback(
    flag: Flag,
    check: Callable[[EnvironmentFlags, Definition], Definition],
    expected: Callable[[int], bool] | None,
) -> Plan:
    """Plan to let a flag's earlier definition hold again, also where it is deleted now."""

    def plan(environment: EnvironmentFlags) -> PlannedChange:
        item = environment.live_item("flag", flag.name)
        _check_version(item or environment.archived_item("flag", flag.name), expected)
        if item is None:
            _refuse_archived(environment, "flag", flag.name)
        return {
            ("flag", flag.name): PlannedDefinition(check(environment, flag), action="rolled_back")
        }

    return plan


def _require_present(
    environment: EnvironmentFlags, kind: Kind, name: str, expected: Callable[[int], bool] | None
) -> Item:
    item = environment.live_item(kind, name)
    _check_version(item or environment.archived_item(kind, name), expected)
    if item is None:
        _refuse_archived(environment, kind, name)
        raise not_found(kind, name, environment)
    return item


def _check_version(item: Item | None, expected: Callable[[int], bool] | None) -> None:
    version = 0 if item is None else item.version
    if expected is not None and not expected(version):
        raise FlagStale(version)


def _refuse_archived(environment: EnvironmentFlags, kind: Kind, name: str) -> None:
    if environment.archived_item(kind, name) is not None:
        raise FlagArchived(name, environment.name)


def not_found(
    kind: Kind, name: str, environment: EnvironmentFlags
) -> FlagNotFound | SegmentNotFound:
    error = FlagNotFound if kind == "flag" else SegmentNotFound
    return error(name, environment.name, environment.live_names(kind))
