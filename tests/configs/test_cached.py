"""Documents in the shared cache: nothing secret goes there, and nothing wrong comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.access.model import ANYBODY, Caller
from app.audit.fingerprints import Fingerprints
from app.cache.absent import AbsentCache
from app.cache.port import Cache
from app.cache.provenance import CacheHeader
from app.cache.redis import RedisAddress, RedisCache
from app.changes.follower import Follower
from app.changes.log.embedded.intents import EmbeddedIntents
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.model import Pointer
from app.configs.documents import cache as module
from app.configs.documents.attempt import Write
from app.configs.documents.cache import DocumentCache, decode_entry, encode_entry
from app.configs.documents.candidates import NO_CANDIDATES
from app.configs.documents.edits import CreateKey, Edit, PatchKeys, ReplaceKey
from app.configs.documents.effective import EffectiveReader
from app.configs.documents.overlays import OverlaidReader
from app.configs.documents.reader import DocumentReader
from app.configs.documents.writer import DocumentWriter
from app.configs.model import Body, DocumentId, KeyFact, Stamp, document_id
from app.configs.secrets import hidden_keys, mask_history, mask_secrets, stored_secret
from app.configs.services.documents import DocumentService
from app.configs.services.keys import KeyService
from app.configs.services.reveal import RevealService
from app.configs.store.embedded import EmbeddedCipher, EmbeddedConfigStore
from app.rules.catalog import DefinitionCatalog
from app.rules.definitions.embedded import EmbeddedDefinitionStore
from app.sqlite.state import SQLiteState
from pilothouse_core.layers import merge
from pilothouse_core.trees import leaves
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.redis import RedisServer
from tests.trials import trials

CHECKOUT = document_id("staging", "checkout")
ANN = document_id("staging", "checkout", "ann@example.org")
CANARY = "canary-in-the-mine"
NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
quick = settings(max_examples=trials(20))

names = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
secrets = st.builds(
    lambda n: stored_secret(f"vault:v1:{CANARY}{n}", f"{CANARY}{n}"), st.integers(0, 9)
)
odd_secrets = st.fixed_dictionaries(
    {"$secret": st.just(CANARY) | st.just({"value": CANARY}) | st.just([CANARY])},
    optional={"other": st.just(CANARY)},
)
things = st.recursive(
    scalars | secrets,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
trees = st.dictionaries(
    names,
    st.recursive(
        scalars | secrets | odd_secrets | st.lists(things, max_size=3) | st.just({}),
        lambda inner: st.dictionaries(names, inner, min_size=1, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


def body_of(data: dict[str, Any], version: int = 3) -> Body:
    facts = {key: KeyFact(1 + len(key) % version, "ana", "then") for key, _ in leaves(data)}
    facts["gone"] = KeyFact(2, "bob", "then", removed=True, secret_until=1)
    stamp = Stamp("id", "updated", "ana", "why — ünïcode", NOW.isoformat())
    return Body(version, stamp, "ana", "then", data=data, keys=facts, size=99)


def pointer_to(
    document: DocumentId = CHECKOUT, version: int = 3, revision: int = 7, at: datetime = NOW
) -> Pointer:
    return Pointer(document.entity, version, revision, deleted=False, at=at, actor="ana")


@quick
@given(trees)
def test_what_comes_back_shows_the_same_and_holds_no_secret(data: dict[str, Any]) -> None:
    with_secrets = body_of(data)
    entry = encode_entry(CHECKOUT, pointer_to(), with_secrets)
    if entry is None:
        return  # infinite numbers, or what looks like a secret where no mask reaches
    without_secrets = decode_entry(entry, CHECKOUT, pointer_to())

    assert CANARY.encode() not in entry
    assert without_secrets is not None
    assert without_secrets.without_secrets
    shown = mask_secrets(with_secrets.data, fingerprints=False) if with_secrets.data else {}
    assert repr(without_secrets.data) == repr(shown)
    assert replace(without_secrets, data={}, size=0) == replace(
        with_secrets, data={}, size=0, without_secrets=True
    )


@quick
@given(trees, trees)
def test_hollow_layers_merge_to_what_whole_ones_do(
    below: dict[str, Any], above: dict[str, Any]
) -> None:
    wholes = [body_of(below), body_of(above)]
    entries = [encode_entry(CHECKOUT, pointer_to(), body) for body in wholes]
    if None in entries:
        return
    hollows = [decode_entry(entry or b"", CHECKOUT, pointer_to()) for entry in entries]

    with_secrets = merge((layer, body.data) for layer, body in enumerate(wholes))
    without_secrets = merge(
        (layer, body.data) for layer, body in enumerate(hollows) if body is not None
    )

    assert mask_secrets(without_secrets.data, fingerprints=False) == mask_secrets(
        with_secrets.data, fingerprints=False
    )
    assert without_secrets.sources == with_secrets.sources


@quick
@given(trees, trees)
def test_history_hides_the_same_whether_bodies_are_hollow_or_whole(
    earlier: dict[str, Any], now: dict[str, Any]
) -> None:
    before, current = body_of(earlier, 2), body_of(now, 3)
    entries = [
        encode_entry(CHECKOUT, pointer_to(version=body.version), body) for body in (before, current)
    ]
    if None in entries:
        return
    hollow_before = decode_entry(entries[0] or b"", CHECKOUT, pointer_to(version=2))
    hollow_current = decode_entry(entries[1] or b"", CHECKOUT, pointer_to(version=3))
    assert hollow_before is not None
    assert hollow_current is not None

    assert hidden_keys(hollow_before, hollow_current) == hidden_keys(before, current)
    assert mask_history(hollow_before, hollow_current, fingerprints=False) == mask_history(
        before, current, fingerprints=False
    )


@pytest.mark.parametrize(
    "data",
    [
        {"$secret": CANARY},
        {"number": float("inf")},
        {"text": "\ud800"},
    ],
)
def test_what_no_mask_reaches_does_not_go_there(data: dict[str, Any]) -> None:
    assert encode_entry(CHECKOUT, pointer_to(), body_of(data)) is None


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ([{"$secret": CANARY}], [{"$secret": "masked"}]),
        ([[{"deep": {"$secret": CANARY}}]], [[{"deep": {"$secret": "masked"}}]]),
        ([{"a": 1}, {"b": {"c": [{"$secret": CANARY}]}}], None),
    ],
)
def test_masks_reach_into_lists(data: Any, shown: Any) -> None:
    entry = encode_entry(CHECKOUT, pointer_to(), body_of({"list": data}))

    assert entry is not None
    assert CANARY.encode() not in entry
    body = decode_entry(entry, CHECKOUT, pointer_to())
    assert body is not None
    assert shown is None or body.data == {"list": shown}


def entry_of(data: dict[str, Any]) -> bytes:
    entry = encode_entry(CHECKOUT, pointer_to(), body_of(data))
    assert entry is not None
    return entry


ENTRY = entry_of({"a": 1, "b": {"c": stored_secret("x", "y")}})


def test_an_entry_cut_anywhere_is_a_miss() -> None:
    for end in range(len(ENTRY)):
        assert decode_entry(ENTRY[:end], CHECKOUT, pointer_to()) is None


def test_an_entry_with_any_bit_turned_is_a_miss() -> None:
    for place in range(len(ENTRY)):
        for bit in (1, 32, 128):
            turned = ENTRY[:place] + bytes([ENTRY[place] ^ bit]) + ENTRY[place + 1 :]
            assert decode_entry(turned, CHECKOUT, pointer_to()) is None


@quick
@given(st.binary(min_size=1, max_size=200))
def test_garbage_is_a_miss(garbage: bytes) -> None:
    assert decode_entry(garbage, CHECKOUT, pointer_to()) is None
    assert decode_entry(ENTRY + garbage, CHECKOUT, pointer_to()) is None


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (document_id("staging", "payments"), pointer_to()),
        (document_id("production", "checkout"), pointer_to()),
        (ANN, pointer_to()),
        (CHECKOUT, pointer_to(version=2)),
        (CHECKOUT, pointer_to(revision=8)),
        (CHECKOUT, pointer_to(at=NOW + timedelta(microseconds=1))),
    ],
)
def test_an_entry_of_anything_else_is_a_miss(document: DocumentId, pointer: Pointer) -> None:
    assert decode_entry(ENTRY, document, pointer) is None


def test_an_entry_whose_text_tells_of_another_version_is_a_miss() -> None:
    entry = encode_entry(CHECKOUT, pointer_to(), body_of({"a": 1}, version=4))

    assert decode_entry(entry or b"", CHECKOUT, pointer_to()) is None


def test_the_same_moment_in_another_zone_is_the_same_entry() -> None:
    there = NOW.astimezone(datetime.fromisoformat("2030-01-01T00:00:00+05:30").tzinfo)

    assert decode_entry(ENTRY, CHECKOUT, pointer_to(at=there)) is not None


class Counted:
    """A store that counts how often it is read."""

    def __init__(self, store: EmbeddedConfigStore) -> None:
        self._store = store
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read(self, document: DocumentId, version: int) -> str | None:
        self.reads += 1
        return await self._store.read(document, version)


@dataclass
class Replica:
    store: Counted
    follower: Follower
    reader: DocumentReader
    writer: DocumentWriter
    keys: KeyService
    reveals: RevealService
    documents: DocumentService

    async def write(self, edit: Edit, document: DocumentId = CHECKOUT) -> Body:
        outcome = await self.writer.write(Write(document, edit, "ana", "request"))
        assert outcome.body is not None
        return outcome.body


@dataclass
class Installation:
    """Replicas over one store, one log and one Redis, in this process."""

    folder: Path
    state: SQLiteState
    cache: Cache

    async def replica(self, cache: Cache | None = None, memory_bytes: int = 2**20) -> Replica:
        log = EmbeddedChangeLog(self.state)
        store = Counted(EmbeddedConfigStore(self.state, max_versions=50))
        cipher = EmbeddedCipher(self.folder / "secrets.key")
        follower = Follower(log)
        cached = DocumentCache(cache or self.cache, max_versions=50)
        reader = DocumentReader(store, follower, cached, max_versions=50, memory_bytes=memory_bytes)
        writer = DocumentWriter(
            store,
            EmbeddedIntents(self.state),
            log,
            cipher,
            reader,
            max_versions=50,
            fingerprints=Fingerprints(bytes(32)),
        )
        layers = EffectiveReader(reader, memory_bytes=memory_bytes)
        catalog = DefinitionCatalog(EmbeddedDefinitionStore(self.state, log.wake))
        keys = KeyService(
            reader, OverlaidReader(layers, NO_CANDIDATES, memory_bytes=memory_bytes), catalog
        )
        reveals = RevealService(keys, cipher, log)
        await follower.start()
        documents = DocumentService(reader, log)
        return Replica(store, follower, reader, writer, keys, reveals, documents)


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[RedisCache]:
    server = redis_server
    address = RedisAddress(server.host, server.port, server.password, server.db)
    opened = RedisCache(address, prefix=server.fresh_prefix(), seconds=PATIENT_SECONDS)
    yield opened
    await opened.close()


@pytest.fixture
async def installation(tmp_path: Path, cache: RedisCache) -> AsyncIterator[Installation]:
    async with AsyncExitStack() as stack:
        state = SQLiteState(tmp_path)
        stack.push_async_callback(state.close)
        yield Installation(tmp_path, state, cache)


async def until(holds: Callable[[], Any]) -> None:
    """Wait for what happens in the background."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.005)


