"""Clients who write flags on several replicas, and what Postgres and the replicas hold then."""

import asyncio
import json
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from itertools import count
from typing import Any, Literal, Self

import asyncpg

from tests.faults.checker_flags import FlagTruth, check_flags
from tests.faults.stage import Stage
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess

FLAGS = "/api/v1/feature-flags"
ENVIRONMENT = "staging"
_HERE = f"environment={ENVIRONMENT}"
_VERSIONS = """
SELECT revision, kind, name, version, action, comment, definition FROM flag_versions
WHERE environment = $1 ORDER BY revision
"""
_CHANGES = """
SELECT revision, kind, name, version, action, comment FROM changes
WHERE environment = $1 AND kind IN ('flag', 'segment') ORDER BY revision
"""
_NEWEST = "SELECT name, version FROM flag_items WHERE environment = $1 AND action <> 'deleted'"
_ANSWER_SECONDS = 15  # a client's patience: far beyond every bound that is promised
_numbers = count(1)  # of attempts


@dataclass(frozen=True, slots=True)
class FlagWrite:
    """One write; its value is its comment and nobody else's. Asked again it is still the same."""

    value: str
    name: str
    action: Literal["create", "edit", "delete"]
    keyed: bool = False

    def send(self, replica: ServiceProcess) -> Answer:
        at = f"{FLAGS}/{self.name}?{_HERE}"
        body = {"description": self.value, "comment": self.value}
        match self.action:
            case "create":
                new = {**body, "name": self.name, "environment": ENVIRONMENT}
                key = {"Idempotency-Key": self.value} if self.keyed else {}
                return replica.request("POST", FLAGS, new, headers=key, timeout=_ANSWER_SECONDS)
            case "edit":
                return replica.request("PATCH", at, body, timeout=_ANSWER_SECONDS)
            case "delete":
                path = f"{at}&comment={self.value}"
                return replica.request("DELETE", path, timeout=_ANSWER_SECONDS)


class FlagClient:
    """Writes and reads, and puts all of it down; asks for nothing older than it has seen."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._history = stage.history
        self._stage = stage
        self.name = name
        self._values = count(1)
        self._seen = 0

    def new(self, name: str, action: Literal["create", "edit", "delete"]) -> FlagWrite:
        value = f"{self.name}-{next(self._values)}"
        return FlagWrite(value, name, action, keyed=action == "create")

    def ask(self, write: FlagWrite, replica: ServiceProcess) -> int | None:
        """Send a write once, and return the status of its answer; None: there was none."""
        attempt = next(_numbers)
        self._history.append("asked", attempt=attempt, **asdict(write))
        answer = _facts(lambda: write.send(replica))
        self._saw(answer)
        self._history.append("answered", attempt=attempt, **answer)
        status: int | None = answer["status"]
        return status

    def look(self, name: str, replica: ServiceProcess) -> Mapping[str, Any]:
        wanted = self._seen
        path = f"{FLAGS}/{name}?{_HERE}&min_revision={wanted}"
        answer = _facts(lambda: replica.request("GET", path, timeout=_ANSWER_SECONDS))
        where = f"replica {self._stage.services.index(replica)}"
        self._history.append(
            "looked", client=self.name, replica=where, name=name, min_revision=wanted, **answer
        )
        self._saw(answer)
        return answer

    def _saw(self, answer: Mapping[str, Any]) -> None:
        if answer["status"] is not None and answer["status"] < 500:
            self._seen = max(self._seen, answer["revision"] or 0)


def _facts(send: Any) -> dict[str, Any]:
    try:
        answer = send()
        body = json.loads(answer.body or b"{}")
    except (OSError, HTTPException):
        return dict.fromkeys(("status", "code", "version", "revision", "description"))
    revision = answer.headers["X-Revision"]
    facts = {name: body.get(name) for name in ("code", "version", "description")}
    return {**facts, "status": answer.status, "revision": int(revision) if revision else None}


class FlagCrew:
    """Clients who write, read and ask again until they are stopped."""

    def __init__(
        self, stage: Stage, replicas: Sequence[ServiceProcess], seed: int, members: int = 6
    ) -> None:
        self._stage = stage
        self._replicas = replicas
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(f"m{member}", f"{seed}.{member}"))
            for member in range(members)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def does(self, more: int) -> None:
        """Wait until that many more writes are answered."""
        enough = self._stage.history.answers + more
        wait_until(lambda: self._stage.history.answers >= enough, "some are answered", within=60)

    def _work(self, name: str, seed: str) -> None:
        chance = random.Random(seed)
        client = FlagClient(self._stage, name)
        while not self._over.is_set():
            flag = f"flag-{chance.randrange(4)}"
            write = client.new(flag, chance.choice(["create", "edit", "edit", "delete"]))
            for _ in range(10):
                status = client.ask(write, chance.choice(self._replicas))
                if status not in {None, 503} or not write.keyed:
                    break
                self._over.wait(0.1)
            client.look(flag, chance.choice(self._replicas))


def truth(stage: Stage) -> FlagTruth:
    """Tell what is there once every replica reflects the newest revision; raises if one lags."""
    versions, changes, newest = asyncio.run(_fetch_tables(stage.real.database))
    last = max((row["revision"] for row in versions), default=0)
    return FlagTruth(
        versions=[
            {**row, "description": json.loads(row["definition"] or "{}").get("description")}
            for row in versions
        ],
        changes=changes,
        newest={row["name"]: row["version"] for row in newest},
        shown={
            f"replica {number}": _flag_set(replica, last)
            for number, replica in enumerate(stage.services)
        },
    )


def _flag_set(replica: ServiceProcess, revision: int) -> Mapping[str, int]:
    path = f"/api/v1/flag-set?{_HERE}&min_revision={revision}"

    def reflects() -> bool:
        return replica.request("GET", path).status == 200

    wait_until(reflects, f"the replica reflects revision {revision}", 20)
    flags = replica.request("GET", path).json()["flags"]
    return {flag["name"]: flag["version"] for flag in flags}


async def _fetch_tables(url: str) -> Sequence[Sequence[Mapping[str, Any]]]:
    connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS)
    try:
        questions = (_VERSIONS, _CHANGES, _NEWEST)
        return [
            list(map(dict, await connection.fetch(question, ENVIRONMENT))) for question in questions
        ]
    finally:
        await connection.close()


def flaws(stage: Stage) -> list[str]:
    """Check all that clients did to flags against what is true when all is quiet."""
    return check_flags(stage.history.lines(), truth(stage))
