"""What is evaluated here is told to the service, and never more often than agreed."""

import asyncio
import json
import threading
from typing import Any

import pytest

from pilothouse import Pilothouse, RefreshPolicy
from pilothouse.flags.usage import PATH, UsageCounts, UsageReporter
from pilothouse.transport import Limits, Transport
from sdk.tests.flags.test_held import flag
from sdk.tests.rigs import RealRig
from sdk.tests.scripted import Reply, ScriptedServer, configuration, flag_set, problem
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

TAKEN = Reply(204)


def reported_counts(server: ScriptedServer) -> list[Any]:
    return [
        json.loads(request.body)["evaluations"]
        for request in server.requests
        if request.path == PATH
    ]


async def report_usage(server: ScriptedServer, counts: UsageCounts, **more: Any) -> None:
    transport = Transport(server.url, limits=Limits(timeout=2))
    try:
        await UsageReporter(counts, "default", lambda: transport, **more).report()
    finally:
        await transport.close()


async def test_each_evaluation_is_told_once(scripted_server: ScriptedServer) -> None:
    scripted_server.answers[PATH] = lambda _: TAKEN
    counts = UsageCounts()
    for _ in range(3):
        counts.add("a", "on")
    counts.add("b", "off")

    await report_usage(scripted_server, counts)
    await report_usage(scripted_server, counts)
    counts.add("a", "on")
    await report_usage(scripted_server, counts)

    assert reported_counts(scripted_server) == [{"a": {"on": 3}, "b": {"off": 1}}, {"a": {"on": 1}}]


async def test_what_could_not_be_told_is_told_later(scripted_server: ScriptedServer) -> None:
    counts = UsageCounts()
    counts.add("a", "on")
    scripted_server.answers[PATH] = lambda _: problem(503, "away")
    await report_usage(scripted_server, counts)
    counts.add("a", "on")
    scripted_server.answers[PATH] = lambda _: TAKEN

    await report_usage(scripted_server, counts)

    assert reported_counts(scripted_server)[-1] == {"a": {"on": 2}}


async def test_what_the_service_refuses_is_not_told_again(scripted_server: ScriptedServer) -> None:
    counts = UsageCounts()
    counts.add("a", "on")
    scripted_server.answers[PATH] = lambda _: problem(403, "denied")

    await report_usage(scripted_server, counts)
    await report_usage(scripted_server, counts)

    assert len(reported_counts(scripted_server)) == 1


async def test_a_report_is_no_longer_than_the_service_takes(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers[PATH] = lambda _: TAKEN
    counts = UsageCounts()
    for number in range(10_001):
        counts.add(f"flag-{number}", "on")

    await report_usage(scripted_server, counts)

    assert [len(report) for report in reported_counts(scripted_server)] == [10_000, 1]


async def test_overrides_are_nobodys_business(scripted_server: ScriptedServer) -> None:
    scripted_server.answers[PATH] = lambda _: TAKEN
    counts = UsageCounts()
    counts.add("a", "on")
    await report_usage(scripted_server, counts, overridden=lambda: ["a"])
    await report_usage(scripted_server, counts)

    assert reported_counts(scripted_server) == []


def test_no_count_is_lost_between_threads() -> None:
    counts, each = UsageCounts(), 20_000
    barrier = threading.Barrier(4)

    def count() -> None:
        barrier.wait()
        for _ in range(each):
            counts.add("a", "on")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        list(counts.unsent())  # whoever reads disturbs nobody
    for thread in threads:
        thread.join()

    assert [times for *_, times in counts.unsent()] == [4 * each]


async def test_a_fork_does_not_tell_what_its_parent_will(scripted_server: ScriptedServer) -> None:
    scripted_server.answers[PATH] = lambda _: TAKEN
    counts = UsageCounts()
    counts.add("a", "on")
    counts.forget()
    counts.add("a", "on")

    await report_usage(scripted_server, counts)

    assert reported_counts(scripted_server) == [{"a": {"on": 1}}]


async def test_reports_are_apart(scripted_server: ScriptedServer) -> None:
    scripted_server.answers[PATH] = lambda _: TAKEN
    counts = UsageCounts()
    transport = Transport(scripted_server.url)
    keeping = asyncio.create_task(
        UsageReporter(counts, "default", lambda: transport, every=0.05).keep()
    )
    began = asyncio.get_running_loop().time()
    while len(reported_counts(scripted_server)) < 3:
        counts.add("a", "on")
        await asyncio.sleep(0.001)

    assert asyncio.get_running_loop().time() - began >= 0.15
    keeping.cancel()
    await transport.close()


@pytest.mark.parametrize("is_away", [False, True])
def test_the_end_of_a_client_tells_the_rest_and_does_not_hang(
    scripted_server: ScriptedServer,
    is_away: bool,  # noqa: FBT001 - a parameter
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({})
    scripted_server.answers["/api/v1/flag-set"] = lambda _: flag_set(flag("new"))
    scripted_server.answers[PATH] = lambda _: problem(503, "away") if is_away else TAKEN
    with Pilothouse(scripted_server.url, "orders", pace=RefreshPolicy("polling")) as client:
        assert client.flags.is_on("new")
        assert not client.flags.is_on("nowhere")

    assert {"new": {"on": 1}} in reported_counts(scripted_server)


def test_the_service_counts_what_is_told(service: ServiceProcess) -> None:
    rig = RealRig(service)
    definition = {key: value for key, value in flag("new").items() if key != "version"}
    rig.define_flag(definition)
    with rig.open() as client:
        for _ in range(5):
            assert client.flags.is_on("new", user_id="ana")

    path = f"/api/v1/feature-flags/new/usage?environment={rig.environment}"

    def is_counted() -> bool:
        answer = service.request("GET", path)
        return answer.status == 200 and answer.json()["evaluations"].get("on") == 5

    wait_until(is_counted, "the service has counted them")
