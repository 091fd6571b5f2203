"""Writer of flags and segments: checks a plan against the environment, then commits it."""

import asyncio
import hashlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from app.audit.fingerprints import Fingerprints
from app.changes.errors import IdempotencyKeyReused
from app.changes.model import Idempotency
from app.errors import PilothouseError
from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.definitions.planned_change import PlanFacts
from app.flags.definitions.planned_edits import planned_edits
from app.flags.definitions.plans import Plan, item_key
from app.flags.definitions.previews import WritePreview
from app.flags.errors import BadEnvironment, FlagContended, FlagsUnavailable, KeyTaken, SetMoved
from app.flags.model import Commit, Edit, Item
from app.flags.store.port import FlagStore
from app.rules.definitions.model import Scope
from app.rules.errors import PoliciesMoved, ProposalNeeded
from app.rules.policies.enforcement import Policies, count_bypass
from app.rules.policies.model import NO_AUTHORITY, Authority
from app.web.conditional import ANY_VERSION, IfMatch
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.names import is_name

WAIT_SECONDS = 10.0  # for other writers of the same environment
# For them while the store does not answer: each of them would wait for it in vain.
_WAIT_SECONDS_IF_UNAVAILABLE = 2.0
_PAUSE_SECONDS = 0.02
_CLOSED = "closed"  # in the place of a digest: no request has it


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """The actor and reason of a write, and the versions that it may replace (If-Match)."""

    actor: str
    comment: str
    request_id: str
    expected: IfMatch = ANY_VERSION
    idempotency: Idempotency | None = None
    source: str | None = None  # the address it came from
    authority: Authority = NO_AUTHORITY  # where a policy asks for a proposal
    is_kill: bool = False  # it does nothing but turn a flag off, which no policy holds up


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
        last_evaluated_at: Callable[[str, str], datetime | None],
        seconds: float = WAIT_SECONDS,
        policies: Policies | None = None,
    ) -> None:
        """Let a write wait for other writers of its environment for at most `seconds`.

        `last_evaluated_at` gets an environment and a flag, and is called in threads. `policies` are
        asked about what would change; without them all writes are made.
        """
        self._store = store
        self._sets = sets
        self._fingerprints = fingerprints
        self._last_evaluated_at = last_evaluated_at
        self._seconds = seconds
        self._policies = policies
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
            except PoliciesMoved:
                if loop.time() > deadline or self._policies is None:
                    raise
                await self._policies.refresh()
            except KeyTaken:
                return await self._earlier_commit(request.idempotency) or ()
            except (FlagsUnavailable, IdempotencyKeyReused):
                raise
            except PilothouseError:
                # Another replica may have answered the same request in the meantime.
                if (earlier := await self._earlier_commit(request.idempotency)) is not None:
                    return earlier
                raise

    async def close_key(self, environment: str, request: WriteRequest) -> None:
        """Let no repetition of a write that was refused be committed any more.

        A repetition raises IdempotencyKeyReused then. Raises FlagContended if one was committed
        before, under the idempotency key of the request: repeat it.
        """
        assert request.idempotency is not None
        await self._sets.refresh()
        closing = Commit(
            environment=environment,
            base=self._sets.environment(environment).revision,
            edits=(),
            actor=request.actor,
            comment=request.comment,
            request_id=request.request_id,
            idempotency_key=request.idempotency.key,
            digest=_CLOSED,
        )
        try:
            await self._store.commit(closing)
        except (KeyTaken, SetMoved):
            earlier = await self._store.commit_by_idempotency_key(request.idempotency.key)
            if earlier is None or earlier.digest != _CLOSED:
                raise FlagContended(environment, self._seconds) from None

    async def preview(
        self,
        environment: str,
        plan: Plan,
        expected: IfMatch = ANY_VERSION,
        *,
        is_kill: bool = False,
    ) -> WritePreview:
        """Return what `write` would commit now, and commit nothing; raises as `write` does.

        Only another write that wins the race makes a difference, and an idempotency key, under
        which `write` returns what it wrote before.
        """
        if not is_name(environment):
            raise BadEnvironment(environment)
        await self._sets.refresh()  # another replica may have written just now
        known = self._sets.environment(environment)
        edits = await asyncio.to_thread(self._edits, known, plan, expected)
        try:
            await self._check_policies(
                environment, edits, WriteRequest("", "", "", is_kill=is_kill)
            )
        except ProposalNeeded as error:
            return WritePreview(known, edits, error.policy)
        return WritePreview(known, edits)

    def plan_facts(self, environment: str, plan: Plan) -> PlanFacts:
        """Return what a plan depends on besides the environment, as of now."""
        kind, name = item_key(plan) or ("segment", "")
        last = self._last_evaluated_at(environment, name) if kind == "flag" else None
        return PlanFacts(datetime.now(UTC), last)

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

    async def _plan_edits(
        self, name: str, plan: Plan, expected: IfMatch
    ) -> tuple[EnvironmentFlags, Sequence[Edit]]:
        try:
            environment = self._sets.environment(name)
            # Apart: a large definition, or thousands of flags that need each other, take long.
            return environment, await asyncio.to_thread(self._edits, environment, plan, expected)
        except PilothouseError:
            # This replica may lag: nothing is refused for what it has not seen yet.
            await self._sets.refresh()
            environment = self._sets.environment(name)
            return environment, await asyncio.to_thread(self._edits, environment, plan, expected)

    def _edits(
        self, environment: EnvironmentFlags, plan: Plan, expected: IfMatch
    ) -> Sequence[Edit]:
        facts = self.plan_facts(environment.name, plan)
        return planned_edits(environment, plan, facts, expected)

    async def _try_commit(self, name: str, plan: Plan, request: WriteRequest) -> Sequence[Item]:
        environment, edits = await self._plan_edits(name, plan, request.expected)
        if not edits:
            return ()
        policies_at, facts = await self._check_policies(name, edits, request)
        idempotency = request.idempotency
        is_large = sum(_character_count(environment, edit) for edit in edits) > LARGE_TEXT
        edits_with_fingerprints = await run_apart(
            is_large, lambda: [self._with_facts(environment, edit, facts) for edit in edits]
        )
        items = await self._store.commit(
            Commit(
                environment=name,
                base=environment.revision,
                edits=edits_with_fingerprints,
                actor=request.actor,
                comment=request.comment,
                request_id=request.request_id,
                idempotency_key=None if idempotency is None else idempotency.key,
                digest=None if idempotency is None else await _digest(idempotency),
                source=request.source,
                policies_at=policies_at,
            )
        )
        count_bypass(facts)
        await self._sets.apply_items(items)
        return items

    async def _check_policies(
        self, environment: str, edits: Sequence[Edit], request: WriteRequest
    ) -> tuple[int | None, Mapping[str, str]]:
        """Raise ProposalNeeded if a policy asks for one; what changes nothing needs none.

        Returns the revision of the newest policy that was asked, and what the audit has to say.
        """
        if self._policies is None or request.is_kill:
            return None, {}
        policies_at = self._policies.revision()
        facts: Mapping[str, str] = {}
        for kind in sorted({edit.kind for edit in edits}):
            is_rollback = all(edit.action == "rolled_back" for edit in edits if edit.kind == kind)
            asked = await self._policies.check_direct(
                kind, flag_scopes(environment), request.authority, is_rollback=is_rollback
            )
            facts = asked or facts
        return policies_at, facts

    def _with_facts(
        self, environment: EnvironmentFlags, edit: Edit, authority_facts: Mapping[str, str]
    ) -> Edit:
        """Add to an edit what the audit records: fingerprints of it and of what it replaces."""
        present = environment.live_item(edit.kind, edit.name)
        archived = environment.archived_item(edit.kind, edit.name)
        former = present or archived
        before = None if former is None else former.definition
        facts = {**self._fingerprints.facts(before, edit.definition or None), **(edit.facts or {})}
        if edit.action == "deleted" and edit.definition:
            facts["state"] = "archived"
        elif archived is not None and edit.definition:
            facts["state"] = "restored"
        return replace(edit, facts={**facts, **authority_facts})


def flag_scopes(environment: str) -> Sequence[Scope]:
    """Return where flags of an environment are, as policies see it: of no service."""
    return [Scope((environment,), ("",))]


def _character_count(environment: EnvironmentFlags, edit: Edit) -> int:
    """Return how many characters the audit of an edit has to compare."""
    former = environment.items.get((edit.kind, edit.name))
    return len(edit.definition) + (0 if former is None else len(former.definition))


def _refuse_if_unavailable(queue: _Queue, waited: float) -> None:
    if queue.is_unavailable and waited > _WAIT_SECONDS_IF_UNAVAILABLE:
        raise FlagsUnavailable("the flag store does not answer other writers either")


async def _digest(idempotency: Idempotency) -> str:
    return await run_apart(len(idempotency.request) > LARGE_TEXT, _sha256, idempotency.request)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
