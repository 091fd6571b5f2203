"""What the ports of a log do in an outage. Runs once per adapter, with no exceptions for any."""

from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any

import pytest

from app.changes.model import Disclosure, Guard, Written
from app.errors import Unavailable
from tests.contracts.changes.changing import CHECKOUT, intent, intent_with_key
from tests.contracts.changes.rig import Rig
from tests.servers.process import SLACK_SECONDS


def every_call(rig: Rig) -> Sequence[Coroutine[Any, Any, object]]:
    return (
        rig.intents.begin(intent()),
        rig.intents.begin(intent_with_key("key")),
        rig.intents.begin(intent(), Guard(0, covers_related=True)),
        rig.intents.reserve(intent()),
        rig.intents.earlier_related("ghost"),
        rig.intents.confirm(intent()),
        rig.intents.cancel("ghost"),
        rig.log.advance(CHECKOUT, [Written(1, None)]),
        rig.log.pointer(CHECKOUT.key),
        rig.intents.intent("ghost"),
        rig.intents.intent_by_idempotency_key("key"),
        rig.intents.overdue_intents(10),
        rig.intents.expire("ghost"),
        rig.log.snapshot(),
        rig.log.since(0, 10),
        rig.log.history(CHECKOUT.key, 10),
        rig.log.count_recent(60),
        rig.outbox.unsent_changes(10),
        rig.outbox.mark_sent([1]),
        rig.outbox.oldest_unsent(),
        rig.maintenance.trim(60, 1, relayed=True),
        rig.maintenance.forget(60),
        rig.log.horizon(),
        rig.log.record_disclosure(Disclosure(CHECKOUT, ("key",), "ana", "r-1")),
        rig.maintenance.acquire_turn("scan", 10),
        rig.log.ping(),
    )


async def test_the_log_answers_a_ping(rig: Rig) -> None:
    await rig.log.ping()


async def test_every_call_names_an_outage_in_time(rig: Rig) -> None:
    await rig.log.ping()

    await rig.cut()

    for call in every_call(rig):
        began = monotonic()
        with pytest.raises(Unavailable):
            await call
        assert monotonic() - began < 1 + SLACK_SECONDS


async def test_waiting_for_changes_outlasts_an_outage(rig: Rig) -> None:
    await rig.log.wait_for_change(within=0.1)
    await rig.cut()

    began = monotonic()
    await rig.log.wait_for_change(within=0.1)
    await rig.log.wait_for_change(within=0.1)

    assert monotonic() - began < 1 + SLACK_SECONDS
