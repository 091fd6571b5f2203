"""A write whose log is slow: what could not be begun in time was not sent, and is answered so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from app.audit.fingerprints import Fingerprints
from app.cache.absent import AbsentCache
from app.changes.errors import LogUnavailable
from app.changes.follower import Follower
from app.changes.log.embedded.intents import EmbeddedIntents
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.model import Entity, Guard, Idempotency, Intent, Pointer, Written
from app.configs.documents.attempt import Write
from app.configs.documents.cache import DocumentCache
from app.configs.documents.edits import CreateKey
from app.configs.documents.reader import DocumentReader
from app.configs.documents.writer import DocumentWriter
from app.configs.errors import VersionMissing, WriteOutcomeUnknown
from app.configs.model import document_id
from app.configs.store.embedded import EmbeddedCipher, EmbeddedConfigStore
from app.sqlite.state import SQLiteState
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = pytest.mark.anyio
CHECKOUT = document_id("staging", "checkout")
WRITE_SECONDS = 0.4


@dataclass
class Stalling:
    """The calls that are named are never answered, although they have their effect."""

    stalled: frozenset[str] = frozenset()

    async def stall(self, name: str) -> None:
        if name in self.stalled:
            await asyncio.Event().wait()


class StallingIntents(EmbeddedIntents):
    def __init__(self, state: SQLiteState, stalling: Stalling) -> None:
        super().__init__(state)
        self._stalling = stalling

    async def begin(self, intent: Intent, guard: Guard | None = None) -> Intent:
        begun = await super().begin(intent, guard)
        await self._stalling.stall("begin")
        return begun

    async def intent_by_idempotency_key(self, idempotency_key: str) -> Intent | None:
        await self._stalling.stall("intent_by_idempotency_key")
        return await super().intent_by_idempotency_key(idempotency_key)


class StallingLog(EmbeddedChangeLog):
    def __init__(self, state: SQLiteState, stalling: Stalling) -> None:
        super().__init__(state)
        self._stalling = stalling

    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        await self._stalling.stall("advance")
        return await super().advance(entity, written)


@dataclass
class Bench:
    stalling: Stalling
    intents: StallingIntents
    log: StallingLog
    store: EmbeddedConfigStore
    reader: DocumentReader
    folder: Path

    def writer(self, seconds: float) -> DocumentWriter:
        return DocumentWriter(
            self.store,
            self.intents,
            self.log,
            EmbeddedCipher(self.folder / "secrets.key"),
            self.reader,
            max_versions=10,
            fingerprints=Fingerprints(bytes(32)),
            seconds=seconds,
        )


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    state = SQLiteState(tmp_path)
    stalling = Stalling()
    intents, log = StallingIntents(state, stalling), StallingLog(state, stalling)
    store = EmbeddedConfigStore(state, max_versions=10)
    follower = Follower(log)
    await follower.start()
    cached = DocumentCache(AbsentCache(), max_versions=10)
    reader = DocumentReader(store, follower, cached, max_versions=10, memory_bytes=2**20)
    yield Bench(stalling, intents, log, store, reader, tmp_path)
    await state.close()


def write(key: str | None = None) -> Write:
    idempotency = Idempotency(key, "request") if key else None
    return Write(
        CHECKOUT, CreateKey("a", 1, is_encrypted=False), "ana", "r-1", idempotency=idempotency
    )


@pytest.mark.parametrize("stalled", ["begin", "intent_by_idempotency_key"])
async def test_what_is_not_begun_in_time_is_refused_and_not_sent(
    bench: Bench, stalled: str
) -> None:
    bench.stalling.stalled = frozenset({stalled})
    began = monotonic()

    with pytest.raises(LogUnavailable):
        await bench.writer(WRITE_SECONDS).write(write("key"))

    assert monotonic() - began < WRITE_SECONDS + SLACK_SECONDS
    with pytest.raises(VersionMissing):
        await bench.store.read(CHECKOUT, 1)
    bench.stalling.stalled = frozenset()
    assert (await bench.writer(PATIENCE_SECONDS).write(write("key"))).changed


async def test_what_was_sent_and_is_not_logged_in_time_is_unknown(bench: Bench) -> None:
    bench.stalling.stalled = frozenset({"advance"})

    with pytest.raises(WriteOutcomeUnknown) as unknown:
        await bench.writer(WRITE_SECONDS).write(write())

    assert await bench.store.read(CHECKOUT, 1) is not None
    bench.stalling.stalled = frozenset()
    await bench.writer(PATIENCE_SECONDS).advancer.advance(CHECKOUT, 1)
    assert (await bench.intents.intent(str(unknown.value.facts["intent"]))).state == "applied"


async def test_a_writer_that_queues_behind_a_stalled_one_is_answered_in_time_too(
    bench: Bench,
) -> None:
    bench.stalling.stalled = frozenset({"begin"})
    writer = bench.writer(WRITE_SECONDS)
    began = monotonic()

    outcomes = await asyncio.gather(
        *(writer.write(write()) for _ in range(5)), return_exceptions=True
    )

    assert monotonic() - began < WRITE_SECONDS + SLACK_SECONDS
    assert all(getattr(outcome, "retry_after", None) for outcome in outcomes), outcomes
