"""What clients did and what they were told: JSON lines, in the order in which it happened."""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

ENVIRONMENT = "default"
ANSWER_SECONDS = 15  # a client's patience: far beyond every bound that is promised


@dataclass(frozen=True, slots=True)
class Asked:
    """One write. Its value is written by nothing else; asked again it is still the same write."""

    value: str
    service: str
    key: str
    expected: int | None = None  # If-Match
    idempotency: str | None = None

    @property
    def document(self) -> str:
        return f"layers/{ENVIRONMENT}/{self.service}"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, as far as it says what became of the write; without a status there was none."""

    status: int | None
    version: int | None = None
    revision: int | None = None
    intent: str | None = None
    code: str | None = None
    retry_after: str | None = None
    seconds: float = 0.0

    @property
    def is_yes(self) -> bool:
        return self.status is not None and self.status < 300


class History:
    """One file, appended to before and after each request, by as many clients as there are."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._numbers = count(1)
        self.answers = 0

    def lines(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []

    def append(self, did: str, **facts: Any) -> None:
        line = json.dumps({"did": did, **facts})
        with self._lock, self._file.open("a") as file:
            file.write(line + "\n")
            self.answers += facts.get("status") is not None

    def ask(self, write: Asked, replica: ServiceProcess) -> Told:
        """Send the write to a replica and put down what comes back."""
        with self._lock:
            number = next(self._numbers)
        self.append("asked", attempt=number, document=write.document, **asdict(write))
        began = monotonic()
        try:
            answer = _answer_facts(_send(write, replica), monotonic() - began)
        except (OSError, HTTPException):
            answer = Told(None, seconds=monotonic() - began)
        self.append("answered", attempt=number, **asdict(answer))
        return answer


class Client:
    """Makes up writes; no two of one history have the same value."""

    def __init__(self, history: History, name: str) -> None:
        self._history = history
        self.name = name
        self._numbers = count(1)

    def new(self, service: str, *, expected: int | None = None, keyed: bool = False) -> Asked:
        """Invent a write of one key: a new key when `keyed` by an Idempotency-Key."""
        value = f"{self.name}-{next(self._numbers)}"
        key = value if keyed else self.name
        return Asked(value, service, key, expected, idempotency=value if keyed else None)

    def write(
        self,
        replica: ServiceProcess,
        service: str,
        *,
        expected: int | None = None,
        keyed: bool = False,
    ) -> Told:
        return self._history.ask(self.new(service, expected=expected, keyed=keyed), replica)


def _send(write: Asked, replica: ServiceProcess) -> Answer:
    if write.idempotency is not None:
        return replica.request(
            "POST",
            "/api/v1/config",
            {
                "key": write.key,
                "value": write.value,
                "environment": ENVIRONMENT,
                "service_name": write.service,
                "comment": write.value,
            },
            headers={"Idempotency-Key": write.idempotency},
            timeout=ANSWER_SECONDS,
        )
    where = f"environment={ENVIRONMENT}&service_name={write.service}"
    return replica.request(
        "PATCH",
        f"/api/v1/config?{where}",
        {"set": {write.key: write.value}, "comment": write.value},
        headers={} if write.expected is None else {"If-Match": f'"{write.expected}"'},
        timeout=ANSWER_SECONDS,
    )


def _answer_facts(answer: Answer, seconds: float) -> Told:
    body: Mapping[str, Any] = answer.json()
    revision = answer.headers["X-Revision"]
    return Told(
        status=answer.status,
        version=body.get("version"),
        revision=int(revision) if revision else None,
        intent=body.get("intent"),
        code=body.get("code"),
        retry_after=answer.headers["Retry-After"],
        seconds=round(seconds, 3),
    )
