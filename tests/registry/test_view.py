"""What is seen of rows and nodes side by side, and who is woken by what."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.registry.self_preservation import Protection
from app.registry.view import DISCOVERABLE, RegistryView
from pilothouse_core.instances import FencingToken
from tests.registry.bench import SERVICE, foreign, node_of, row_of, view_of
from tests.trials import trials

STATES = ("registered", "deregistered", "evicted")
HEALTHS = ("starting", "up", "suspect", "down")


def statuses(view: RegistryView) -> dict[str, str]:
    return {seen.id: seen.status for seen in view.service(SERVICE).instances}


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "up"),
        ({"health": "starting"}, "starting"),
        ({"health": "down"}, "down"),
        ({"health": "suspect"}, "suspect"),
        ({"draining_until": row_of("i-1").registered_at}, "draining"),
        ({"draining_until": row_of("i-1").registered_at, "health": "down"}, "draining"),
    ],
)
def test_a_registered_row_beside_its_node_has_the_status_of_the_row(
    facts: dict[str, Any], status: str
) -> None:
    assert statuses(view_of(row_of("i-1", **facts))) == {"i-1": status}


def test_a_registered_row_without_its_node_is_suspect_and_still_discovered() -> None:
    view = view_of(row_of("i-1"), row_of("i-2", health="down"), nodes=False)

    assert statuses(view) == {"i-1": "suspect", "i-2": "down"}
    assert [seen.id for seen in view.service(SERVICE).discoverable] == ["i-1"]


def test_a_node_of_another_registration_is_not_its_node() -> None:
    row = row_of("i-1", epoch=2, term=3)
    view = view_of(row, nodes=False)
    seen = {}
    for tag in (FencingToken(1, 9), FencingToken(2, 1), FencingToken(2, 3), FencingToken(3, 1)):
        view.set_nodes(SERVICE, {"i-1": replace(node_of(row), tag=tag)})
        seen[tag] = statuses(view)["i-1"]

    # An owner ago is as good for those who look.
    assert list(seen.values()) == ["suspect", "up", "up", "suspect"]


@pytest.mark.parametrize("state", ["deregistered", "evicted"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_node_whose_row_is_not_registered_is_hidden(state: str, epoch: int) -> None:
    view = view_of(row_of("i-1", epoch=2, state=state))
    view.set_nodes(SERVICE, {"i-1": node_of(row_of("i-1", epoch=epoch))})

    assert statuses(view) == {}
    assert view.services == []


@pytest.mark.parametrize("state", ["deregistered", "evicted"])
def test_who_comes_again_without_the_service_is_foreign(state: str) -> None:
    row = row_of("i-1", epoch=2, state=state)
    registered_at = int(row.registered_at.timestamp() * 1000)
    ours = replace(node_of(row), registered_at=registered_at)
    # What the client library writes has a tag too, and always the same.
    with_library = replace(ours, tag=FencingToken(1, 1), registered_at=registered_at + 1)
    left = view_of(row, nodes=False)
    left.set_nodes(SERVICE, {"i-1": ours})
    assert statuses(left) == {}

    for node in (foreign("i-1", "i-1"), foreign("other", "i-1"), with_library):
        view = view_of(row, nodes=False)
        view.set_nodes(SERVICE, {node.node: node})

        assert statuses(view) == {"i-1": "up"}
        assert view.service(SERVICE).instances[0].row is None
        view.learn([row_of("i-1", epoch=3)])
        assert view.service(SERVICE).instances[0].row is not None


def test_a_node_without_a_row_is_foreign() -> None:
    view = view_of(row_of("b"))
    view.set_nodes(SERVICE, {"b": node_of(row_of("b")), "n-1": foreign("n-1", "a", enabled=False)})

    first, second = view.service(SERVICE).instances

    assert (first.id, first.status, first.url) == ("a", "down", "http://10.0.0.9:81")
    assert first.row is None
    assert first.instance is None
    assert first.node is not None
    assert second.row is not None


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        ({"n-1": "a", "n-2": "a"}, {"n-1", "n-2"}),
        ({"n-1": "a", "n-2": "a", "n-3": "n-1"}, {"n-1", "n-2", "n-3"}),
        ({"a": "a", "n-2": "a"}, {"a", "n-2"}),
        ({"n-1": "n-2", "n-2": "n-1"}, {"n-1", "n-2"}),
        ({"n-1": "registered", "n-2": "b"}, {"n-1", "b"}),
    ],
)
def test_two_nodes_that_say_one_id_are_both_shown_by_their_names(
    ids: dict[str, str], shown: set[str]
) -> None:
    row = row_of("registered")
    view = view_of(row)
    nodes = {
        name: foreign(name, id_, port=number) for number, (name, id_) in enumerate(ids.items(), 1)
    }
    view.set_nodes(SERVICE, {**nodes, "registered": node_of(row)})

    seen = view.service(SERVICE).instances

    assert {one.id for one in seen} == shown | {"registered"}
    assert len({one.url for one in seen}) == len(ids) + 1


def test_one_row_that_cannot_be_read_leaves_the_others_as_they_are() -> None:
    unreadable = row_of("i-1", definition='{"colour": "red"}')
    view = view_of(row_of("i-2"), nodes=False)
    view.learn([unreadable, row_of("i-3", definition="{")])

    assert statuses(view) == {"i-2": "suspect"}
    assert view.instance(unreadable) is None


rows = st.builds(
    row_of,
    st.sampled_from(["i-1", "i-2"]),
    epoch=st.integers(1, 3),
    term=st.integers(1, 3),
    version=st.integers(1, 3),
    state=st.sampled_from(STATES),
    health=st.sampled_from(HEALTHS),
    revision=st.integers(1, 9),
)


@settings(max_examples=trials(100))
@given(st.lists(rows, max_size=12), st.randoms(use_true_random=False))
def test_whatever_comes_first_the_newest_row_stays(drawn: list[Any], dice: Any) -> None:
    view = RegistryView()
    dice.shuffle(drawn)
    for row in drawn:
        view.learn([row])

    for id_ in ("i-1", "i-2"):
        own = [row for row in drawn if row.instance_id == id_]
        newest = max(((row.epoch, row.term, row.version) for row in own), default=None)
        known = view.row(SERVICE, id_)
        assert (known and (known.epoch, known.term, known.version)) == newest
    for seen in view.service(SERVICE).instances:
        assert seen.row is not None
        assert seen.row.state == "registered"
    assert [one.id for one in view.service(SERVICE).discoverable] == [
        one.id for one in view.service(SERVICE).instances if one.status in DISCOVERABLE
    ]


async def is_woken(view: RegistryView, do: Any) -> bool:
    waiting = asyncio.ensure_future(view.wait_for_change(30))
    await asyncio.sleep(0)  # it waits now
    do()
    for _ in range(5):
        await asyncio.sleep(0)
    if waiting.done():
        return True
    waiting.cancel()
    return False


async def test_what_moves_wakes_and_what_is_known_does_not() -> None:
    row = row_of("i-1")
    view = view_of(row)
    protected = Protection(frozenset({SERVICE}))

    woken = [
        await is_woken(view, lambda: view.learn([row])),
        await is_woken(view, lambda: view.learn([row_of("i-1", heartbeat_at=row.registered_at)])),
        await is_woken(view, lambda: view.learn([row_of("i-1", version=0)])),
        await is_woken(view, lambda: view.set_nodes(SERVICE, {"i-1": node_of(row)})),
        await is_woken(view, lambda: view.set_nodes("unknown", {})),
        await is_woken(view, lambda: view.set_protection(Protection())),
        await is_woken(view, lambda: view.learn([])),
    ]
    moved = [
        await is_woken(view, lambda: view.learn([row_of("i-1", version=2)])),
        await is_woken(view, lambda: view.learn([row_of("i-2")])),
        await is_woken(view, lambda: view.set_nodes(SERVICE, {})),
        await is_woken(view, lambda: view.set_protection(protected)),
        await is_woken(view, view.wake_waiters),
    ]

    assert woken == [False] * 7
    assert moved == [True] * 5


async def test_waiting_ends_without_a_move_as_well() -> None:
    await RegistryView().wait_for_change(0.001)


def test_a_view_of_a_service_stays_the_same_until_that_service_moves() -> None:
    view = view_of(row_of("i-1"))
    before = view.service(SERVICE)

    view.learn([replace(row_of("i-1"), service="other", definition="{}")])
    assert view.service(SERVICE) is before
    view.learn([row_of("i-2", revision=7)])

    assert view.service(SERVICE) is not before
    assert view.revision == 7
    # Questions for what does not exist leave nothing behind.
    assert view.service("unknown") is not view.service("unknown")


def test_what_is_forgotten_is_gone() -> None:
    view = view_of(row_of("i-1", state="evicted"), nodes=False)

    view.forget(SERVICE, "i-1")
    view.forget(SERVICE, "i-1")

    assert view.row(SERVICE, "i-1") is None
    assert list(view.rows()) == []
