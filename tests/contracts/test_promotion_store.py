"""What any PromotionStore must do. Runs once per adapter, with no exceptions for any."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest

from app.proposals.promotion.errors import PromotionsUnavailable
from app.proposals.promotion.model import Pin, Promotion, RowKey
from app.proposals.promotion.store.embedded import EmbeddedPromotionStore
from app.proposals.promotion.store.port import PromotionStore
from app.proposals.promotion.store.postgres import PostgresPromotionStore
from tests.contracts.rigs import embedded_bench, postgres_bench

HOST = RowKey("config", "billing", "db.host")
LONG = RowKey("config", "billing", "[" + "\U0001f680" * 1022 + "]")
FLAG = RowKey("flag", "", "new-pool")
PIN = Pin("production", "config", "billing", "db.host", "ana", "another host")
FIRST = ("", "", "", "")


@dataclass
class Rig:
    store: PromotionStore
    elsewhere: PromotionStore  # of another replica, if there can be any
    cut: Callable[[], Awaitable[None]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)
    store = EmbeddedPromotionStore(bench.state)
    return Rig(store, store, bench.state.close)


async def postgres_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)
    stores = [PostgresPromotionStore(bench.open_connection().engine) for _ in range(2)]
    return Rig(stores[0], stores[1], bench.cut)


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres_rig, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


def promotion(*versions: tuple[RowKey, int], source: str = "staging") -> Promotion:
    return Promotion(source, "production", versions, "ana")


async def bases(rig: Rig, *services: str, source: str = "staging") -> dict[RowKey, int]:
    return {
        base.subject: base.version
        for base in await rig.elsewhere.bases(source, "production", services)
    }


async def test_the_newest_promotion_of_each_subject_is_kept(rig: Rig) -> None:
    await rig.store.record(promotion((HOST, 3), (FLAG, 7), (LONG, 1)))
    await rig.store.record(promotion((HOST, 5)))

    assert await bases(rig, "billing", "") == {HOST: 5, FLAG: 7, LONG: 1}
    (base,) = await rig.elsewhere.bases("staging", "production", [""])
    assert (base.actor, base.at.tzinfo is not None) == ("ana", True)


async def test_promotions_are_kept_by_both_environments_and_by_service(rig: Rig) -> None:
    await rig.store.record(promotion((HOST, 3)))
    await rig.store.record(promotion((HOST, 8), source="test"))

    assert await bases(rig, "billing", source="test") == {HOST: 8}
    assert await bases(rig, "billing") == {HOST: 3}
    assert await bases(rig, "other", "") == {}
    assert await bases(rig) == {}
    assert await rig.elsewhere.bases("production", "staging", ["billing"]) == []


async def test_no_versions_are_recorded_as_nothing(rig: Rig) -> None:
    await rig.store.record(promotion())

    assert await bases(rig, "billing", "") == {}


async def test_a_pin_is_written_twice_and_deleted_once(rig: Rig) -> None:
    await rig.store.put_pin(PIN)
    await rig.store.put_pin(replace(PIN, actor="bob", comment="now another"))

    (pin,) = await rig.elsewhere.pins_of("production")

    assert (pin, pin.actor, pin.comment) == (PIN, "bob", "now another")
    assert pin.at is not None
    assert await rig.store.delete_pin(PIN)
    assert not await rig.store.delete_pin(PIN)
    assert await rig.elsewhere.pins_of("production") == []


async def test_pins_are_listed_in_order_page_by_page(rig: Rig) -> None:
    places = [
        ("production", "config", "Billing", "a"),
        ("production", "config", "billing", "A"),
        ("production", "config", "billing", "a-b"),
        ("production", "config", "billing", "a.b"),
        ("production", "flag", "", "new-pool"),
        ("staging", "config", "billing", "a"),
    ]
    for place in reversed(places):
        await rig.store.put_pin(Pin(*place))  # type: ignore[arg-type]

    first = await rig.elsewhere.pins_after(FIRST, 4)
    rest = await rig.elsewhere.pins_after(first[-1].place, 4)

    assert [pin.place for pin in (*first, *rest)] == places
    assert [pin.place for pin in await rig.elsewhere.pins_of("production")] == places[:5]


async def test_a_store_that_is_cut_off_is_unavailable(rig: Rig) -> None:
    await rig.cut()

    for call in (
        lambda: rig.store.record(promotion((HOST, 3))),
        lambda: rig.store.bases("staging", "production", ["billing"]),
        lambda: rig.store.put_pin(PIN),
        lambda: rig.store.delete_pin(PIN),
        lambda: rig.store.pins_of("production"),
    ):
        with pytest.raises(PromotionsUnavailable):
            await call()
