"""Which tokens a replica lets in, by what it knows."""

import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.access.errors import TokenRefused, TokensUnavailable
from app.access.model import EVERY_RIGHT
from app.access.tokens.cache import ADMIN, TokenCache
from app.access.tokens.embedded import EmbeddedTokenStore
from app.access.tokens.last_used import LastUsedRecorder
from app.access.tokens.model import generate_token, grants_of, token_digest
from app.changes.follower import Follower
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.sqlite.state import SQLiteState
from tests.access.replica import EVENT, Clock, Replica, replica, until
from tests.access.tokens import KEY, NOW, new_token

ADMIN_TOKEN = "the-first-token-of-an-installation"
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[SQLiteState]:
    state = SQLiteState(tmp_path)
    yield state
    await state.close()


@pytest.fixture
async def here(state: SQLiteState) -> AsyncIterator[Replica]:
    log = EmbeddedChangeLog(state)
    async with replica(EmbeddedTokenStore(state, log.wake), log, ADMIN_TOKEN) as opened:
        yield opened


def unread(store: EmbeddedTokenStore, log: EmbeddedChangeLog, admin: str | None) -> TokenCache:
    return TokenCache(store, Follower(log), KEY, admin, Clock())


def is_refused(known: TokenCache, text: str) -> bool:
    try:
        known.authenticate(text)
    except TokenRefused:
        return True
    return False


async def test_a_token_that_was_made_here_is_known_at_once(here: Replica) -> None:
    token, text = await here.create()

    assert here.known.authenticate(text) == token


async def test_a_token_that_was_made_elsewhere_is_known_when_its_change_was_followed(
    here: Replica,
) -> None:
    token, text = new_token()

    kept = await here.store.create(token, EVENT)
    await here.caught_up(kept.revision)

    assert here.known.authenticate(text) == kept


async def test_a_replica_that_starts_knows_all_there_are(here: Replica, state: SQLiteState) -> None:
    live = await here.create()
    revoked = await here.create()
    await here.revoke(revoked[0])
    log = EmbeddedChangeLog(state)

    async with replica(EmbeddedTokenStore(state, log.wake), log) as other:
        assert other.known.authenticate(live[1]) == live[0]
        assert is_refused(other.known, revoked[1])


async def test_a_token_that_was_revoked_is_refused(here: Replica) -> None:
    token, text = await here.create()

    await here.revoke(token)

    assert is_refused(here.known, text)
    assert not here.known.is_live(token.id)


async def test_a_token_is_refused_from_the_moment_it_expires(here: Replica) -> None:
    token, text = await here.create(expires_at=LATER)
    assert here.known.authenticate(text) == token

    here.clock.ahead = 61

    assert is_refused(here.known, text)
    assert not here.known.is_live(token.id)


async def test_whatever_is_not_the_token_itself_is_refused(here: Replica) -> None:
    token, text = await here.create()
    other_id, other = generate_token("service")
    _, _, _, secret, checksum = text.split("_")
    swapped = other.replace(other_id, token.id)

    assert is_refused(here.known, other)
    assert is_refused(here.known, swapped)
    assert is_refused(here.known, text[:-1])
    assert is_refused(here.known, text.replace("service", "admin"))
    assert is_refused(here.known, f"plh_service_{token.id}_{secret[::-1]}_{checksum}")
    assert is_refused(here.known, f"plh_{ADMIN_TOKEN}")


async def test_a_token_of_another_pepper_is_refused(here: Replica) -> None:
    token, text = new_token(digest=token_digest(b"another" * 5, "text"))

    here.known.update([await here.store.create(token, EVENT)])

    assert is_refused(here.known, text)


@pytest.mark.parametrize("text", ["", "eyJhbGciOiJub25lIn0.e30.", "\ud800", "admin", ADMIN, "é"])
async def test_a_text_of_another_kind_is_left_to_others(here: Replica, text: str) -> None:
    assert here.known.authenticate(text) is None


async def test_the_token_of_the_settings_may_do_everything(here: Replica) -> None:
    found = here.known.authenticate(ADMIN_TOKEN)

    assert found is not None
    assert (found.id, found.name, found.token_class) == (ADMIN, ADMIN, "admin")
    [grant] = grants_of(found)
    assert grant.rights == EVERY_RIGHT
    assert grant.environments == grant.services == ("*",)
    assert here.known.is_live(ADMIN)
    assert here.known.authenticate(ADMIN_TOKEN + "x") is None


