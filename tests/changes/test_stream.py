"""What waits for stream clients: selection, order, coalescing, bounds."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.changes.model import Change, Entity
from app.changes.stream.hub import (
    PENDING_AT_MOST,
    Hub,
    Selection,
    Subscription,
    encode_event,
    encode_refetch,
    encode_reset,
)


def change(revision: int, name: str = "api", environment: str = "production") -> Change:
    service, _, user = name.partition("/")
    folder = f"users/{environment}/{service}/{user}" if user else f"layers/{environment}/{service}"
    return Change(
        revision=revision,
        id=f"id-{revision}",
        entity=Entity("config", environment, name, folder),
        version=revision,
        action="updated",
        actor="ada",
        comment="a comment",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def revisions(text: bytes) -> list[int]:
    lines = text.decode().splitlines()
    return [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]


def test_an_event_names_the_change_and_nothing_else() -> None:
    lines = encode_event(change(7)).decode().split("\n")

    assert lines[0] == "id: 7"
    assert lines[1] == "event: config.changed"
    assert json.loads(lines[2].removeprefix("data: ")) == {
        "revision": 7,
        "kind": "config",
        "action": "updated",
        "environment": "production",
        "name": "api",
        "version": 7,
        "actor": "ada",
        "at": "2026-01-01T00:00:00+00:00",
    }


def test_an_event_tells_tokens_of_one_name_apart() -> None:
    text = encode_event(replace(change(7), actor="token:ci#0123456789abcdef")).decode()

    data = json.loads(text.split("\n")[2].removeprefix("data: "))
    assert (data["actor"], data["actor_id"]) == ("token:ci", "0123456789abcdef")


def test_what_was_missed_is_told_in_the_words_that_the_client_knows() -> None:
    lines = encode_reset(Selection(refetch=True), 7).decode().split("\n")

    assert (
        lines[:2]
        == encode_refetch(change(7)).decode().split("\n")[:2]
        == ["id: 7", "event: message"]
    )
    assert json.loads(lines[2].removeprefix("data: ")) == {
        "type": "refetchEvaluation",
        "etag": "r7",
    }
    assert encode_reset(Selection(), 7).startswith(b"id: 7\nevent: reset\n")


def test_a_service_hears_of_every_layer_that_contributes_to_it() -> None:
    selection = Selection("production", "api")

    heard = [
        (environment, name)
        for environment in ("default", "production", "staging")
        for name in ("_shared", "api", "other", "api/ada", "other/ada")
        if selection.wants(change(1, name, environment))
    ]

    assert heard == [
        ("default", "_shared"),
        ("default", "api"),
        ("production", "_shared"),
        ("production", "api"),
        ("production", "api/ada"),
    ]


def test_instances_are_heard_of_in_every_environment() -> None:
    instance = Entity("instance", "default", "billing/b-1", "instances/billing/b-1")

    assert Selection("production", "api").wants(replace(change(1), entity=instance))


def test_only_the_selected_kinds_are_heard() -> None:
    assert not Selection(kinds=frozenset({"flag"})).wants(change(1))
    assert Selection(kinds=frozenset({"flag", "config"})).wants(change(1))


def test_of_one_entity_only_the_latest_change_waits() -> None:
    hub = Hub(limit=10)
    subscription = hub.join(Selection())

    for revision, name in enumerate(["api", "other", "api"], start=1):
        hub.publish(change(revision, name))

    assert revisions(subscription.pop_events()) == [2, 3]
    assert subscription.pop_events() == b""


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.data())
def test_revisions_ascend_and_every_final_state_is_sent(
    names: list[str], data: st.DataObject
) -> None:
    hub = Hub(limit=10)
    subscription = hub.join(Selection())
    last: dict[str, int] = {}
    seen: list[int] = []

    for revision, name in enumerate(names, start=1):
        hub.publish(change(revision, name))
        last[name] = revision
        if data.draw(st.booleans()):
            seen += revisions(subscription.pop_events())
    seen += revisions(subscription.pop_events())

    assert seen == sorted(set(seen))
    assert set(last.values()) <= set(seen)


def test_what_the_client_was_sent_from_the_log_is_not_sent_again() -> None:
    hub = Hub(limit=10)
    subscription = hub.join(Selection())
    hub.publish(change(4, "a"))
    hub.publish(change(5, "b"))

    subscription.sent_revision = 4

    assert revisions(subscription.pop_events()) == [5]


def test_a_client_that_falls_too_far_behind_is_told_and_costs_nothing() -> None:
    hub = Hub(limit=10)
    subscription = hub.join(Selection())

    for revision in range(1, PENDING_AT_MOST + 2):
        hub.publish(change(revision, f"service{revision}"))

    assert subscription.overrun
    assert subscription.pop_events() == b""


def test_a_full_hub_and_a_draining_one_take_nobody() -> None:
    hub = Hub(limit=1)
    subscription = hub.join(Selection())
    assert hub.is_full

    hub.leave(subscription)
    assert not hub.is_full

    hub.drain()
    assert hub.is_full


def test_whoever_was_dismissed_on_the_way_in_is_sent_away_at_once() -> None:
    hub = Hub(limit=10, has_ended=lambda owner: owner == "revoked")

    assert hub.join(Selection(), "revoked").closed
    assert not hub.join(Selection(), "known").closed
    assert not hub.join(Selection()).closed


def _wakes(act: Callable[[Hub], None]) -> bool:
    hub = Hub(limit=1)
    subscription = hub.join(Selection())
    act(hub)
    return subscription.closed


def test_draining_sends_everybody_away() -> None:
    assert _wakes(Hub.drain)


@pytest.mark.anyio
async def test_a_client_that_keeps_up_is_pushed_to_and_one_that_does_not_is_woken() -> None:
    hub = Hub(limit=10)
    subscription = hub.join(Selection())
    pushed: list[bytes] = []
    takes = True

    def push(event: bytes) -> bool:
        pushed.extend([event] * takes)
        return takes

    waiting = asyncio.create_task(subscription.wait(5, push))
    await asyncio.sleep(0)
    hub.publish(change(1))
    takes = False
    hub.publish(change(2))
    takes = True
    hub.publish(change(3, "other"))
    await waiting

    assert revisions(b"".join(pushed)) == [1]
    assert revisions(subscription.pop_events()) == [2, 3]


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_thousand_clients_hear_all_in_order_and_hold_nobody_up() -> None:
    hub = Hub(limit=1000)
    subscriptions = [hub.join(Selection()) for _ in range(1000)]
    turns = 0

    hub.publish(change(1))
    hub.publish(change(2, "other"))
    while not all(has_both(subscription) for subscription in subscriptions):
        await asyncio.sleep(0)
        turns += 1

    assert turns > 10
    assert {tuple(revisions(found.pop_events())) for found in subscriptions} == {(1, 2)}


def has_both(subscription: Subscription) -> bool:
    return len(subscription) == 2
