"""Clients that read, and put down what they were shown: lines of the history, `looked`."""

from collections.abc import Mapping
from http.client import HTTPException
from random import Random
from typing import Any

from tests.faults.history import ANSWER_SECONDS, ENVIRONMENT, History
from tests.servers.service import ServiceProcess

Shown = Mapping[str, Any]


class Reader:
    """Reads one document after the other, each in either of two forms.

    It knows the highest revision that it was told, to go on with on whatever replica.
    """

    def __init__(self, history: History, replicas: list[ServiceProcess], name: str) -> None:
        self._history = history
        self._replicas = replicas
        self._chance = Random(name)
        self.name = name
        self.revision = 0

    def look(
        self,
        replica: ServiceProcess,
        service: str,
        min_revision: int | None = None,
        *,
        settled: bool = False,
    ) -> Shown:
        shown = self._look(replica, service, min_revision)
        self.revision = max(self.revision, shown["revision"])
        self._history.append(
            "looked",
            client=self.name,
            replica=self._replicas.index(replica),
            document=f"layers/{ENVIRONMENT}/{service}",
            min_revision=min_revision,
            settled=settled,
            **shown,
        )
        return shown

    def _look(self, replica: ServiceProcess, service: str, min_revision: int | None) -> Shown:
        since = "" if min_revision is None else f"&min_revision={min_revision}"
        paths = {
            f"/api/configs/{service}?environment={ENVIRONMENT}{since}": _document,
            f"/api/v1/effective?environment={ENVIRONMENT}&service_name={service}{since}": _layers,
        }
        path = self._chance.choice(list(paths))
        try:
            answer = replica.request("GET", path, timeout=ANSWER_SECONDS)
        except (OSError, HTTPException) as error:
            return _nothing(None, type(error).__name__)
        if answer.status != 200:
            return _nothing(answer.status, answer.json()["code"])
        version, data = paths[path](answer.json())
        revision = int(answer.headers["X-Revision"])
        return {**_nothing(200), "version": version, "revision": revision, "data": data}


def _nothing(status: int | None, code: str | None = None) -> Shown:
    return {"status": status, "code": code, "version": None, "revision": 0, "data": None}


def _document(body: Any) -> tuple[int, Any]:
    return body["version"], body["config_data"]


def _layers(body: Any) -> tuple[int, Any]:
    layers = body["layers"]  # without any the document is not known there
    return layers[-1]["version"] if layers else 0, body["data"]
