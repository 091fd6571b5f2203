"""Step 1 of a write: drafted, judged and composed, its intent is recorded (docs/protocols.md A, E).

What a schema says of a write holds only as long as nothing related changes. So the log refuses an
intent whose judgement is out of date, and the write is judged again; after two refusals its intent
is reserved first, which makes others wait.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.changes.errors import GuardMoved, RelatedIntentOpen, ReservationLost
from app.changes.follower import catch_up_to
from app.changes.log.port import RESERVED_SECONDS, Intents
from app.changes.model import Action, Intent
from app.configs.checks.errors import RelatedWriteOpen, SchemaViolated
from app.configs.documents.attempt import Identity, Write, WriteAttempt
from app.configs.documents.composer import VersionComposer
from app.configs.documents.document_judge import DocumentJudge
from app.configs.documents.drafter import Drafter
from app.configs.errors import WriteOutcomeUnknown
from app.configs.model import Body, DocumentId
from app.errors import PilothouseError
from app.rules.definitions.model import Scope
from app.rules.judging.model import Judgement
from app.rules.policies.enforcement import Policies
from app.workers import is_large_request

_REFUSALS = 2
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class IntentRecorder:
    """`log_deletion` logs a deletion in the store itself; `begin_seconds` count from the start."""

    intents: Intents
    drafter: Drafter
    composer: VersionComposer
    judge: DocumentJudge | None
    log_deletion: Callable[[DocumentId, Body | None], Awaitable[bool]]
    begin_seconds: float
    policies: Policies | None = None

    async def record(self, attempt: WriteAttempt, bound: asyncio.Timeout) -> Intent | None:
        """Draft and compose the version and record its intent, if there is something to write.

        Returns the intent that another replica has recorded under the same key, if it was first.
        Raises RelatedWriteOpen, and what drafting and judging raise.
        """
        if is_large_request():
            bound.reschedule(None)
        for _ in range(_REFUSALS):
            revision = self.judge.revision if self.judge is not None else 0
            if not await self._prepare(attempt, uuid.uuid4().hex, bound):
                return None
            guard = None
            if self.judge is not None:
                guard = self.judge.guard(attempt.document, revision)
                _hold(attempt)
            try:
                begun = await self.intents.begin(attempt.intent, guard)
            except GuardMoved as moved:
                await self._follow(moved.revision)
            except RelatedIntentOpen:
                attempt.is_blocked = True
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return self._accept_intent(attempt, begun)
        return await self._record_reserved(attempt, bound)

    async def _judgement(self, attempt: WriteAttempt, judge: DocumentJudge) -> Judgement:
        """Judge the draft; nothing is refused for what this replica has not followed yet."""
        changes, revision = {attempt.document: attempt.draft}, judge.revision
        try:
            return await judge.check(changes)
        except SchemaViolated:
            await self.drafter.reader.follower.catch_up()
            if judge.revision == revision:
                raise
        return await judge.check(changes)

    async def compose(self, attempt: WriteAttempt, intent: Intent) -> None:
        """Make the version that `intent` becomes, and the facts about it for the audit."""
        document, base = attempt.document, attempt.base
        attempt.body, attempt.text = await self.composer.compose(
            document, intent, attempt.draft, base
        )
        facts = await self.composer.fingerprints_of(document, base, attempt.body)
        attempt.intent = replace(intent, facts={**(facts or {}), **attempt.authority_facts} or None)

    @asynccontextmanager
    async def hold_relations(self, attempt: WriteAttempt) -> AsyncIterator[None]:
        """Make related writes wait while the intent of an earlier request is carried out.

        One that has expired is judged again: related writes did not wait for it any more. Raises
        WriteOutcomeUnknown if it may not be sent again, since it may have been sent before.
        """
        if self.judge is None:
            yield
            return
        held = replace(
            attempt.intent, id=uuid.uuid4().hex, idempotency_key=None, digest=None, facts=None
        )
        try:
            try:
                async with asyncio.timeout_at(attempt.started + self.begin_seconds):
                    _hold(attempt)
                    await self.intents.reserve(held)
                    await self._judge_if_expired(attempt, self.judge, held.id)
            except (PilothouseError, TimeoutError) as error:
                raise WriteOutcomeUnknown(attempt.intent.id) from error
            yield
        finally:
            with suppress(PilothouseError):
                await self.intents.cancel(held.id)

    async def _judge_if_expired(
        self, attempt: WriteAttempt, judge: DocumentJudge, held: str
    ) -> None:
        if (await self.intents.intent(attempt.intent.id)).state != "expired":
            return  # until it was held, others waited for the intent itself
        await self._follow((await self.intents.earlier_related(held)).revision)
        if not judge.guard(attempt.document, 0).covers_related:
            return
        await self._wait_for_earlier(attempt, held)
        if (await self.intents.intent(attempt.intent.id)).state == "expired":
            await judge.check({attempt.document: attempt.draft})

    async def _record_reserved(
        self, attempt: WriteAttempt, bound: asyncio.Timeout
    ) -> Intent | None:
        """Reserve the intent, wait for the related ones before it, then judge and confirm it."""
        reserved = replace(attempt.intent, idempotency_key=None, digest=None, facts=None)
        await self.intents.reserve(reserved)
        is_confirmed = False
        try:
            await self._wait_for_earlier(attempt, reserved.id)
            if not await self._prepare(attempt, reserved.id, bound):
                return None
            _hold(attempt)
            begun = await self.intents.confirm(attempt.intent, attempt.policies_at)
            is_confirmed = True
        except ReservationLost as error:
            raise RelatedWriteOpen(str(attempt.document)) from error
        finally:
            if not is_confirmed:
                with suppress(PilothouseError):  # it would end by itself, some seconds later
                    await self.intents.cancel(reserved.id)
        return self._accept_intent(attempt, begun)

    async def _wait_for_earlier(self, attempt: WriteAttempt, intent_id: str) -> None:
        """Wait until no earlier related intent is under way, and what they wrote is followed."""
        while (earlier := await self.intents.earlier_related(intent_id)).count:
            attempt.is_blocked = True
            await asyncio.sleep(_PAUSE_SECONDS)
        attempt.is_blocked = False
        await self._follow(earlier.revision)

    async def _follow(self, revision: int) -> None:
        await catch_up_to(self.drafter.reader.follower, revision)

    def _accept_intent(self, attempt: WriteAttempt, begun: Intent) -> Intent | None:
        attempt.is_blocked = False
        if begun.id != attempt.intent.id:
            return begun
        # With an idempotency key, another replica may have joined and sent the write by now.
        attempt.may_have_been_sent = attempt.identity is not None
        return None

    async def _prepare(self, attempt: WriteAttempt, intent_id: str, bound: asyncio.Timeout) -> bool:
        """Draft, judge and compose the version on the current one; False if nothing changes."""
        loop = asyncio.get_running_loop()
        write, began = attempt.write, loop.time()
        attempt.base, attempt.draft = await self.drafter.draft(write)
        if await self.log_deletion(write.document, attempt.base):
            attempt.base, attempt.draft = await self.drafter.draft(write)
        if attempt.draft.data is None:
            return False
        await self._check_policies(attempt)
        if self.judge is not None:
            judgement = await self._judgement(attempt, self.judge)
            attempt.warnings = tuple(
                each for each in judgement.warnings if write.may_read(each.pair)
            )
        version = attempt.base.version if attempt.base is not None else 0
        await self.compose(
            attempt, new_intent(write, attempt.draft.action, version, attempt.identity, intent_id)
        )
        if attempt.is_large:  # the deadlines start after the work on a large document
            attempt.started += loop.time() - began
            bound.reschedule(attempt.started + self.begin_seconds)
        return True

    async def _check_policies(self, attempt: WriteAttempt) -> None:
        """Raise ProposalNeeded if a policy asks for one. What changes nothing needs none."""
        if self.policies is None:
            return
        attempt.policies_at = self.policies.revision()
        document = attempt.document
        attempt.authority_facts = await self.policies.check_direct(
            "config",
            [Scope((document.environment,), (document.service,))],
            attempt.write.authority,
            is_rollback=attempt.draft.action == "rolled_back",
        )


def _hold(attempt: WriteAttempt) -> None:
    """Note until when others wait for what is recorded now, at the least."""
    attempt.held_until = asyncio.get_running_loop().time() + RESERVED_SECONDS


def new_intent(
    write: Write, action: Action, base: int, identity: Identity | None, intent_id: str
) -> Intent:
    return Intent(
        id=intent_id,
        entity=write.document.entity,
        base=base,
        action=action,
        actor=write.actor,
        comment=write.comment,
        request_id=write.request_id,
        at=datetime.now(UTC),
        idempotency_key=identity.key if identity is not None else None,
        digest=identity.digest if identity is not None else None,
        source=write.source,
    )
