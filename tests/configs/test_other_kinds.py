"""What is no configuration stays out of what speaks of documents: the log has both."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.access.model import ANYBODY, Caller
from app.audit.fingerprints import Fingerprints
from app.cache.absent import AbsentCache
from app.changes.follower import Follower
from app.changes.log.embedded.intents import EmbeddedIntents
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.model import Entity, Written
from app.configs.documents.attempt import Write
from app.configs.documents.cache import DocumentCache
from app.configs.documents.edits import CreateKey
from app.configs.documents.reader import DocumentReader
from app.configs.documents.recovery import Scanner
from app.configs.documents.writer import DocumentWriter
from app.configs.model import document_id
from app.configs.services.documents import DocumentService
from app.configs.store.embedded import EmbeddedCipher, EmbeddedConfigStore
from app.flags.cache import FlagCache
from app.flags.model import Commit, Edit, entity
from app.flags.store.embedded import EmbeddedFlagStore
from app.registry.instances.embedded import EmbeddedInstanceStore
from app.registry.model import Registration
from app.registry.model import instance_entity as instance
from app.registry.view import RegistryView
from app.sqlite.state import SQLiteState
from app.status.stats import Stats
from app.telemetry import REGISTRY

CHECKOUT = document_id("staging", "checkout")
BANNER = entity("flag", "production", "banner")
DISGUISED = Entity("flag", "production", "banner", "layers/production/banner")
INSTANCE = Registration(
    service="checkout",
    instance_id="one",
    definition="{}",
    lease="heartbeat",
    ttl_seconds=30,
    owner="replica",
    actor="ana",
    request_id="r",
)


@dataclass
class Bench:
    documents: DocumentService
    scanner: Scanner
    stats: Stats


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """One of each kind, and a flag whose key looks like a document's."""
    state = SQLiteState(tmp_path)
    log = EmbeddedChangeLog(state)
    store = EmbeddedConfigStore(state, max_versions=50)
    follower = Follower(log)
    cached = DocumentCache(AbsentCache(), max_versions=50)
    reader = DocumentReader(store, follower, cached, max_versions=50, memory_bytes=2**20)
    cipher = EmbeddedCipher(tmp_path / "secrets.key")
    writer = DocumentWriter(
        store,
        EmbeddedIntents(state),
        log,
        cipher,
        reader,
        max_versions=50,
        fingerprints=Fingerprints(bytes(32)),
    )
    await follower.start()
    await writer.write(Write(CHECKOUT, CreateKey("a", 1, is_encrypted=False), "ana", "request"))
    edits = [Edit("flag", "banner", "{}", "created"), Edit("segment", "beta", "{}", "created")]
    flags = EmbeddedFlagStore(state, log.wake)
    await flags.commit(Commit("production", 0, edits, actor="ana", comment="", request_id="r"))
    await EmbeddedInstanceStore(state, log.wake).register(INSTANCE)
    await log.advance(DISGUISED, [Written(1, None)])
    await follower.catch_up()
    others = {BANNER.key, DISGUISED.key, instance("checkout", "one").key}
    assert {*others, CHECKOUT.path} <= follower.pointers.keys()
    sets = FlagCache(flags)
    await sets.refresh()
    yield Bench(
        DocumentService(reader, log),
        Scanner(store, reader, writer),
        Stats(reader, log, sets, RegistryView()),
    )
    await state.close()


async def test_the_list_of_documents_has_no_others(bench: Bench) -> None:
    assert [pointer.entity for pointer in bench.documents.list_documents(None)] == [CHECKOUT.entity]
    assert bench.documents.list_documents("production") == []


async def test_the_numbers_for_people_count_no_other_as_a_document(bench: Bench) -> None:
    numbers = await bench.stats.now(Caller(ANYBODY, "request"))

    assert (numbers.documents, numbers.environments, numbers.services) == (1, 1, 1)
    assert (numbers.flags, numbers.segments) == (1, 1)
    assert numbers.changes_last_hour == 5


async def test_the_scanner_misses_no_other_in_the_store_of_configurations(bench: Bench) -> None:
    def regressions() -> float:
        return REGISTRY.get_sample_value("pilothouse_version_regressions_total") or 0

    before = regressions()

    await bench.scanner.scan()

    assert regressions() == before
