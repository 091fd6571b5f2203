"""Layers of one configuration under a rule between them, those who write them, and what is true."""

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from app.changes.log.port import RESERVED_SECONDS
from tests.faults.checker_schemas import (
    UNCHANGED,
    Layer,
    LayerAnswer,
    LayerTruth,
    StoredLayer,
    check_layers,
)
from tests.faults.launcher import Failpoint
from tests.faults.stage import SETTLED_SECONDS, Stage
from tests.servers.answer import Answer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

SHARED = "_shared"
SERVICE = "shop"
BOTTOM = Layer("default", SHARED)
RULE = "config.base <= config.low && config.low <= config.high"
PRESENT = {"low": 50, "high": 50}
_ANSWER_SECONDS = 30  # a client's patience: far beyond every bound that is promised
_CHANGES = "SELECT revision, kind, environment, name, version, deleted FROM changes"
_DEFINITIONS = "SELECT revision, definition FROM definition_versions WHERE kind = 'schema'"
_numbers = count(1)

# As in the service: a writer sends as long as others wait for it.
HELD = {"FIRST_LOOK": str(RESERVED_SECONDS)}


@dataclass(frozen=True, slots=True)
class LayerWrite:
    """One key set in one layer; `is_keyed`: a new key, under an Idempotency-Key."""

    layer: Layer
    key: str
    value: int
    comment: str
    is_keyed: bool = False

    def send(self, replica: ServiceProcess) -> Answer:
        names = {"environment": self.layer.environment, "service_name": self.layer.service}
        if self.is_keyed:
            body = {"key": self.key, "value": self.value, "comment": self.comment, **names}
            key = {"Idempotency-Key": self.comment}
            return replica.request(
                "POST", "/api/v1/config", body, headers=key, timeout=_ANSWER_SECONDS
            )
        where = "&".join(f"{name}={value}" for name, value in names.items())
        change = {"set": {self.key: self.value}, "comment": self.comment}
        return replica.request("PATCH", f"/api/v1/config?{where}", change, timeout=_ANSWER_SECONDS)