def key_of(version: int) -> str:
    return f"config:staging:checkout:{version}"


async def test_a_written_version_is_read_by_another_replica_without_the_store(
    installation: Installation,
) -> None:
    one = await installation.replica()
    await one.write(CreateKey("password", CANARY, is_encrypted=True))
    written = await one.write(CreateKey("host", "db1", is_encrypted=False))
    await until(lambda: installation.cache.get(key_of(2)))

    other = await installation.replica()
    found = await other.reader.current(CHECKOUT)

    assert found is not None
    assert (found.without_secrets, other.store.reads) == (True, 0)
    assert found.keys == written.keys
    assert mask_secrets(found.data, fingerprints=False) == mask_secrets(
        written.data, fingerprints=False
    )


async def test_a_version_read_from_the_store_is_put_there(installation: Installation) -> None:
    without = await installation.replica(AbsentCache())
    await without.write(CreateKey("host", "db1", is_encrypted=False), ANN)

    reading = await installation.replica()
    await reading.reader.current(ANN)

    key = "config:staging:checkout:ann@example.org:1"
    await until(lambda: installation.cache.get(key))
    assert reading.store.reads == 1


async def test_what_needs_the_secret_asks_the_store_and_keeps_what_it_got(
    installation: Installation,
) -> None:
    one = await installation.replica()
    await one.write(CreateKey("password", CANARY, is_encrypted=True))
    await until(lambda: installation.cache.get(key_of(1)))
    other = await installation.replica()
    caller = Caller(ANYBODY, request_id="request")

    shown = await other.keys.get(CHECKOUT, "password", resolve=True)
    answer, value = await other.reveals.reveal(CHECKOUT, "password", caller, None, resolve=True)
    again = await other.reader.current(CHECKOUT)

    assert shown.is_encrypted
    assert mask_secrets(shown.value, fingerprints=True) == {"$secret": "masked"}
    assert (answer.is_encrypted, value) == (True, CANARY)
    assert again is not None
    assert (again.without_secrets, other.store.reads) == (False, 1)


