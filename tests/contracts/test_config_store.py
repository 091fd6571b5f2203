"""What any ConfigStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.configs.errors import StoreUnavailable, VersionMissing, VersionTaken, WriteUnanswered
from app.configs.model import MAX_DOCUMENT_BYTES, DocumentId, document_id
from app.configs.store.embedded import EmbeddedConfigStore
from app.configs.store.port import ConfigStore, Head
from app.configs.store.vault import VaultConfigStore
from app.configs.store.vault_client import TokenLogin, VaultClient
from app.sqlite.state import SQLiteState
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import SLACK_SECONDS
from tests.servers.proxy import LossyProxy
from tests.servers.vault import VaultServer

MAX_VERSIONS = 10
DEADLINE_SECONDS = 1.0 + SLACK_SECONDS
CHECKOUT = document_id("staging", "checkout")


@dataclass
class Rig:
    """One adapter on the bench: its wire can be cut, and others can leave things in its store."""

    store: ConfigStore
    leave: Callable[[str], Awaitable[None]]  # something of somebody else's, at a path of theirs
    cut: Callable[[], Awaitable[None]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    folder: Path = request.getfixturevalue("tmp_path")
    state = SQLiteState(folder)
    stack.push_async_callback(state.close)

    async def leave(path: str) -> None:
        row = (path, 1, "ahoy")
        await state.run(
            lambda connection: connection.execute("INSERT INTO versions VALUES (?, ?, ?)", row)
        )

    store = EmbeddedConfigStore(state, max_versions=MAX_VERSIONS)
    return Rig(store, leave, cut=state.close)


async def vault(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    server: VaultServer = request.getfixturevalue("vault_server")
    parts, prefix = urlsplit(server.address), server.fresh_prefix()
    proxy = stack.enter_context(LossyProxy(parts.hostname or "", parts.port or 0))
    address = f"http://127.0.0.1:{proxy.port}"
    client = VaultClient(address, TokenLogin(server.root_token), seconds=PATIENT_SECONDS)
    stack.push_async_callback(client.close)

    async def leave(path: str) -> None:
        where = f"secret/data/{prefix}/{path.replace(' ', '%20').replace('?', '%3F')}"
        status, answer = server.api("POST", where, {"data": {"word": "ahoy"}})
        assert status == 200, answer

    async def cut() -> None:
        proxy.refuse()
        proxy.cut()

    store = VaultConfigStore(client, mount="secret", prefix=prefix, max_versions=MAX_VERSIONS)
    return Rig(store, leave, cut)


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(vault, id="vault", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


async def write(
    store: ConfigStore, texts: Sequence[str], document: DocumentId = CHECKOUT, *, base: int = 0
) -> None:
    for version, text in enumerate(texts, start=base):
        await store.write(document, text, base=version)


async def is_kept(store: ConfigStore, version: int) -> bool:
    try:
        await store.read(CHECKOUT, version)
    except VersionMissing:
        return False
    return True


# Versions


async def test_what_was_written_is_read(rig: Rig) -> None:
    await rig.store.write(CHECKOUT, "one", base=0)

    assert await rig.store.read(CHECKOUT, 1) == "one"


async def test_versions_are_consecutive_and_the_newest_is_the_head(rig: Rig) -> None:
    for base in range(3):
        await rig.store.write(CHECKOUT, f"text {base}", base=base)
        assert await rig.store.head(CHECKOUT) == Head(base + 1, readable=True)


async def test_an_old_version_stays_as_it_was(rig: Rig) -> None:
    await write(rig.store, ["one", "two", "three"])

    assert [await rig.store.read(CHECKOUT, version) for version in (1, 2, 3)] == [
        "one",
        "two",
        "three",
    ]


async def test_a_document_never_written_has_head_0_and_no_versions(rig: Rig) -> None:
    assert await rig.store.head(CHECKOUT) == Head(0, readable=True)
    with pytest.raises(VersionMissing):
        await rig.store.read(CHECKOUT, 1)


@pytest.mark.parametrize("version", [-1, 0, 3, 1_000_000])
async def test_a_version_never_written_is_missing(rig: Rig, version: int) -> None:
    await write(rig.store, ["one", "two"])

    with pytest.raises(VersionMissing):
        await rig.store.read(CHECKOUT, version)


async def test_the_newest_versions_are_kept_and_those_before_are_missing(rig: Rig) -> None:
    await write(rig.store, [f"text {version}" for version in range(1, MAX_VERSIONS + 3)])

    kept = [version for version in range(1, MAX_VERSIONS + 3) if await is_kept(rig.store, version)]

    assert kept == list(range(3, MAX_VERSIONS + 3))
    assert await rig.store.read(CHECKOUT, 3) == "text 3"
    assert await rig.store.head(CHECKOUT) == Head(MAX_VERSIONS + 2, readable=True)


# Compare-and-set


@pytest.mark.parametrize("base", [0, 1, 3, 4])
async def test_a_write_on_another_base_changes_nothing(rig: Rig, base: int) -> None:
    await write(rig.store, ["one", "two"])

    with pytest.raises(VersionTaken):
        await rig.store.write(CHECKOUT, "three", base=base)

    assert await rig.store.head(CHECKOUT) == Head(2, readable=True)
    assert await rig.store.read(CHECKOUT, 2) == "two"


async def test_a_document_does_not_begin_with_a_later_version(rig: Rig) -> None:
    with pytest.raises(VersionTaken):
        await rig.store.write(CHECKOUT, "two", base=1)

    assert await rig.store.head(CHECKOUT) == Head(0, readable=True)


@pytest.mark.parametrize("base", [0, 2])
async def test_one_of_many_writers_on_one_base_wins(rig: Rig, base: int) -> None:
    await write(rig.store, ["before"] * base)
    texts = [f"writer {number}" for number in range(50)]

    outcomes = await asyncio.gather(
        *(rig.store.write(CHECKOUT, text, base=base) for text in texts), return_exceptions=True
    )

    winners = [text for text, outcome in zip(texts, outcomes, strict=True) if outcome is None]
    assert {type(outcome) for outcome in outcomes} == {type(None), VersionTaken}
    assert [await rig.store.read(CHECKOUT, base + 1)] == winners
    assert await rig.store.head(CHECKOUT) == Head(base + 1, readable=True)


# Documents


async def test_an_empty_store_has_no_documents(rig: Rig) -> None:
    assert list(await rig.store.documents()) == []


async def test_every_kind_of_document_is_found(rig: Rig) -> None:
    written = [
        document_id("default", "_shared"),
        document_id("staging", "checkout"),
        document_id("staging", "check-out.v2"),
        document_id("staging", "checkout", "ana"),
        document_id("production", "checkout", "ana+test@example.com"),
    ]
    for document in written:
        await write(rig.store, ["one", "two"], document)

    assert sorted(await rig.store.documents(), key=str) == sorted(written, key=str)
    assert [await rig.store.read(document, 2) for document in written] == ["two"] * len(written)


async def test_documents_do_not_share_versions(rig: Rig) -> None:
    of_user = document_id("staging", "checkout", "ana")
    await write(rig.store, ["one", "two"])
    await write(rig.store, ["of ana"], of_user)

    assert await rig.store.head(of_user) == Head(1, readable=True)
    assert await rig.store.read(of_user, 1) == "of ana"
    assert await rig.store.head(CHECKOUT) == Head(2, readable=True)


async def test_what_others_keep_beside_the_documents_is_no_document(rig: Rig) -> None:
    await write(rig.store, ["one"])
    for path in (
        "elsewhere/staging/checkout",
        "layers/staging",
        "layers/staging/checkout/deeper",
        "layers/staging/check out",
        "layers/sta ging/checkout",
        "layers/sta?list=false/checkout",
        "users/staging/checkout",
        "users/staging/checkout/ana/deeper",
        "users/sta ging/checkout/ana",
        "users/staging/check out/ana",
    ):
        await rig.leave(path)

    assert list(await rig.store.documents()) == [CHECKOUT]


# Texts


@pytest.mark.parametrize(
    "text",
    ["", " \n\t\r\x00 ", "Grüße, 世界 🚢 \u2028 \U0010ffff", '{"quoted": "\\" \\\\ </script>"}'],
    ids=["empty", "blank", "unicode", "quoted"],
)
async def test_a_text_is_kept_to_the_letter(rig: Rig, text: str) -> None:
    await rig.store.write(CHECKOUT, text, base=0)

    assert await rig.store.read(CHECKOUT, 1) == text


@pytest.mark.parametrize("piece", ["x", "ü", "🚢", '"key": 1, '], ids=["x", "ü", "ship", "json"])
async def test_the_largest_document_is_kept(rig: Rig, piece: str) -> None:
    text = piece * (MAX_DOCUMENT_BYTES // len(piece.encode()))

    await rig.store.write(CHECKOUT, text, base=0)

    assert await rig.store.read(CHECKOUT, 1) == text


# The wire


async def test_a_store_that_serves_answers_a_ping(rig: Rig) -> None:
    await rig.store.ping()


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.read(CHECKOUT, 1),
        lambda store: store.head(CHECKOUT),
        lambda store: store.documents(),
        lambda store: store.ping(),
    ],
    ids=["read", "head", "documents", "ping"],
)
async def test_a_cut_store_is_unavailable_in_time(
    rig: Rig, ask: Callable[[ConfigStore], Awaitable[object]]
) -> None:
    await write(rig.store, ["one"])
    await rig.cut()

    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(StoreUnavailable):
            await ask(rig.store)


async def test_a_write_to_a_cut_store_ends_in_time(rig: Rig) -> None:
    await write(rig.store, ["one"])
    await rig.cut()

    async with asyncio.timeout(DEADLINE_SECONDS):
        # A connection may break when the request has left: then nobody can say.
        with pytest.raises((StoreUnavailable, WriteUnanswered)):
            await rig.store.write(CHECKOUT, "two", base=1)


async def test_a_store_that_was_never_reached_has_nothing_unanswered(rig: Rig) -> None:
    await rig.cut()

    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(StoreUnavailable):
            await rig.store.write(CHECKOUT, "one", base=0)
