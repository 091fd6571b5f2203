"""What an admin of some environments may do with tokens."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.access.errors import AccessOpen, Denied
from app.access.model import ANYBODY, Caller
from app.access.tokens.creation import TokenRequest
from app.access.tokens.embedded import EmbeddedTokenStore
from app.access.tokens.model import principal_of
from app.access.tokens.service import TokenService
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.sqlite.state import SQLiteState
from tests.access.replica import replica
from tests.access.tokens import KEY, new_token

ADMIN, _ = new_token("admin", name="ops", environments=("staging", "test-*"), services=("*",))
CALLER = Caller(principal_of(ADMIN, ()), "request-1", "10.0.0.7")
_EVERYWHERE = {"environments": ("*",), "services": ("*",), "roles": ("secrets:reveal",)}
OWNER = Caller(principal_of(new_token("admin", name="owner", **_EVERYWHERE)[0], ()), "request-2")
ANYONE = Caller(ANYBODY, "request-3")
WANTED = TokenRequest("deploys", "operator", ["staging", "test-1"], ["*"], ["publisher"])


@pytest.fixture
async def tokens(tmp_path: Path) -> AsyncIterator[TokenService]:
    state = SQLiteState(tmp_path)
    log = EmbeddedChangeLog(state)
    store = EmbeddedTokenStore(state, log.wake)
    async with replica(store, log) as here:
        yield TokenService(store, here.known, KEY)
    await state.close()


async def test_an_admin_gives_what_they_have(tokens: TokenService) -> None:
    made, text = await tokens.create(WANTED, CALLER)

    assert tokens.cache.authenticate(text) == made
    assert made.created_by == "token:ops"


@pytest.mark.parametrize(
    "wanted",
    [
        replace(WANTED, environments=["staging", "production"]),
        replace(WANTED, environments=["*"]),
        replace(WANTED, roles=["viewer", "secrets:reveal"]),
        replace(WANTED, token_class="admin", environments=["*"], roles=[]),
        replace(WANTED, token_class="service", environments=["production"], roles=[]),
        replace(WANTED, token_class="client", environments=["test*"], roles=[]),
    ],
)
async def test_an_admin_gives_nothing_else(tokens: TokenService, wanted: TokenRequest) -> None:
    with pytest.raises(Denied):
        await tokens.create(wanted, CALLER)

    assert not await tokens.page(None, 10)


async def test_where_nobody_is_known_no_token_is_made(tokens: TokenService) -> None:
    with pytest.raises(AccessOpen):
        await tokens.create(WANTED, ANYONE)

    assert not await tokens.page(None, 10)


async def test_an_admin_revokes_within_their_scope_even_what_they_could_not_give(
    tokens: TokenService,
) -> None:
    made, _ = await tokens.create(replace(WANTED, roles=["secrets:reveal"]), OWNER)

    revoked = await tokens.revoke(made.id, CALLER)

    assert revoked.revoked_at is not None
    assert not tokens.cache.is_live(made.id)


async def test_an_admin_revokes_nothing_beyond_their_scope(tokens: TokenService) -> None:
    made, text = await tokens.create(replace(WANTED, environments=["production"]), OWNER)

    with pytest.raises(Denied):
        await tokens.revoke(made.id, CALLER)

    assert tokens.cache.authenticate(text) == made