async def test_a_write_on_a_replica_that_knows_it_hollow_keeps_every_secret(
    installation: Installation,
) -> None:
    one = await installation.replica()
    before = await one.write(CreateKey("password", CANARY, is_encrypted=True))
    await until(lambda: installation.cache.get(key_of(1)))
    other = await installation.replica()
    without_secrets = await other.reader.current(CHECKOUT)
    assert without_secrets is not None
    assert without_secrets.without_secrets

    after = await other.write(CreateKey("host", "db1", is_encrypted=False))
    rolled_back = await other.write(await other.documents.edit_to_restore(CHECKOUT, 1))

    assert after.data["password"] == before.data["password"]
    assert rolled_back.data == before.data


async def test_fingerprints_and_differences_of_secrets_are_the_stores(
    installation: Installation,
) -> None:
    one = await installation.replica()
    await one.write(CreateKey("password", CANARY, is_encrypted=True))
    await one.write(ReplaceKey("password", "other", is_encrypted=None))
    await until(lambda: installation.cache.get(key_of(2)))
    other = await installation.replica()
    await other.reader.current(CHECKOUT)

    _, _, found = await other.documents.diff(CHECKOUT, None, None)
    shown = await other.documents.get(CHECKOUT, None, fingerprints=True)

    assert found.changed.keys() == {"password"}
    assert "fingerprint" in shown.data["password"]


