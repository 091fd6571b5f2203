"""How a replica hears of rows that others have changed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.registry.errors import RegistryUnavailable
from app.registry.row_follower import RowFollower
from app.registry.view import RegistryView
from tests.registry.bench import SERVICE, Store, embedded_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with embedded_store(tmp_path) as made:
        yield made


def ids(view: RegistryView) -> list[str]:
    return [row.instance_id for row in view.rows() if row.state == "registered"]


async def test_first_everything_is_read_and_then_what_is_newer(store: Store) -> None:
    for number in range(5):
        await store.register(f"i-{number}")
    view = RegistryView()
    follower = RowFollower(store.rows, view, page=2)
    assert not follower.is_read

    await follower.prepare(frozenset({"config"}))
    first = ids(view)
    await store.register("i-5")
    await store.rows.deregister(SERVICE, "i-0", None, "ada", "request-2")
    await follower.prepare(frozenset({"config"}))
    unmoved = ids(view)
    await follower.prepare(frozenset({"instance", "config"}))

    assert follower.is_read
    assert first == unmoved == [f"i-{number}" for number in range(5)]
    assert ids(view) == [f"i-{number}" for number in range(1, 6)]
    assert view.revision == (await store.log.snapshot()).revision


async def test_while_the_store_is_unavailable_nothing_counts_as_read(store: Store) -> None:
    await store.register("i-1")
    view = RegistryView()
    follower = RowFollower(store.rows, view)
    await store.fail()

    with pytest.raises(RegistryUnavailable):
        await follower.prepare(frozenset())
    assert not follower.is_read
    await store.heal()
    await follower.prepare(frozenset())

    assert follower.is_read
    assert ids(view) == ["i-1"]


async def test_what_is_known_already_does_not_go_back(store: Store) -> None:
    row = await store.register("i-1")
    (claimed,) = await store.rows.claim([row.token], "there", 0.0)
    view = RegistryView()
    view.learn([claimed])

    await RowFollower(store.rows, view).refresh()
    view.learn([row])

    assert view.row(*row.key) == claimed
