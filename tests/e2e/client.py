"""How the end-to-end tests speak to a running service: one layer at a time, in a few words."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlencode

from tests.servers.answer import Answer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

MASK = {"$secret": "masked"}
Headers = Mapping[str, str]


def fresh_name(kind: str = "s") -> str:
    """Invent a name that no other test uses."""
    return f"{kind}-{secrets.token_hex(5)}"


def fresh_secret() -> str:
    """Invent a value that nothing but a leak can show anywhere."""
    return f"hush-{secrets.token_hex(12)}"


def body_of(answer: Answer, status: int = 200) -> Any:
    """Return what an answer says, which has to have this status."""
    assert answer.status == status, (answer.status, answer.body)
    return answer.json()


def query_of(query: Mapping[str, Any]) -> str:
    """Write a query: a list repeats its name, None is left out, booleans are small."""
    plain = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value is not None
    }
    return f"?{urlencode(plain, doseq=True)}" if plain else ""


class Backend(Protocol):
    """What lies below a service, for tests that look behind its back."""

    def stored_bytes(self) -> bytes:
        """Return all that is kept anywhere."""
        ...

    def audit(self, request_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the audit rows that one request wrote."""
        ...


class Service:
    def __init__(
        self, process: ServiceProcess, backend: Backend, settings: Mapping[str, str]
    ) -> None:
        self.process = process
        self.backend = backend
        self.settings = settings

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Headers | None = None,
        timeout: float = 10,
        **query: Any,
    ) -> Answer:
        url = path + query_of(query)
        return self.process.request(method, url, body, headers=headers, timeout=timeout)

    def get(self, path: str, *, headers: Headers | None = None, **query: Any) -> Answer:
        return self.call("GET", path, headers=headers, **query)

    def layer(self) -> "Layer":
        """Name a layer of a service and an environment of its own."""
        return Layer(self, fresh_name("e"), fresh_name())

    def wait_until_ready(self) -> None:
        # Other tests of the same run may have stopped the servers below for a moment.
        wait_until(
            lambda: self.get("/ready").json()["status"] == "ready", "every port of it is up", 60
        )

    def metric(self, name: str) -> float:
        """Return one series as it is printed; 0 before it was first counted."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


@dataclass(frozen=True)
class Layer:
    """One layer of one service, and everything the API can do to it."""

    of: Service
    environment: str
    service: str
    user: str | None = None

    @property
    def names(self) -> dict[str, Any]:
        """The layer as a source is told."""
        return {name: value for name, value in self._query.items() if value is not None}

    @property
    def _query(self) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "service_name": self.service,
            "user": self.user,
        }

    def at(self, **names: str | None) -> "Layer":
        """Return another layer that differs in these names."""
        return replace(self, **names)  # type: ignore[arg-type]

    def create(
        self, key: str, value: Any, *, headers: Headers | None = None, **more: Any
    ) -> Answer:
        body = {"key": key, "value": value, **self.names, **more}
        return self.of.call("POST", "/api/v1/config", body, headers=headers)

    def get(self, key: str, *, headers: Headers | None = None, **query: Any) -> Answer:
        return self.of.get(f"/api/v1/config/{key}", headers=headers, **self._query, **query)

    def put(self, key: str, value: Any, *, headers: Headers | None = None, **more: Any) -> Answer:
        body = {"value": value, **more}
        return self.of.call("PUT", f"/api/v1/config/{key}", body, headers=headers, **self._query)

    def patch(self, *, headers: Headers | None = None, **body: Any) -> Answer:
        return self.of.call("PATCH", "/api/v1/config", body, headers=headers, **self._query)

    def delete(self, key: str, *, headers: Headers | None = None) -> Answer:
        return self.of.call("DELETE", f"/api/v1/config/{key}", headers=headers, **self._query)

    def history(self, key: str, **query: Any) -> Answer:
        return self.of.get(f"/api/v1/config/{key}/history", **self._query, **query)

    def rollback(
        self, key: str, version: int, *, headers: Headers | None = None, **more: Any
    ) -> Answer:
        path, body = f"/api/v1/config/{key}/rollback", {"version": version, **more}
        return self.of.call("POST", path, body, headers=headers, **self._query)

    def keys(self, **query: Any) -> Answer:
        return self.of.get("/api/v1/config", **self._query, **query)

    def effective(self, *, headers: Headers | None = None, **query: Any) -> Answer:
        return self.of.get("/api/v1/effective", headers=headers, **self._query, **query)

    def create_document(self, data: Any, *, headers: Headers | None = None, **more: Any) -> Answer:
        return self._document("POST", "", {"config_data": data, **more}, headers=headers)

    def put_document(self, data: Any, *, headers: Headers | None = None, **more: Any) -> Answer:
        return self._document("PUT", "", {"config_data": data, **more}, headers=headers)

    def document(self, *, headers: Headers | None = None, **query: Any) -> Answer:
        return self._document("GET", "", headers=headers, **query)

    def delete_document(self, *, headers: Headers | None = None) -> Answer:
        return self._document("DELETE", "", headers=headers)

    def document_history(self, **query: Any) -> Answer:
        return self._document("GET", "/history", **query)

    def diff(self, old: int | None = None, new: int | None = None) -> Answer:
        return self._document("GET", "/diff", old_version=old, new_version=new)

    def rollback_document(
        self, version: int, *, headers: Headers | None = None, **more: Any
    ) -> Answer:
        return self._document("POST", "/rollback", {"version": version, **more}, headers=headers)

    def _document(self, method: str, below: str, body: Any = None, **more: Any) -> Answer:
        path = f"/api/configs/{self.service}{below}"
        return self.of.call(method, path, body, environment=self.environment, **more)

    def load(self, text: str | bytes, *, headers: Headers | None = None, **query: Any) -> Answer:
        path = "/api/v1/import" + query_of({**self._query, **query})
        data = text.encode() if isinstance(text, str) else text
        return self.of.process.request("POST", path, headers=headers, data=data)

    def export(self, form: str = "yaml", *, headers: Headers | None = None, **query: Any) -> Answer:
        return self.of.get("/api/v1/export", headers=headers, format=form, **self._query, **query)

    def changes(self, **query: Any) -> list[Any]:
        """Return what the log says of this layer."""
        name = self.service if self.user is None else f"{self.service}/{self.user}"
        answer = self.of.get("/api/v1/changes", environment=self.environment, entity=name, **query)
        found: list[Any] = body_of(answer)["items"]
        return found
