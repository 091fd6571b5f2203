"""Whatever is killed or frozen, a receiver gets every change, and in order for each entity."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker_webhooks import find_violations
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.receiver import ACCEPT, Arrival, Receiver, Reply
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.servers]

SECONDS = 90.0  # a lease ends, and a pause of some failures


class Story:
    """Two replicas with one webhook, and the flags that are changed through them."""

    def __init__(self, replicas: list[ServiceProcess], receiver: Receiver) -> None:
        self.replicas = replicas
        self.receiver = receiver
        self.final: Counter[str] = Counter()
        self.secret = self._body("PUT", "/api/v1/webhooks/w", self._webhook())["secret"]

    def _webhook(self) -> dict[str, Any]:
        return {"url": self.receiver.url(), "kinds": ["flag"], "environments": ["story"]}

    def _body(self, method: str, path: str, body: Any) -> Any:
        answer = self.replicas[0].request(method, path, body)
        assert answer.status in {200, 201}, (answer.status, answer.body)
        return answer.json()

    def change(self, count: int, chance: random.Random, through: ServiceProcess) -> None:
        """Change flags one after the other; each answer says the version that was written."""
        for number in range(count):
            name = f"f{chance.randrange(5)}"
            body = {"description": f"{number} {chance.random()}"}
            if name in self.final:
                path = f"/api/v1/feature-flags/{name}?environment=story"
                answer = through.request("PUT", path, body)
            else:
                created = {**body, "name": name, "environment": "story"}
                answer = through.request("POST", "/api/v1/feature-flags", created)
            assert answer.status in {200, 201}, (answer.status, answer.body)
            self.final[name] = answer.json()["version"]

    def pick_deliverer(self) -> tuple[ServiceProcess, ServiceProcess]:
        """Return the replica that delivers, and the other one."""
        one, other = self.replicas

        def counts(replica: ServiceProcess) -> bytes:
            lines = replica.request("GET", "/metrics").body.splitlines()
            return b"".join(each for each in lines if b"webhook_deliveries_total" in each)

        before = counts(one)
        self.wait_for_another()
        self.wait_for_another()
        return (one, other) if counts(one) != before else (other, one)

    def wait_for_another(self) -> None:
        seen = len(self.receiver.arrivals)
        self.receiver.wait_for(lambda arrivals: len(arrivals) > seen, SECONDS)

    def wait_until_all_arrived(self) -> None:
        wanted = sum(self.final.values())

        def is_enough(arrivals: list[Arrival]) -> bool:
            accepted = {
                (each.event()["data"]["name"], each.event()["data"]["version"])
                for each in arrivals
                if 200 <= each.status < 300
            }
            return len(accepted) >= wanted

        self.receiver.wait_for(is_enough, SECONDS)

    def violations(self) -> list[str]:
        return list(find_violations(self.receiver.arrivals, self.final, self.secret))


@pytest.fixture
def story(vault_server: VaultServer, postgres_server: PostgresServer) -> Iterator[Story]:
    database = postgres_server.migrated_database()
    environment = {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
        "DATABASE_URL": database,
    }
    with ExitStack() as stack:
        stack.callback(postgres_server.drop, database)
        receiver = stack.enter_context(Receiver())
        replicas = [stack.enter_context(ServiceProcess(environment)) for _ in range(2)]
        yield Story(replicas, receiver)


def moody(seed: int) -> Any:
    """Return replies of a receiver that is slow, that fails, and that hangs now and then."""
    chance = random.Random(seed)

    def reply(_: Arrival) -> Reply:
        drawn = chance.random()
        if drawn < 0.1:
            return Reply(500)
        if drawn < 0.15:
            return Reply(429, headers={"Retry-After": "1"})
        if drawn < 0.16:
            return Reply(204, seconds=6)  # longer than is waited for
        return Reply(204, seconds=0.05 if drawn < 0.4 else 0.0)

    return reply


@pytest.mark.timeout(3600)
def test_replicas_killed_while_they_deliver_lose_nothing(story: Story, *, is_whole: bool) -> None:
    chance = random.Random(17)
    story.receiver.reply = moody(17)

    for _ in range(30 if is_whole else 3):
        story.change(40, chance, chance.choice(story.replicas))
        killed, other = story.pick_deliverer()
        killed.kill()
        story.change(5, chance, other)
        killed.restart()
    story.receiver.reply = lambda _: ACCEPT

    story.wait_until_all_arrived()
    assert story.violations() == []


def test_both_replicas_killed_and_started_again_continue(story: Story) -> None:
    chance = random.Random(3)
    story.receiver.reply = lambda _: Reply(204, seconds=0.1)
    story.change(40, chance, story.replicas[0])
    story.receiver.wait_for(lambda all_: len(all_) >= 3, SECONDS)

    for replica in story.replicas:
        replica.kill()
    for replica in story.replicas:
        replica.restart()

    story.wait_until_all_arrived()
    assert story.violations() == []


def test_a_frozen_replica_that_continues_overtakes_nothing(story: Story) -> None:
    chance = random.Random(5)
    story.receiver.reply = lambda _: Reply(204, seconds=0.1)
    story.change(60, chance, story.replicas[0])
    one, other = story.pick_deliverer()

    one.freeze()  # with requests under way, until its lease has ended
    story.change(10, chance, other)
    story.wait_until_all_arrived()
    one.thaw()
    story.change(10, chance, one)

    story.wait_until_all_arrived()
    assert story.violations() == []


def test_postgres_frozen_while_messages_are_delivered_loses_nothing(
    story: Story, postgres_server: PostgresServer
) -> None:
    chance = random.Random(7)
    story.receiver.reply = lambda _: Reply(204, seconds=0.05)
    story.change(40, chance, story.replicas[0])
    story.receiver.wait_for(lambda all_: len(all_) >= 3, SECONDS)

    postgres_server.freeze()
    try:
        wait_until(
            lambda: any("webhook_waits" in each.log() for each in story.replicas),
            "deliveries wait for Postgres",
            SECONDS,
        )
    finally:
        postgres_server.thaw()
    wait_until(
        lambda: all(each.request("GET", "/ready").status == 200 for each in story.replicas),
        "the replicas are ready",
    )
    story.change(10, chance, story.replicas[1])

    story.wait_until_all_arrived()
    assert story.violations() == []


def test_a_receiver_that_was_down_gets_all_in_order(story: Story) -> None:
    chance = random.Random(9)
    down = story.receiver
    down.__exit__()  # nothing listens at its port
    story.change(30, chance, story.replicas[0])

    with Receiver(port=down.port) as receiver:
        story.receiver = receiver
        story.wait_until_all_arrived()

        assert story.violations() == []


def test_the_checker_notices_what_is_wrong(story: Story) -> None:
    """The story without a fault, with arrivals that are not as they were."""
    story.change(20, random.Random(1), story.replicas[0])
    story.wait_until_all_arrived()
    arrivals = story.receiver.arrivals
    assert story.violations() == []

    def find(seen: list[Arrival]) -> list[str]:
        return list(find_violations(seen, story.final, story.secret))

    assert find(arrivals[1:])  # lost
    assert find(arrivals[::-1])  # out of order
    headers = {**arrivals[0].headers, "webhook-id": "other"}
    assert find([*arrivals, replace(arrivals[0], headers=headers)])  # another id, unsigned
    assert find([*arrivals, replace(arrivals[0], body=b'{"data":{"name":"f0","version":1}}')])
