"""What any TokenStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from app.access.errors import TokenNotFound, TokenStoreUnavailable
from app.access.tokens.embedded import EmbeddedTokenStore
from app.access.tokens.model import Token, generate_token
from app.access.tokens.port import ChangeOrigin, TokenStore
from app.access.tokens.postgres import PostgresTokenStore
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.port import ChangeLog
from app.changes.log.postgres.log import PostgresChangeLog
from app.changes.model import Change, Entity
from tests.access.tokens import NOW, new_token
from tests.contracts.rigs import embedded_bench, postgres_bench
from tests.servers.process import SLACK_SECONDS

EVENT = ChangeOrigin("ana", "request-1", "10.0.0.7")
UNKNOWN = generate_token("service")[0]


@dataclass
class Rig:
    """One adapter on the bench, with the change log it shares."""

    store: TokenStore
    log: ChangeLog
    elsewhere: TokenStore  # in another replica where there are any
    reopen: Callable[[], Awaitable[TokenStore]]  # after a restart; `store` may be closed by it
    cut: Callable[[], Awaitable[None]]
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)
    state = bench.state
    log = EmbeddedChangeLog(state)
    store = EmbeddedTokenStore(state, log.wake)

    async def reopen() -> TokenStore:
        reopened = await bench.reopen()
        return EmbeddedTokenStore(reopened, EmbeddedChangeLog(reopened).wake)

    return Rig(
        store=store,
        log=log,
        elsewhere=store,
        reopen=reopen,
        cut=state.close,
        audit=bench.audit,
    )


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)

    async def replica() -> tuple[TokenStore, ChangeLog]:
        connection = bench.open_connection()
        return PostgresTokenStore(connection.engine), PostgresChangeLog(connection)

    async def reopen() -> TokenStore:
        return (await replica())[0]

    store, log = await replica()
    return Rig(
        store=store,
        log=log,
        elsewhere=await reopen(),
        reopen=reopen,
        cut=bench.cut,
        audit=bench.audit,
    )


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


def new(**members: Any) -> Token:
    return new_token("operator", **members)[0]


async def create(rig: Rig, **members: Any) -> Token:
    return await rig.store.create(new(**members), EVENT)


async def token_changes(rig: Rig) -> list[Change]:
    return [change for change in await rig.log.since(0, 100) if change.entity.kind == "token"]


# Creating


async def test_a_token_is_read_back_as_it_was_created(rig: Rig) -> None:
    token = new(expires_at=NOW + timedelta(days=90), services=("*",))

    made = await rig.store.create(token, EVENT)

    assert made == replace(token, created_at=made.created_at, revision=made.revision)
    assert abs(made.created_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert await rig.elsewhere.get(token.id) == made
    assert await rig.elsewhere.changed_after(0, 10) == [made]
    assert await rig.elsewhere.page(None, 10) == [made]


async def test_a_creation_is_logged_and_audited_without_any_secret(rig: Rig) -> None:
    made = await create(rig, expires_at=NOW)

    [change] = await token_changes(rig)
    assert change.entity == Entity("token", "default", made.id, f"tokens/{made.id}")
    assert (change.version, change.action, change.actor) == (1, "created", "ana")
    assert change.revision == made.revision
    [row] = await rig.audit()
    assert (row["actor"], row["action"], row["kind"]) == ("ana", "created", "token")
    assert (row["environment"], row["name"], row["version"]) == ("default", made.id, 1)
    assert (row["request_id"], row["source"]) == ("request-1", "10.0.0.7")
    assert row["revision"] == made.revision
    facts = json.loads(row["facts"])
    assert facts.pop("expires_at") == NOW.isoformat()
    assert facts == {
        "name": "billing",
        "class": "operator",
        "environments": ["staging"],
        "services": ["billing", "invoice-*"],
        "roles": ["viewer"],
    }


async def test_names_need_not_differ(rig: Rig) -> None:
    assert (await create(rig)).name == (await create(rig)).name


# Revoking


async def test_a_revoked_token_stays_with_the_time_of_its_revocation(rig: Rig) -> None:
    made = await create(rig)

    revoked = await rig.elsewhere.revoke(made.id, ChangeOrigin("bob", "request-2"))

    assert revoked.revoked_at is not None
    assert revoked.revoked_at >= made.created_at
    assert revoked == replace(made, revoked_at=revoked.revoked_at, revision=revoked.revision)
    assert await rig.store.get(made.id) == revoked
    assert await rig.store.changed_after(made.revision, 10) == [revoked]


async def test_a_revocation_is_logged_and_audited(rig: Rig) -> None:
    made = await create(rig)

    revoked = await rig.store.revoke(made.id, ChangeOrigin("bob", "request-2", "10.0.0.8"))

    _, change = await token_changes(rig)
    assert (change.version, change.action, change.actor) == (2, "deleted", "bob")
    assert change.deleted
    assert change.revision == revoked.revision
    _, row = await rig.audit()
    assert (row["actor"], row["action"], row["version"]) == ("bob", "deleted", 2)
    assert (row["request_id"], row["source"]) == ("request-2", "10.0.0.8")
    assert json.loads(row["facts"]) == {"name": "billing", "class": "operator"}


async def test_a_token_is_revoked_once_however_often_it_is_asked(rig: Rig) -> None:
    made = await create(rig)

    both = await asyncio.gather(
        rig.store.revoke(made.id, EVENT), rig.elsewhere.revoke(made.id, EVENT)
    )

    assert both[0] == both[1] == await rig.store.revoke(made.id, EVENT)
    assert len(await token_changes(rig)) == len(await rig.audit()) == 2


async def test_what_was_never_created_cannot_be_revoked_or_read(rig: Rig) -> None:
    with pytest.raises(TokenNotFound):
        await rig.store.revoke(UNKNOWN, EVENT)
    with pytest.raises(TokenNotFound):
        await rig.store.get(UNKNOWN)

    assert not await rig.audit()


# Reading


async def test_what_is_newer_comes_in_the_order_of_its_last_change(rig: Rig) -> None:
    first, second, third = [await create(rig) for _ in range(3)]
    revoked = await rig.store.revoke(first.id, EVENT)

    assert await rig.elsewhere.changed_after(0, 2) == [second, third]
    assert await rig.elsewhere.changed_after(third.revision, 2) == [revoked]
    assert await rig.elsewhere.changed_after(revoked.revision, 2) == []


async def test_pages_go_on_after_the_last_token(rig: Rig) -> None:
    made = [await create(rig) for _ in range(5)]
    pages, after = [], None
    while page := await rig.store.page(after, 2):
        pages.append(page)
        after = page[-1].created_at, page[-1].id

    assert [token for page in pages for token in page] == sorted(
        made, key=lambda token: (token.created_at, token.id)
    )


# Last use


async def test_the_last_use_is_noted_and_never_moves_back(rig: Rig) -> None:
    first, second, unused = [await create(rig) for _ in range(3)]
    later = NOW + timedelta(minutes=1)

    await rig.store.record_uses({first.id: later, second.id: NOW, UNKNOWN: NOW})
    await rig.elsewhere.record_uses({first.id: NOW, second.id: later})

    assert (await rig.store.get(first.id)).last_used_at == later
    assert (await rig.store.get(second.id)).last_used_at == later
    assert (await rig.store.get(unused.id)).last_used_at is None


async def test_a_use_is_no_change(rig: Rig) -> None:
    made = await create(rig)

    await rig.store.record_uses({made.id: NOW})
    await rig.store.record_uses({})

    assert len(await token_changes(rig)) == len(await rig.audit()) == 1
    assert (await rig.store.get(made.id)).revision == made.revision


async def test_many_replicas_note_uses_at_once(rig: Rig) -> None:
    ids = [(await create(rig)).id for _ in range(20)]

    await asyncio.gather(
        *(
            store.record_uses({token_id: NOW + timedelta(seconds=n) for token_id in order})
            for n, (store, order) in enumerate([(rig.store, ids), (rig.elsewhere, ids[::-1])] * 4)
        )
    )

    assert {token.last_used_at for token in await rig.store.page(None, 100)} == {
        NOW + timedelta(seconds=7)
    }


# Going away


async def test_tokens_outlive_a_restart(rig: Rig) -> None:
    made = await create(rig)

    assert await (await rig.reopen()).changed_after(0, 10) == [made]


async def test_a_store_that_is_unavailable_is_told_in_time(rig: Rig) -> None:
    made = await create(rig)
    await rig.cut()

    calls: list[Coroutine[Any, Any, object]] = [
        rig.store.create(new(), EVENT),
        rig.store.revoke(made.id, EVENT),
        rig.store.changed_after(0, 1),
        rig.store.page(None, 1),
        rig.store.get(made.id),
        rig.store.record_uses({made.id: NOW}),
    ]
    for call in calls:
        began = monotonic()
        with pytest.raises(TokenStoreUnavailable):
            await call
        assert monotonic() - began < 1 + SLACK_SECONDS