class Ground:
    """One environment of a stage, whose service is judged by a schema of its own."""

    def __init__(self, stage: Stage, environment: str) -> None:
        self.stage = stage
        self.environment = environment
        self.low = Layer(environment, SHARED)
        self.high = Layer(environment, SERVICE)
        self.answers: list[LayerAnswer] = []
        self._lock = threading.Lock()

    def write(self, layer: Layer, key: str, value: int, *, is_keyed: bool = False) -> LayerWrite:
        comment = f"{self.environment}-{next(_numbers)}"
        return LayerWrite(layer, key, value, comment, is_keyed)

    def ask(self, write: LayerWrite, replica: ServiceProcess) -> LayerAnswer:
        """Send a write once, and put down what is answered."""
        began = monotonic()
        answer = None
        with suppress(OSError, HTTPException):
            answer = write.send(replica)
        response = _layer_answer(write, answer, monotonic() - began)
        with self._lock:
            self.answers.append(response)
        return response

    def set_low(self, value: int, replica: ServiceProcess) -> LayerAnswer:
        return self.ask(self.write(self.low, "low", value), replica)

    def set_high(self, value: int, replica: ServiceProcess) -> LayerAnswer:
        return self.ask(self.write(self.high, "high", value), replica)

    def lay_out(self, replica: ServiceProcess, *, is_judged: bool = True) -> None:
        """Write both layers, and the schema over them, as soon as the replica can."""
        wait_until(lambda: replica.request("GET", "/ready").status == 200, "it is ready")
        assert self.set_low(PRESENT["low"], replica).status == 200
        assert self.set_high(PRESENT["high"], replica).status == 200
        if is_judged:
            assert self.put_schema(replica).status == 201

    def put_schema(self, replica: ServiceProcess, mode: str = "enforce") -> Answer:
        """Raises OSError or HTTPException where there is no answer."""
        body = {
            "mode": mode,
            "applies_to": [{"environments": [self.environment], "services": [SERVICE]}],
            "schema": {
                "properties": {"base": {"type": "integer", "default": 0}},
                "x-rules": [{"id": "order", "rule": RULE}],
            },
        }
        return replica.request("PUT", self.schema, body, timeout=_ANSWER_SECONDS)

    def delete_schema(self, replica: ServiceProcess) -> Answer:
        return replica.request("DELETE", self.schema, timeout=_ANSWER_SECONDS)

    @property
    def schema(self) -> str:
        return f"/api/v1/schemas/{self.environment}"

    def effective_data(self, replica: ServiceProcess) -> Mapping[str, Any]:
        """Return the effective configuration."""
        where = f"environment={self.environment}&service_name={SERVICE}"
        data: Mapping[str, Any] = replica.request("GET", f"/api/v1/effective?{where}").json()[
            "data"
        ]
        return data

    def settle(self) -> None:
        """Wait until no intent is open and the log has what is stored."""
        wait_until(self._is_settled, "every write is decided", SETTLED_SECONDS)

    def _is_settled(self) -> bool:
        real = self.stage.real
        if real.open_intents():
            return False
        rows = real.fetch("SELECT doc, logged_version FROM documents WHERE kind = 'config'")
        return all(real.text(doc, version + 1) is None for doc, version in rows)

    def flaws(self) -> list[str]:
        """Settle, then rebuild every revision of the log and check it."""
        self.settle()
        return check_layers(self.truth(), self.answers)

    def truth(self) -> LayerTruth:
        real = self.stage.real
        names = ("revision", "kind", "environment", "name", "version", "deleted")
        mine = f"environment IN ('{self.environment}', 'default')"
        found = real.fetch(f"{_CHANGES} WHERE {mine} ORDER BY revision")
        changes: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in found]
        stored = {
            (row["environment"], row["name"], row["version"]): self._stored_layer(row)
            for row in changes
            if row["kind"] == "config"
        }
        return LayerTruth(
            [row for row in changes if row["kind"] != "schema" or row["name"] == self.environment],
            stored,
            {row[0]: _judged_pairs(row[1]) for row in real.fetch(_DEFINITIONS)},
        )

    def _stored_layer(self, row: Mapping[str, Any]) -> StoredLayer | None:
        path = f"layers/{row['environment']}/{row['name']}"
        text = self.stage.real.text(path, row["version"])
        if text is None:
            return None
        body = json.loads(text)
        return StoredLayer(body["data"], body["change"]["comment"])


class Failures:
    """Failpoints of one replica alone."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def environment(self) -> dict[str, str]:
        return {"FAILPOINT": f"@{self._file}"}

    def arm(self, *failpoints: Failpoint) -> None:
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(" ".join(map(str, failpoints)))
        unfinished.replace(self._file)


def wait_until_reached(replica: ServiceProcess, failpoint: Failpoint, times: int = 1) -> None:
    reached = f"reached {failpoint}"
    wait_until(lambda: replica.log().count(reached) >= times, f"the replica has {reached}")


def longest(answers: Sequence[LayerAnswer]) -> float:
    return max((each.seconds for each in answers), default=0.0)


def _judged_pairs(text: str) -> frozenset[Layer]:
    members: dict[str, Any] = json.loads(text) if text else {"mode": "warn"}
    if members["mode"] != "enforce":
        return frozenset()
    return frozenset(
        Layer(environment, service)
        for each in members["applies_to"]
        for environment in each["environments"]
        for service in each["services"]
    )


def _layer_answer(write: LayerWrite, answer: Answer | None, seconds: float) -> LayerAnswer:
    if answer is None:
        return LayerAnswer(write.comment, write.layer, None, seconds=seconds)
    body = json.loads(answer.body or b"{}")
    revision = answer.headers["X-Revision"]
    code = UNCHANGED if body.get("changed") is False else body.get("code")
    return LayerAnswer(
        write.comment,
        write.layer,
        answer.status,
        int(revision) if revision else None,
        code,
        answer.headers["Retry-After"],
        seconds,
    )
