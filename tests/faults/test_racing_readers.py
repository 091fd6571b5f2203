"""Nobody is shown the past, whatever is written, emptied and edited while readers race writers."""

import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from threading import Event

import pytest

from tests.faults.checker import Truth
from tests.faults.freshness import stale
from tests.faults.history import ENVIRONMENT
from tests.faults.readers import Reader
from tests.faults.stage import Stage
from tests.servers.deadlines import PATIENT
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SERVICES = [f"s{number}" for number in range(50)]
WRITERS = 5
STAYING = 2  # readers on each replica that stay there
MOVING = 4
ROUNDS = 10  # in each, Redis is emptied and documents are edited in Vault
EDITS = 2
FORGETFUL = {"CACHE_MEMORY_BYTES": "0"}  # every read goes to Redis, or else to Vault


@dataclass
class Race:
    """Three replicas, of which one remembers what it has read, and everybody who asks them."""

    stage: Stage
    replicas: list[ServiceProcess]
    redis: RedisServer
    prefix: str
    changes: int
    _written: list[str] = field(default_factory=list)
    _end: Event = field(default_factory=Event)

    def reader(self, name: str | None = None) -> Reader:
        return Reader(self.stage.history, self.replicas, name or self.stage.client().name)

    def write(self, service: str, replica: ServiceProcess, then: ServiceProcess) -> None:
        """Write on one replica, and read the own write on another."""
        client = self.stage.client()
        answer = client.write(replica, service)
        assert answer.is_yes, answer
        self._written.append(service)
        self.reader(client.name).look(then, service, answer.revision)

    def writes(self, seed: str) -> None:
        chance = Random(seed)
        for _ in range(self.changes // WRITERS):
            replica, then = chance.sample(self.replicas, 2)
            self.write(chance.choice(SERVICES), replica, then)

    def stays(self, replica: ServiceProcess) -> None:
        """Read on one replica; what was seen once needs no proof there."""
        reader = self.reader()
        chance = Random(reader.name)
        while not self._end.is_set():
            reader.look(replica, chance.choice(SERVICES))

    def moves(self) -> None:
        """Read anywhere, from the highest revision on that was told anywhere."""
        reader = self.reader()
        chance = Random(reader.name)
        while not self._end.is_set():
            reader.look(chance.choice(self.replicas), chance.choice(SERVICES), reader.revision)

    def disturb(self, number: int, writing: list[Future[None]]) -> None:
        """Empty Redis and edit some documents when this part of the changes is made."""
        enough = self.changes * number // ROUNDS
        wait_until(
            lambda: len(self._written) >= enough or all(writer.done() for writer in writing),
            f"{enough} changes are made",
            120,
        )
        if keys := self.redis.command("KEYS", f"{self.prefix}:*"):
            self.redis.command("DEL", *keys)
        for edit in range(EDITS):
            service = SERVICES[(number * EDITS + edit) % len(SERVICES)]
            self.edit(f"layers/{ENVIRONMENT}/{service}", f"edit-{number}-{edit}")

    def edit(self, document: str, value: str) -> None:
        """Write on top of what is newest in Vault itself, however many writers come between."""
        wait_until(lambda: self._is_edit_taken(document, value), f"{document} is edited")

    def _is_edit_taken(self, document: str, value: str) -> bool:
        vault, path = self.stage.real.vault, f"secret/data/{self.stage.real.prefix}/{document}"
        found = vault.api("GET", path)[1]["data"]
        version, body = found["metadata"]["version"], json.loads(found["data"]["document"])
        body["data"]["edited"] = value
        new_version = {"options": {"cas": version}, "data": {"document": json.dumps(body)}}
        if vault.api("POST", path, new_version)[0] != 200:
            return False
        self.stage.history.append("edited", document=document, version=version + 1, value=value)
        return True

    def run(self) -> None:
        with ThreadPoolExecutor(WRITERS + MOVING + STAYING * len(self.replicas)) as threads:
            writing = [threads.submit(self.writes, f"writer {n}") for n in range(WRITERS)]
            reading = [threads.submit(self.stays, one) for one in self.replicas * STAYING]
            reading += [threads.submit(self.moves) for _ in range(MOVING)]
            try:
                for number in range(ROUNDS):
                    self.disturb(number, writing)
                for writer in writing:
                    writer.result()
            finally:
                self._end.set()
        for reader in reading:
            reader.result()

    def rest(self) -> None:
        """Read everything on each replica when there is nothing new any more."""
        self.stage.settle()
        last = self.stage.client().write(self.replicas[0], SERVICES[0])
        for replica in self.replicas:
            reader = self.reader()
            assert reader.look(replica, SERVICES[0], last.revision)["status"] == 200
            for service in SERVICES:
                reader.look(replica, service, settled=True)


@pytest.fixture
def race(open_stage: Callable[[str], Stage], redis_server: RedisServer, *, is_whole: bool) -> Race:
    stage, prefix = open_stage("real"), redis_server.fresh_prefix()
    own = {"REDIS_PREFIX": prefix, "VAULT_SCAN_INTERVAL": "1"}
    shared = {**PATIENT, **own, **redis_server.settings}  # nothing is unavailable here
    replicas = stage.start_many(shared, {**shared, **FORGETFUL}, {**shared, **FORGETFUL})
    race = Race(stage, replicas, redis_server, prefix, 1000 if is_whole else 150)
    for service in SERVICES:
        race.write(service, *replicas[:2])
    return race


@pytest.mark.timeout(1200)  # a thousand changes in the whole form
def test_nobody_is_shown_the_past(
    race: Race, record_property: Callable[[str, object], None]
) -> None:
    race.run()
    race.rest()

    lines = race.stage.history.lines()
    truth = race.stage.truth(race.replicas[0], lines)
    figures = {**count_deeds(lines), "edits logged": edits_logged(truth)}
    record_property("figures", figures)
    print(figures)  # noqa: T201
    assert race.stage.violations_now() == []
    assert stale(lines, truth) == []
    assert figures["edits logged"] == ROUNDS * EDITS
    for forgetful in race.replicas[1:]:
        assert reads(forgetful, "redis") > 0
        assert reads(forgetful, "store") > 0


def count_deeds(lines: list[str]) -> Counter[str]:
    deeds = [json.loads(line) for line in lines]
    looks = [deed for deed in deeds if deed["did"] == "looked"]
    return Counter(deed["did"] for deed in deeds) + Counter(
        f"looked: {look['code']}" for look in looks if look["code"]
    )


def edits_logged(truth: Truth) -> int:
    return sum(change["action"] == "external" for change in truth.changes)


def reads(replica: ServiceProcess, source: str) -> float:
    metrics = replica.request("GET", "/metrics").body.decode()
    found = re.search(
        rf'^pilothouse_config_reads_total{{source="{source}"}} (\S+)$', metrics, re.MULTILINE
    )
    return float(found[1]) if found else 0
