"""The last flags in the shared cache, and what a replica makes of them that starts blind."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.cache.redis import RedisAddress, RedisCache
from app.changes.follower import Follower
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.warm_start.pointers import PointerSnapshots
from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.errors import FlagsUnavailable
from app.flags.model import Commit, Edit, Item
from app.flags.store.embedded import EmbeddedFlagStore
from app.flags.warm_start import FlagSnapshots, decode_snapshot, encode_snapshot
from app.sqlite.state import SQLiteState
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.redis import RedisServer

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ON = '{"name":"banner","type":"boolean","variants":{"on":true,"off":false},'
BANNER = ON + '"default_variant":"on","off_variant":"off","enabled":true,"rules":[]}'
HIDDEN = BANNER.replace('"enabled":true', '"enabled":false')


class Replica:
    """One replica over the stores that all share."""

    def __init__(self, state: SQLiteState, cache: RedisCache) -> None:
        log = EmbeddedChangeLog(state)
        self.store = EmbeddedFlagStore(state, log.wake)
        self.sets = FlagCache(self.store)
        self.follower = Follower(log)
        self.follower.listeners.before_apply(self.sets.prepare)
        self.pointers = PointerSnapshots(self.follower, cache, [FlagSnapshots(self.sets, cache)])

    async def write(self, definition: str, environment: str = "staging") -> int:
        base = self.sets.environment(environment).revision
        edits = [Edit("flag", "banner", definition, "updated")]
        (item,) = await self.store.commit(
            Commit(environment, base, edits, actor="ana", comment="", request_id="request")
        )
        await self.follower.catch_up()
        return item.revision

    def value(self, environment: str = "staging") -> object:
        return self.sets.environment(environment).evaluate("banner", {}, 0.0).value


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[RedisCache]:
    server = redis_server
    address = RedisAddress(server.host, server.port, server.password, server.db)
    opened = RedisCache(address, prefix=server.fresh_prefix(), seconds=PATIENT_SECONDS)
    yield opened
    await opened.close()


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[SQLiteState]:
    opened = SQLiteState(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def first(state: SQLiteState, cache: RedisCache) -> Replica:
    replica = Replica(state, cache)
    await replica.follower.start()
    await replica.write(BANNER)
    return replica


async def test_what_comes_back_is_what_was_written() -> None:
    items = [
        Item("flag", "e", "ünï", 3, BANNER, "updated", "ana \n", "why", NOW, NOW, 7),
        Item("segment", "e", "gone", 2, "", "deleted", "", "", NOW, NOW, 5),
    ]
    known = EnvironmentFlags("e", items={(item.kind, item.name): item for item in items})

    value = await encode_snapshot(known)

    assert decode_snapshot(value) == items
    assert decode_snapshot(None) == []
    for end in range(len(value)):
        assert decode_snapshot(value[:end]) == []
        assert decode_snapshot(value[:end] + bytes([value[end] ^ 1]) + value[end + 1 :]) == []


async def test_a_replica_that_starts_blind_evaluates_what_another_saved(
    first: Replica, state: SQLiteState, cache: RedisCache
) -> None:
    await first.pointers.save()

    blind = Replica(state, cache)
    with pytest.raises(FlagsUnavailable):
        blind.value()
    await blind.pointers.adopt()

    assert blind.value() is True
    assert blind.follower.revision == first.follower.revision
    assert blind.sets.environment("of-nobody").revision == 0


async def test_it_claims_no_revision_that_its_flags_have_not(
    first: Replica, state: SQLiteState, cache: RedisCache
) -> None:
    await first.pointers.save()
    earlier = first.sets.environment("staging").revision
    await first.write(HIDDEN)
    await PointerSnapshots(first.follower, cache).save()  # as if it died between the two

    blind = Replica(state, cache)
    await blind.pointers.adopt()

    assert (blind.value(), blind.follower.revision) == (True, earlier)
    await blind.follower.start()
    assert (blind.value(), blind.follower.revision) == (False, first.follower.revision)


async def test_what_was_not_kept_is_not_taken_for_empty(
    first: Replica, state: SQLiteState, cache: RedisCache
) -> None:
    await first.write(BANNER, "production")
    await first.pointers.save()
    await cache.drop(["flags:production"])

    blind = Replica(state, cache)
    await blind.pointers.adopt()

    assert blind.value() is True
    with pytest.raises(FlagsUnavailable):
        blind.value("production")


async def test_what_was_adopted_from_another_store_is_forgotten(
    first: Replica, cache: RedisCache, tmp_path: Path
) -> None:
    await first.pointers.save()
    emptied = SQLiteState(tmp_path / "another")

    blind = Replica(emptied, cache)
    await blind.pointers.adopt()
    assert blind.value() is True
    await blind.follower.start()

    assert blind.sets.environment("staging").live_item("flag", "banner") is None
    await emptied.close()


async def test_a_later_save_keeps_what_has_changed(
    first: Replica, state: SQLiteState, cache: RedisCache
) -> None:
    await first.pointers.save()
    await first.write(HIDDEN)
    await first.pointers.save()

    blind = Replica(state, cache)
    await blind.pointers.adopt()

    assert blind.value() is False
