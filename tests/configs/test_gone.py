"""Versions that vanish from the store vanish from every replica, and stay away."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.audit.fingerprints import Fingerprints
from app.cache.absent import AbsentCache
from app.changes.follower import Follower
from app.changes.log.embedded.intents import EmbeddedIntents
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.configs.documents.attempt import Write
from app.configs.documents.cache import DocumentCache
from app.configs.documents.edits import CreateKey, Edit, PatchKeys, ReplaceKey
from app.configs.documents.effective import EffectiveReader
from app.configs.documents.reader import DocumentReader
from app.configs.documents.recovery import Scanner
from app.configs.documents.writer import DocumentWriter
from app.configs.errors import DocumentMalformed, VersionGone, VersionUnreadable
from app.configs.model import Body, DocumentId, document_id, encode
from app.configs.store.embedded import EmbeddedCipher, EmbeddedConfigStore
from app.configs.store.port import Head
from app.sqlite.state import SQLiteState

CHECKOUT = document_id("staging", "checkout")
SHARED = document_id("staging", "_shared")


class Deleting:
    """A store in which versions can be deleted behind our back, as in Vault."""

    def __init__(self, store: EmbeddedConfigStore) -> None:
        self._store = store
        self.gone: dict[DocumentId, set[int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def delete(self, document: DocumentId, *versions: int) -> None:
        self.gone.setdefault(document, set()).update(versions)

    async def read(self, document: DocumentId, version: int) -> str | None:
        if version in self.gone.get(document, ()):
            raise VersionUnreadable("deleted")
        return await self._store.read(document, version)

    async def head(self, document: DocumentId) -> Head:
        newest = (await self._store.head(document)).version
        gone = frozenset(self.gone.get(document, ()))
        return Head(newest, readable=newest not in gone, unreadable=gone)


@dataclass
class Replica:
    store: Deleting
    log: EmbeddedChangeLog
    follower: Follower
    reader: DocumentReader
    layers: EffectiveReader
    writer: DocumentWriter
    scanner: Scanner

    async def write(self, edit: Edit, document: DocumentId = CHECKOUT) -> Body:
        outcome = await self.writer.write(Write(document, edit, "ana", "request"))
        assert outcome.body is not None
        return outcome.body

    async def edit(self, document: DocumentId, data: dict[str, Any]) -> None:
        """Write past the service, on top of the current version."""
        body = await self.reader.current(document, with_secrets=True)
        assert body is not None
        await self.store.write(document, encode(replace(body, data=data)), base=body.version)
        await self.scanner.scan()
        await self.follower.catch_up()


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    state = SQLiteState(tmp_path)
    log = EmbeddedChangeLog(state)
    store = Deleting(EmbeddedConfigStore(state, max_versions=50))
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
    layers = EffectiveReader(reader, memory_bytes=2**20)
    yield Replica(store, log, follower, reader, layers, writer, Scanner(store, reader, writer))
    await state.close()


async def test_an_earlier_version_that_was_deleted_is_gone_at_once(replica: Replica) -> None:
    await replica.write(CreateKey("password", "leaked", is_encrypted=False))
    await replica.write(ReplaceKey("password", "other", is_encrypted=None))
    assert (await replica.reader.version_or_raise(CHECKOUT, 1)).data == {"password": "leaked"}

    replica.store.delete(CHECKOUT, 1)

    with pytest.raises(VersionGone):
        await replica.reader.version_or_raise(CHECKOUT, 1)
    assert await replica.reader.last_readable(CHECKOUT, 1) is None


async def test_a_write_on_a_deleted_version_logs_the_deletion_and_brings_nothing_back(
    replica: Replica,
) -> None:
    await replica.write(CreateKey("a", 1, is_encrypted=False))
    replica.store.delete(CHECKOUT, 1)

    written = await replica.write(PatchKeys(set={"b": 2}))

    assert (written.version, written.data) == (3, {"b": 2})
    changes = await replica.log.history(CHECKOUT.path, 10, None)
    assert [(each.action, each.deleted) for each in reversed(changes)] == [
        ("created", False),
        ("external", True),
        ("created", False),
    ]


async def test_what_is_superseded_is_dropped_from_memory(replica: Replica) -> None:
    await replica.write(CreateKey("a", "leaked", is_encrypted=False))
    await replica.layers.effective(CHECKOUT)
    await replica.write(ReplaceKey("a", 2, is_encrypted=None))
    await replica.layers.effective(CHECKOUT)

    await replica.reader.versions.forget_superseded()
    await replica.layers.forget_superseded()

    memory = {**vars(replica.reader.versions._memory)["_entries"]}  # noqa: SLF001
    merges = {**vars(replica.layers._merges)["_entries"]}  # noqa: SLF001
    assert "leaked" not in repr((memory, merges))
    assert len(memory) == len(merges) == 1


@pytest.mark.parametrize(
    "secret", [{"$secret": "masked"}, {"$secret": "hunter2"}, {"$secret": {"value": 1}}]
)
async def test_a_malformed_shared_layer_is_served_from_its_last_good_version(
    replica: Replica, secret: dict[str, Any]
) -> None:
    await replica.write(CreateKey("log", "info", is_encrypted=False), SHARED)
    await replica.write(CreateKey("a", 1, is_encrypted=False))
    await replica.edit(SHARED, {"log": "debug", "b": {"c": secret}})

    found = await replica.layers.effective(CHECKOUT, with_secrets=True)

    assert found.merged.data == {"log": "info", "a": 1}
    assert found.layers == ((SHARED, 1), (CHECKOUT, 1))
    assert replica.layers.last_good.malformed_count == 1
    with pytest.raises(DocumentMalformed) as raised:
        await replica.reader.require_current(SHARED)
    assert raised.value.facts["key"] == "b.c"
    assert "hunter2" not in str(raised.value)


async def test_a_malformed_layer_is_known_before_anybody_reads_it(replica: Replica) -> None:
    await replica.write(CreateKey("log", "info", is_encrypted=False), SHARED)
    await replica.edit(SHARED, {"log": {"$secret": "masked"}})

    await replica.layers.last_good.find_malformed()
    assert replica.layers.last_good.malformed_count == 1
    await replica.write(PatchKeys(set={"x": 1}))
    await replica.store.write(
        SHARED, json.dumps({"no": "document"}), base=2
    )  # malformed again, in another way
    await replica.scanner.scan()
    await replica.follower.catch_up()
    await replica.layers.last_good.find_malformed()

    assert replica.layers.last_good.malformed_count == 1


async def test_the_addressed_layer_without_a_good_version_is_malformed(replica: Replica) -> None:
    await replica.store.write(CHECKOUT, "no JSON", base=0)
    await replica.scanner.scan()
    await replica.follower.catch_up()

    with pytest.raises(DocumentMalformed, match="was not written by Pilothouse"):
        await replica.layers.effective(CHECKOUT)
