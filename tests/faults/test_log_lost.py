"""A replica that lost the log, with or without noticing, shows what is new within a second."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Self

import pytest

from tests.e2e.events import listening
from tests.faults.delays import NEVER, delays
from tests.faults.history import Client, History
from tests.faults.stage import Stage
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ServiceProcess

CURRENT_SECONDS = 1.0  # what is promised
WAIT_SECONDS = 10
RETRY_SECONDS = 0.05
BREAKS = (OSError, HTTPException, ValueError, IndexError)  # of a connection, wherever it is cut
SHOP = "/api/configs/shop?environment=default"
STREAM = "?environment=default&service_name=shop"


# --- what was shown late is found ---


def late(*deeds: tuple[str, float, int]) -> Mapping[str, object]:
    lines: list[Mapping[str, object]] = [{"did": "watched", "who": "r1"}]
    lines += [{"did": did, "who": "r1", "at": at, "version": n} for did, at, n in deeds]
    return delays(map(json.dumps, lines))


def test_a_delay_counts_from_the_acknowledgement() -> None:
    deeds = ("shown", 0.5, 1), ("acknowledged", 1.0, 1), ("acknowledged", 2.0, 2), ("shown", 2.5, 3)

    assert late(*deeds) == {"r1": [0.0, 0.5]}


def test_a_delay_counts_from_the_recovery_in_between() -> None:
    deeds = ("acknowledged", 1.0, 1), ("recovered", 4.0, 0), ("shown", 4.5, 1), ("recovered", 9, 0)

    assert late(*deeds) == {"r1": [0.5]}


def test_what_is_never_shown_is_infinitely_late() -> None:
    deeds = ("shown", 0.5, 1), ("acknowledged", 1.0, 2), ("recovered", 2.0, 0)

    assert late(*deeds) == {"r1": [NEVER]}


# --- real replicas ---


class Audience:
    """On each replica one client that waits for news and one that streams them."""

    def __init__(self, stage: Stage, replicas: list[ServiceProcess], folder: Path) -> None:
        self._history = History(folder / "shown.jsonl")
        self._client: Client = stage.client()
        self._replicas = replicas
        self._over = Event()
        ways = {"reads": self._reads, "streams": self._streams}
        self._threads = [
            Thread(target=self._watch, args=(f"{name} on replica {number}", way, replica))
            for number, replica in enumerate(replicas)
            for name, way in ways.items()
        ]

    def __enter__(self) -> Self:
        self.writes(self._replicas[0])
        for thread in self._threads:
            thread.start()
        self.catches_up()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(TimeoutError):  # that it took too long is found in what was shown
            self.catches_up()
        self._over.set()
        self._client.write(self._replicas[0], "shop")  # so that nobody waits any longer
        for thread in self._threads:
            thread.join()

    def _watch(
        self, who: str, way: Callable[[ServiceProcess], Iterator[int]], replica: ServiceProcess
    ) -> None:
        self._put("watched", who=who)
        while not self._over.is_set():
            with suppress(*BREAKS):
                for version in way(replica):
                    self._put("shown", who=who, version=version)
            # Without a pause six watchers would keep a Postgres that starts busy with refusals.
            self._over.wait(RETRY_SECONDS)

    def _reads(self, replica: ServiceProcess) -> Iterator[int]:
        """Tell each version as soon as a waiting read does."""
        tag = '"0"'
        while not self._over.is_set():
            headers = {"If-None-Match": tag, "Prefer": f"wait={WAIT_SECONDS}"}
            answer = replica.request("GET", SHOP, headers=headers)
            if answer.status == 200:
                tag = answer.headers["ETag"]
                yield answer.json()["version"]

    def _streams(self, replica: ServiceProcess) -> Iterator[int]:
        with listening(replica.url, STREAM, last_event_id=0, within=WAIT_SECONDS) as events:
            for event in events:
                if event.name == "config.changed":
                    yield event.data["version"]
                if self._over.is_set():
                    return

    def _put(self, did: str, **facts: object) -> None:
        self._history.append(did, at=monotonic(), **facts)

    def _is_current(self) -> bool:
        late = self.delays()
        return len(late) == len(self._threads) and NEVER not in chain(*late.values())

    def writes(self, replica: ServiceProcess) -> None:
        """Write as soon as the replica takes it."""
        wait_until(lambda: self._is_written(replica), "a write is acknowledged")

    def _is_written(self, replica: ServiceProcess) -> bool:
        answer = self._client.write(replica, "shop")
        if answer.is_yes:
            self._put("acknowledged", version=answer.version)
        return answer.is_yes

    def catches_up(self) -> None:
        wait_until(self._is_current, "everybody has seen the last", WAIT_SECONDS)

    def recovers(self) -> None:
        self._put("recovered")

    def delays(self) -> Mapping[str, Sequence[float]]:
        return delays(self._history.lines())


@contextmanager
def watch_stage(stage: Stage, replicas: list[ServiceProcess], folder: Path) -> Iterator[Audience]:
    """Have everybody watch; afterwards nobody was shown anything late."""
    with Audience(stage, replicas, folder) as audience:
        yield audience
    late = audience.delays()
    for who, seconds in late.items():
        print(who, sorted(round(one, 3) for one in seconds)[-5:])  # noqa: T201
    assert len(late) == 2 * len(replicas)
    assert max(chain(*late.values())) < CURRENT_SECONDS + SLACK_SECONDS
    assert stage.violations() == []


def readiness(replica: ServiceProcess) -> str:
    return str(replica.request("GET", "/ready").json()["status"])


def is_told(replicas: list[ServiceProcess], status: str) -> Callable[[], bool]:
    return lambda: {readiness(replica) for replica in replicas} == {status}


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("outage", ["short", "long"])
def test_every_replica_is_current_soon_after_postgres_was_killed(
    stage: Stage, postgres_server: PostgresServer, tmp_path: Path, outage: str, *, is_whole: bool
) -> None:
    replicas = stage.start_many({}, {}, {})

    with watch_stage(stage, replicas, tmp_path) as audience:
        for number in range(10 if is_whole else 2):
            audience.writes(replicas[number % 3])
            postgres_server.kill()
            if outage == "long":
                wait_until(is_told(replicas, "degraded"), "everybody has noticed")
            postgres_server.restart()
            audience.recovers()
            audience.writes(replicas[number % 3])
            wait_until(is_told(replicas, "ready"), "all is well again")


LOST: Mapping[str, Callable[[bytes], bool]] = {
    "what listens": lambda sent: b"LISTEN" in sent,
    "everything": lambda _: True,
}


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("lost", LOST)
def test_a_replica_that_silently_lost_its_connections_is_current_soon(
    stage: Stage, tmp_path: Path, lost: str, *, is_whole: bool
) -> None:
    proxy, way = stage.way_to_postgres()
    replicas = stage.start_many({}, {}, way)

    with watch_stage(stage, replicas, tmp_path) as audience:
        for number in range(20 if is_whole else 4):
            audience.writes(replicas[2])  # over connections that are then lost
            proxy.lose(when=LOST[lost])
            audience.writes(replicas[number % 2])
            audience.writes(replicas[number % 2])
            audience.catches_up()


@pytest.mark.faults
@pytest.mark.slow
def test_what_a_replica_tried_while_the_log_was_unavailable_does_not_hold_it_up(
    stage: Stage, tmp_path: Path
) -> None:
    """Every connection that it has opened meanwhile leads nowhere."""
    proxy, way = stage.way_to_postgres()
    replicas = stage.start_many({}, {}, way)

    with watch_stage(stage, replicas, tmp_path) as audience:
        proxy.hold()
        wait_until(lambda: stale_seconds(replicas[2]) >= 2, "the replica has tried for a while")
        proxy.lose()
        proxy.heal()
        audience.recovers()
        audience.writes(replicas[0])


def stale_seconds(replica: ServiceProcess) -> int:
    return int(replica.request("GET", SHOP).headers["X-Stale"] or 0)
