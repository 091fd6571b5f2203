"""A log that was trimmed before a webhook has read it: the receiver hears of it."""

import asyncio
from ipaddress import ip_network
from pathlib import Path

from app.changes.follower import Follower
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.embedded.ports import embedded_ports
from app.configs.store.embedded import EmbeddedCipher
from app.outbound.addresses import AddressPolicy
from app.outbound.resolver import SystemResolver
from app.sqlite.state import SQLiteState
from app.webhooks.model import Filter, Webhook
from app.webhooks.secrets import WebhookSecrets
from app.webhooks.sender import Sender
from app.webhooks.signing import create_secret
from app.webhooks.store.embedded import EmbeddedDeliveryStore
from app.webhooks.worker import DeliveryPorts, WebhookWorker
from tests.contracts.changes.changing import entity, write
from tests.servers.receiver import Arrival, Receiver


async def refuse_to_disable(webhook: Webhook) -> None:
    raise AssertionError(webhook)


async def wait_until_recorded(store: EmbeddedDeliveryStore) -> None:
    async with asyncio.timeout(10):
        while (await store.states())[0].gaps == 0:
            pass


async def test_a_gap_is_announced_before_what_is_left(tmp_path: Path) -> None:
    state = SQLiteState(tmp_path)
    log = EmbeddedChangeLog(state)
    ports = embedded_ports(state, log)
    follower = Follower(log)
    store = EmbeddedDeliveryStore(state)
    secrets = WebhookSecrets(EmbeddedCipher(tmp_path / "key"))
    resolver = SystemResolver()
    sender = Sender(resolver, AddressPolicy([ip_network("127.0.0.0/8")]))
    await store.open("w", 0)
    for base in range(4):
        await write(ports, entity("billing"), base)
    while await ports.maintenance.trim(0, 1, relayed=False):
        pass
    await follower.start()
    with Receiver() as receiver:
        url, secret = await secrets.seal("w", receiver.url(), create_secret())
        selected = Filter(frozenset({"config"}), ("*",), ("*",))
        webhook = Webhook(
            "w", "releases", 1, url, secret, None, None, selected, "event", is_enabled=True
        )
        delivery = DeliveryPorts(
            store, log, follower, secrets, sender, asyncio.Semaphore(8), refuse_to_disable
        )
        lease = await store.lease("w", "one", 20)
        assert lease is not None
        working = asyncio.create_task(WebhookWorker(delivery, webhook, "one").run(lease))

        def has_both(arrivals: list[Arrival]) -> bool:
            return len(arrivals) >= 2

        arrivals = await asyncio.to_thread(receiver.wait_for, has_both)
        await wait_until_recorded(store)
        working.cancel()
    events = {each.event()["type"]: each.event() for each in arrivals}
    gap, change = events["pilothouse.log.reset"], events["pilothouse.config.updated"]

    assert gap["data"] == {"revision": 3}
    assert gap["id"] == "gap-w-3"
    assert change["data"]["version"] == 4
    await sender.close()
    resolver.close()
    await state.close()