async def test_an_unknown_id_costs_a_comparison_too(
    here: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(first: Any, second: Any) -> bool:
        compared.append((len(first), len(second)))
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", counting)

    assert is_refused(here.known, generate_token("service")[1])
    assert compared == [(32, 32)] * 2


# While the log is unavailable


async def test_before_the_store_was_read_nobody_can_tell(state: SQLiteState) -> None:
    log = EmbeddedChangeLog(state)
    known = unread(EmbeddedTokenStore(state, log.wake), log, ADMIN_TOKEN)

    with pytest.raises(TokensUnavailable):
        known.authenticate(generate_token("service")[1])
    assert known.authenticate(ADMIN_TOKEN) is not None
    assert is_refused(known, "plh_service_typing_error")
    assert not known.is_loaded


@pytest.mark.slow
async def test_while_the_log_is_unavailable_known_tokens_go_on_and_of_others_nobody_can_tell(
    here: Replica, state: SQLiteState
) -> None:
    token, text = await here.create()
    revoked, gone = await here.create()
    await here.revoke(revoked)

    await state.close()
    await until(lambda: here.follower.silence > 1)

    assert here.known.authenticate(text) == token
    assert is_refused(here.known, gone)
    with pytest.raises(TokensUnavailable):
        here.known.authenticate(generate_token("service")[1])


# Being told


async def test_the_generation_moves_with_every_change_and_with_nothing_else(
    here: Replica,
) -> None:
    before = here.known.generation
    token, text = await here.create()
    await here.caught_up(token.revision)
    created = here.known.generation
    here.known.authenticate(text)
    await here.known.refresh()
    assert here.known.generation == created > before

    await here.revoke(token)

    assert here.known.generation > created


async def test_whoever_listens_is_told_once_of_what_has_ended(here: Replica) -> None:
    revoked, _ = await here.create()
    expiring, _ = await here.create(expires_at=LATER)
    both, _ = await here.create(expires_at=LATER)
    await here.create()

    await here.revoke(revoked)
    await here.revoke(both)
    here.known.report_expired()
    assert here.ended == [revoked.id, both.id]
    here.clock.ahead = 61
    here.known.report_expired()
    here.known.report_expired()
    await here.known.refresh()

    assert here.ended == [revoked.id, both.id, expiring.id]


async def test_what_has_ended_is_told_from_what_never_was(here: Replica) -> None:
    revoked, _ = await here.create()
    expiring, _ = await here.create(expires_at=LATER)
    assert not here.known.is_ended(revoked.id)

    await here.revoke(revoked)
    here.clock.ahead = 61

    assert here.known.is_ended(revoked.id)
    assert here.known.is_ended(expiring.id)
    assert not here.known.is_ended("user:ana")


async def test_an_older_state_of_a_token_is_passed_over(here: Replica) -> None:
    token, text = await here.create()
    await here.revoke(token)

    here.known.update([token])

    assert is_refused(here.known, text)


async def test_there_is_an_admin_as_long_as_a_token_of_that_class_lives(
    here: Replica, state: SQLiteState
) -> None:
    assert here.known.has_admin
    log = EmbeddedChangeLog(state)
    async with replica(EmbeddedTokenStore(state, log.wake), log) as other:
        assert not other.known.has_admin
        await other.create()
        assert not other.known.has_admin
        admin, _ = await other.create(token_class="admin", expires_at=LATER)
        assert other.known.has_admin
        other.clock.ahead = 61
        assert not other.known.has_admin
        other.clock.ahead = 0
        await other.revoke(admin)
        assert not other.known.has_admin


# Last use


async def test_the_last_use_is_written_at_most_once_a_minute(here: Replica) -> None:
    token, text = await here.create()
    unused, _ = await here.create()
    uses = LastUsedRecorder(here.store, here.known)

    here.known.authenticate(text)
    await uses.flush()
    first = (await here.store.get(token.id)).last_used_at
    here.clock.ahead = 30
    here.known.record_use(token.id)
    await uses.flush()
    assert (await here.store.get(token.id)).last_used_at == first
    here.clock.ahead = 61
    here.known.record_use(token.id)
    await uses.flush()
    second = (await here.store.get(token.id)).last_used_at

    assert first is not None
    assert second is not None
    assert second - first == timedelta(seconds=61)
    assert (await here.store.get(unused.id)).last_used_at is None


async def test_neither_a_refused_use_nor_one_of_the_settings_is_written(here: Replica) -> None:
    token, text = await here.create()
    here.known.authenticate(ADMIN_TOKEN)
    here.known.record_use(ADMIN)
    here.known.record_use("")
    assert is_refused(here.known, text[:-1])

    assert here.known.pop_last_uses() == {}
    assert (await here.store.get(token.id)).last_used_at is None


async def test_nothing_known_shows_a_secret(here: Replica) -> None:
    _, text = await here.create()

    contents = repr(here.known.tokens) + json.dumps(list(here.known.tokens))

    assert text.split("_")[3] not in contents
