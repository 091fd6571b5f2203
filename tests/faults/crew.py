"""Clients under whom replicas are killed."""

import random
import threading
from collections.abc import Sequence
from typing import Self

from tests.faults.stage import Stage
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess


class Crew:
    """Clients who write until they are stopped; some ask again until they get an answer."""

    def __init__(
        self,
        stage: Stage,
        replicas: Sequence[ServiceProcess],
        seed: int,
        *,
        members: int = 6,
        documents: int = 3,
    ) -> None:
        self._stage = stage
        self._replicas = replicas
        self._documents = documents
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._is_up = threading.Event()
        self._up = tuple(replicas)
        self._threads = [
            threading.Thread(target=self._write, args=(random.Random(f"{seed}.{member}"),))
            for member in range(members)
        ]

    def __enter__(self) -> Self:
        self._is_up.set()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._is_up.set()
        for thread in self._threads:
            thread.join()

    def lives_through_a_kill(self, after: int) -> None:
        """Kill one replica when that many more writes are answered, and bring it back."""
        enough = self._stage.history.answers + after
        wait_until(lambda: self._stage.history.answers >= enough, "some are answered", within=60)
        killed = self._chance.choice(self._replicas)
        self._up = tuple(replica for replica in self._replicas if replica is not killed)
        if not self._up:
            self._is_up.clear()
        killed.kill()
        killed.restart()
        self._up = tuple(self._replicas)
        self._is_up.set()

    def _write(self, chance: random.Random) -> None:
        client = self._stage.client()
        while not self._over.is_set():
            keyed = chance.random() < 0.5
            write = client.new(f"random-{chance.randrange(self._documents)}", keyed=keyed)
            while self._stage.history.ask(write, self._replica(chance)).status is None:
                self._is_up.wait(60)
                if not keyed or self._over.is_set():
                    break

    def _replica(self, chance: random.Random) -> ServiceProcess:
        return chance.choice(self._up or self._replicas)
