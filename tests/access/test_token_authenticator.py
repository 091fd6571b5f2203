"""Who is let in, and what is remembered of those who ask: bounded, whatever they send."""

import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.access.errors import TooManyRequests
from app.access.limits import RateLimiter
from app.access.model import Grant, Principal, Right
from app.access.tickets import StreamTickets
from app.access.tokens.authenticator import TokenAuthenticator
from app.access.tokens.embedded import EmbeddedTokenStore
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.configs.api.fast_path import ConfigFastPath
from app.registry.api.fast_path import RegistryFastPath
from app.sqlite.state import SQLiteState
from tests.access.replica import Replica, replica

LONG = 50_000
MANY = 300


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Replica]:
    state = SQLiteState(tmp_path)
    log = EmbeddedChangeLog(state)
    async with replica(EmbeddedTokenStore(state, log.wake), log) as made:
        yield made
    await state.close()


def gate_of(here: Replica, per_second: float = 0) -> TokenAuthenticator:
    return TokenAuthenticator(
        here.known, None, StreamTickets(bytes(32), here.clock), RateLimiter(per_second), ()
    )


def grows_by(act: Callable[[int], object]) -> int:
    """Return how much more memory is held after acting many times."""
    act(-1)
    tracemalloc.start()
    try:
        for number in range(MANY):
            act(number)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}"])
async def test_a_token_that_was_let_in_is_known_at_once(here: Replica, form: str) -> None:
    gate, (_, text) = gate_of(here), await here.create()
    stated = form.format(text).encode()

    found = await gate.authenticate([(b"authorization", stated)])

    assert gate.authenticate_from_cache({b"authorization": stated}) is found
    assert gate.authenticate_from_cache({b"x-api-key": stated}) is None


@pytest.mark.parametrize("form", ["Bearer  {}", "Bearer {} ", " Bearer {}", "Bearer \xa0{}"])
async def test_blanks_around_a_token_are_forgiven_and_not_remembered(
    here: Replica, form: str
) -> None:
    gate, (token, text) = gate_of(here), await here.create()
    stated = form.format(text).encode("latin-1")

    found = await gate.authenticate([(b"authorization", stated)])

    assert found.token_id == token.id
    assert gate.authenticate_from_cache({b"authorization": stated}) is None


async def test_two_tokens_of_one_name_have_each_a_rate_of_their_own(here: Replica) -> None:
    gate = gate_of(here, per_second=0.5)  # one at once, and the next after two seconds
    (_, one), (_, other) = await here.create(), await here.create()

    async def ask(text: str) -> None:
        await gate.authenticate([(b"x-api-key", text.encode())])

    await ask(one)
    await ask(other)
    with pytest.raises(TooManyRequests):
        await ask(one)


async def test_what_was_counted_ahead_is_not_counted_again(here: Replica) -> None:
    gate, (_, text) = gate_of(here, per_second=1), await here.create()
    key = text.encode()
    await gate.authenticate([(b"x-api-key", key)])

    assert gate.authenticate_from_cache({b"x-api-key": key}) is not None
    await gate.authenticate([(b"x-api-key", key)], is_counted=True)

    assert gate.authenticate_from_cache({b"x-api-key": key}) is None


async def test_who_was_revoked_or_has_expired_is_let_in_no_longer(here: Replica) -> None:
    gate = gate_of(here)
    token, text = await here.create()
    known = await gate.authenticate([(b"x-api-key", text.encode())])
    person = Principal("user:ana", (), expires_at=0)
    assert gate.is_still_valid(known)
    assert not gate.is_still_valid(person)

    await here.revoke(token)

    assert not gate.is_still_valid(known)


def test_callers_who_have_paid_for_all_are_forgotten() -> None:
    rates = RateLimiter(1e9)

    assert all(rates.try_acquire(Principal(f"user:{number}", ())) for number in range(20_000))

    assert len(rates) <= 2000


def test_decisions_about_what_is_no_name_are_not_kept() -> None:
    principal = Principal("token:a", (Grant(frozenset(Right), ("*",), ("*",)),))

    def ask(number: int) -> None:
        assert principal.may(Right.EVALUATE, f"{number}".zfill(LONG))

    assert grows_by(ask) < 10 * LONG


def test_queries_that_nobody_needs_are_not_kept() -> None:
    listeners = SimpleNamespace(on_log_replaced=lambda _: None)
    follower = SimpleNamespace(listeners=listeners)
    unused = cast(
        "Any", SimpleNamespace(layers=SimpleNamespace(reader=SimpleNamespace(follower=follower)))
    )
    configs = ConfigFastPath.over(unused, unused, 0, tells_source=False)
    registry = RegistryFastPath(unused, unused, unused)

    def ask(number: int) -> None:
        query = b"zone=" + str(number).zfill(LONG).encode()
        assert configs.address(query) is None
        assert registry.query(frozenset({"zone"}), query)

    assert grows_by(ask) < 10 * LONG
