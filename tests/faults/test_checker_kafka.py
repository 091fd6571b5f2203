"""The checker of what Kafka heard finds what it is there to find, in what is made by hand."""

import json
from typing import Any

from tests.faults.checker_kafka import check_events

KEY = "config:default/shop"
OTHER = "config:default/store"


def row(revision: int, **facts: Any) -> dict[str, Any]:
    data = {"kind": "config", "environment": "default", "name": "shop", "version": revision}
    made = {"revision": revision, "id": f"id-{revision}", "action": "updated", "deleted": False}
    return data | made | facts


def event(revision: int, partition: int = 0, key: str = KEY, **facts: Any) -> str:
    found = row(revision, **facts)
    message = {"id": found.pop("id"), "data": found}
    heard = {"partition": partition, "offset": 0, "key": key, "revision": revision}
    return json.dumps({**heard, "event": message})


def test_every_change_heard_once_and_in_order_is_no_violation() -> None:
    assert check_events([event(1), event(2)], [row(1), row(2)]) == []


def test_what_is_sent_again_is_no_violation() -> None:
    """Also when it brings back older revisions: the consumer passes over them."""
    heard = [event(1), event(2), event(1), event(2), event(3), event(2), event(3)]

    assert check_events(heard, [row(1), row(2), row(3)]) == []


def test_other_keys_have_an_order_of_their_own() -> None:
    heard = [event(2), event(1, key=OTHER, name="store")]

    assert check_events(heard, [row(1, name="store"), row(2)]) == []


def test_a_change_that_is_not_heard_of_is_found() -> None:
    assert check_events([event(2)], [row(1), row(2)]) == [f"revision 1 of {KEY} is not heard of"]


def test_an_event_without_a_change_is_found() -> None:
    assert check_events([event(1), event(2)], [row(1)]) == [
        f"revision 2 of {KEY} is heard of and not in the log"
    ]


def test_an_event_that_tells_something_else_is_found() -> None:
    heard = [event(1, id="id-x", version=7, action="deleted", deleted=True)]

    assert check_events(heard, [row(1)]) == [
        f"revision 1 of {KEY} is heard of with the id 'id-x', logged is 'id-1'",
        f"revision 1 of {KEY} is heard of with the version 7, logged is 1",
        f"revision 1 of {KEY} is heard of with the action 'deleted', logged is 'updated'",
        f"revision 1 of {KEY} is heard of with the deleted True, logged is False",
    ]


def test_an_event_that_is_another_the_second_time_is_found() -> None:
    assert check_events([event(1), event(1, version=7)], [row(1)]) == [
        f"revision 1 of {KEY} is heard of with the version 7, logged is 1"
    ]


def test_an_event_under_another_key_is_found() -> None:
    assert check_events([event(1, key=OTHER)], [row(1)]) == [
        f"revision 1 of {OTHER} is heard of with the key {OTHER!r}, logged is {KEY!r}"
    ]


def test_a_revision_heard_for_the_first_time_after_a_later_one_is_found() -> None:
    assert check_events([event(1), event(3), event(2)], [row(1), row(2), row(3)]) == [
        f"revision 2 of {KEY} is heard of for the first time after 3"
    ]


def test_a_wrong_order_is_not_made_good_by_a_right_one_afterwards() -> None:
    assert check_events([event(2), event(1), event(1), event(2)], [row(1), row(2)]) == [
        f"revision 1 of {KEY} is heard of for the first time after 2"
    ]


def test_a_key_in_two_partitions_is_found() -> None:
    """Between partitions there is no order that anybody could rely on."""
    assert check_events([event(1), event(2, partition=2)], [row(1), row(2)]) == [
        f"{KEY} is heard of in the partitions [0, 2]"
    ]