async def test_many_misses_at_once_are_one_look_into_cache_and_store(
    installation: Installation,
) -> None:
    without = await installation.replica(AbsentCache())
    await without.write(CreateKey("host", "db1", is_encrypted=False))
    replica = await installation.replica(memory_bytes=0)

    found = await asyncio.gather(*(replica.reader.current(CHECKOUT) for _ in range(300)))

    assert {body and body.version for body in found} == {1}
    assert replica.store.reads == 1


async def test_reading_the_whole_and_the_hollow_at_once_leaves_the_whole(
    installation: Installation,
) -> None:
    one = await installation.replica()
    await one.write(CreateKey("password", CANARY, is_encrypted=True))
    await until(lambda: installation.cache.get(key_of(1)))
    for _ in range(20):
        replica = await installation.replica()
        read = partial(replica.reader.current, CHECKOUT)
        await asyncio.gather(read(), read(with_secrets=True), read(), read(with_secrets=True))

        found = await replica.reader.current(CHECKOUT)

        assert found is not None
        assert not found.without_secrets
        assert replica.store.reads == 1


async def test_earlier_versions_are_not_put_there(installation: Installation) -> None:
    without = await installation.replica(AbsentCache())
    await without.write(CreateKey("host", "db1", is_encrypted=False))
    await without.write(ReplaceKey("host", "db2", is_encrypted=None))
    reading = await installation.replica()

    await reading.reader.version(CHECKOUT, 1)
    await reading.reader.version(CHECKOUT, 2)

    await until(lambda: installation.cache.get(key_of(2)))
    assert await installation.cache.get(key_of(1)) is None


