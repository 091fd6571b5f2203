"""Programs propose changes through the client, and wait until they are applied."""

from collections.abc import Callable

import pytest

from pilothouse import AsyncPilothouse, Pilothouse
from pilothouse.errors import Conflict, NotFound
from sdk.tests.scripted import ReceivedRequest, Reply, ScriptedServer, of_json, problem
from tests.servers.service import ServiceProcess

LATER = "2027-06-01T08:00:00Z"


def item(environment: str, value: int) -> dict[str, object]:
    layer = {"kind": "config", "environment": environment, "service_name": "shop"}
    return {**layer, "set": {"pool": value}}


def test_a_change_is_proposed_and_applied(service: ServiceProcess) -> None:
    with Pilothouse(service.url, "shop", "proposed") as client:
        made = client.proposals.propose("Pool", [item("proposed", 5)], on_failure="undo")
        with pytest.raises(Conflict):  # access is open: nobody is known
            client.proposals.approve(made["id"], 1)
        client.proposals.apply(made["id"], comment="go")
        ended = client.proposals.wait(made["id"], 30)
        with pytest.raises(NotFound):
            client.proposals.get("p-none")

    assert (made["state"], made["on_failure"]) == ("approved", "undo")
    assert (ended["state"], ended["items"][0]["outcome"]["version"]) == ("applied", 1)


async def test_a_wait_ends_after_its_time(service: ServiceProcess) -> None:
    async with AsyncPilothouse(service.url, "shop", "scheduled") as client:
        made = await client.proposals.propose("Pool", [item("scheduled", 5)])
        scheduled = await client.proposals.apply(made["id"], at=LATER)
        with pytest.raises(TimeoutError):
            await client.proposals.wait(made["id"], 0.3)

    assert scheduled["state"] == "scheduled"


async def test_a_wait_outlasts_a_service_that_is_unavailable(
    scripted_server: ScriptedServer,
) -> None:
    replies = [problem(503, "gone")] * 9 + [of_json({"state": "releasing"})]
    path = "/api/v1/proposals/p-1"
    scripted_server.answers[path] = answers_in_turn(replies, of_json({"state": "aborted"}))
    client = AsyncPilothouse(scripted_server.url, "shop", flags=False)

    try:
        ended = await client.proposals.wait("p-1")
    finally:
        await client.close()

    assert ended == {"state": "aborted"}
    assert scripted_server.count(path) == 11


def answers_in_turn(replies: list[Reply], last: Reply) -> Callable[[ReceivedRequest], Reply]:
    return lambda _: replies.pop(0) if replies else last
