"""Clients of the stream, who go on with any replica and put down all that they see."""

import threading
from collections.abc import Callable, Sequence
from http.client import HTTPException
from random import Random
from typing import Any, Self

from tests.e2e.events import Event, listening
from tests.faults.history import ANSWER_SECONDS, ENVIRONMENT, History
from tests.faults.stage import Stage
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

QUIET_SECONDS = 2  # after which a client takes its connection for broken
BREAKS = (OSError, HTTPException, ValueError, IndexError)  # of a connection, wherever it is cut
RETRY_SECONDS = 0.5  # at most, before a client tries another replica
READ_OF_TOLD = 0.25  # of what it is told of, a client reads as much at once


class Listener:
    """Tells whichever replica it asks the last id it saw; after a reset it reads everything."""

    def __init__(
        self,
        history: History,
        name: str,
        *,
        last: int | None = None,
        reads: float = READ_OF_TOLD,
    ) -> None:
        self._history = history
        self._chance = Random(name)
        self._reads = reads
        self._is_behind = True  # it has to read what it was not told
        self.name = name
        self.last = last

    def listen(self, replica: ServiceProcess, enough: Callable[[], bool]) -> None:
        """Hear a replica until it is enough; raises one of BREAKS when the connection breaks."""
        with listening(replica.url, last_event_id=self.last, within=QUIET_SECONDS) as events:
            if events.status != 200:
                raise ConnectionRefusedError(events.status)
            self._put("connected", url=replica.url, after=self.last)
            for event in events:
                self._hear(event, replica)
                if enough():
                    return
        raise ConnectionResetError("the stream ended")

    def hear_up_to(self, replica: ServiceProcess, revision: int | None) -> None:
        self.listen(replica, lambda: self.last is not None and self.last >= (revision or 0))

    def _hear(self, event: Event, replica: ServiceProcess) -> None:
        self.last = self.last if event.id is None else event.id
        match event.name:
            case "config.changed":
                data = event.data
                self._put("told", id=event.id, name=data["name"], version=data["version"])
                if self._chance.random() < self._reads:
                    self._read_document(replica, data["name"])
            case "reset":
                self._put("reset", id=event.id)
                self._is_behind = True
            case None:
                self._put("opened", id=event.id)
        if self._is_behind:
            self._read_all(replica)
            self._is_behind = False

    def _read_document(self, replica: ServiceProcess, name: str, least: int = 0) -> None:
        found = self._ask(replica, f"/api/configs/{name}", least)
        self._put("read", name=name, version=found["version"] if found else 0)

    def _read_all(self, replica: ServiceProcess) -> None:
        """Read all that there is, not older than the stream is by now."""
        least = self.last or 0
        page = self._ask(replica, "/api/configs", least)
        for listed in page["items"]:
            self._read_document(replica, listed["service_name"], least)

    def _ask(self, replica: ServiceProcess, path: str, least: int) -> Any:
        where = f"{path}?environment={ENVIRONMENT}&min_revision={least}"
        answer = replica.request("GET", where, timeout=ANSWER_SECONDS)
        if answer.status not in {200, 404}:
            raise ConnectionRefusedError(answer.status)  # another replica may be further
        return answer.json() if answer.status == 200 else None

    def _put(self, did: str, **facts: Any) -> None:
        self._history.append(did, client=self.name, **facts)


class Audience:
    """Listeners who hear one replica after the other, until they are sent home."""

    def __init__(
        self, stage: Stage, replicas: Sequence[ServiceProcess], seed: int, size: int = 6
    ) -> None:
        self._replicas = replicas
        self._over = threading.Event()
        self._listeners = [Listener(stage.streams, f"l{number}") for number in range(size)]
        self._threads = [
            threading.Thread(target=self._hear, args=(listener, Random(f"{seed}.{listener.name}")))
            for listener in self._listeners
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def hears(self, revision: int) -> None:
        """Wait until everybody is as far as that."""
        wait_until(
            lambda: all((listener.last or 0) >= revision for listener in self._listeners),
            f"everybody has heard of revision {revision}",
            within=60,
        )

    def _hear(self, listener: Listener, chance: Random) -> None:
        while not self._over.is_set():
            try:
                listener.listen(chance.choice(self._replicas), self._over.is_set)
            except BREAKS:
                self._over.wait(chance.random() * RETRY_SECONDS)