@pytest.mark.parametrize("at_first", ["held", "away"])
async def test_what_becomes_a_secret_is_taken_away_where_it_was_plain(
    installation: Installation,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    at_first: str,
) -> None:
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.05)
    replica = await installation.replica()
    await replica.write(CreateKey("password", CANARY, is_encrypted=False))
    await until(lambda: installation.cache.get(key_of(1)))

    if at_first == "away":
        redis_server.freeze()
        monkeypatch.setattr(installation.cache, "_seconds", 0.5)
    try:
        await replica.write(PatchKeys(encrypt=("password",)))
    finally:
        redis_server.thaw()

    async def is_gone() -> bool:
        await installation.cache.ping()
        return await installation.cache.get(key_of(1)) is None

    await until(is_gone)
    replica.reader.versions.remember(
        CHECKOUT, await replica.write(CreateKey("a", 1, is_encrypted=False))
    )
    await until(lambda: installation.cache.get(key_of(3)))
    assert not any(CANARY.encode() in held for held in redis_server.contents())


async def test_what_was_adopted_from_another_log_is_forgotten_with_all_that_was_read_by_it(
    installation: Installation, tmp_path: Path
) -> None:
    old = await installation.replica()
    await old.write(CreateKey("host", "of another log", is_encrypted=False))
    await until(lambda: installation.cache.get(key_of(1)))
    lost = await old.documents.log.snapshot()
    state = SQLiteState(tmp_path / "made-anew")
    try:
        anew = Installation(tmp_path, state, installation.cache)
        writing = await anew.replica(AbsentCache())
        late = Follower(EmbeddedChangeLog(state))
        cached = DocumentCache(installation.cache, max_versions=50)
        reader = DocumentReader(writing.store, late, cached, max_versions=50, memory_bytes=2**20)
        layers = EffectiveReader(reader, memory_bytes=2**20)
        late.adopt_snapshot(lost, age=5)
        adopted = await layers.effective(CHECKOUT)
        await writing.write(CreateKey("host", "of this log", is_encrypted=False))

        await late.start()
        followed = await layers.effective(CHECKOUT)

        assert adopted.merged.data == {"host": "of another log"}
        assert followed.merged.data == {"host": "of this log"}
    finally:
        await state.close()


@pytest.mark.parametrize(
    ("method", "reads", "told"),
    [("GET", 1, b"hit-redis"), ("GET", 0, None), ("POST", 1, None)],
)
async def test_the_answer_to_a_read_tells_where_it_came_from(
    installation: Installation, method: str, reads: int, told: bytes | None
) -> None:
    one = await installation.replica()
    await one.write(CreateKey("host", "db1", is_encrypted=False))
    await until(lambda: installation.cache.get(key_of(1)))
    other = await installation.replica()
    sent: list[Any] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        for _ in range(reads):
            await other.keys.effective(CHECKOUT)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await CacheHeader(app)({"type": "http", "method": method}, receive, send)

    assert dict(sent[0]["headers"]).get(b"x-cache") == told
    assert len(sent) == 2
