"""What the contract of a client is tried on: the fake, and the real one with the real service."""

import itertools
from collections.abc import Mapping
from typing import Any, Protocol

from pilothouse import Pilothouse
from pilothouse.testing import FakePilothouse
from tests.servers.service import ServiceProcess

_numbers = itertools.count()


class Rig(Protocol):
    """Opens clients of one service in one environment, and changes what they are told."""

    def open(self, **arguments: Any) -> Pilothouse: ...

    def set(self, key: str, value: Any) -> None: ...

    def unset(self, key: str) -> None: ...

    def define_flag(self, definition: Mapping[str, Any]) -> None: ...

    def define_segment(self, definition: Mapping[str, Any]) -> None: ...

    def remove_flag(self, name: str) -> None: ...


class FakeRig:
    def __init__(self) -> None:
        self._client = FakePilothouse()

    def open(self, **arguments: Any) -> Pilothouse:
        former, self._client = self._client, FakePilothouse(**arguments)
        self._client.replace(former.config.section())
        return self._client

    def set(self, key: str, value: Any) -> None:
        self._client.set(key, value)

    def unset(self, key: str) -> None:
        self._client.unset(key)

    def define_flag(self, definition: Mapping[str, Any]) -> None:
        self._client.define_flag(definition)

    def define_segment(self, definition: Mapping[str, Any]) -> None:
        self._client.define_segment(definition)

    def remove_flag(self, name: str) -> None:
        self._client.remove_flag(name)


class RealRig:
    """Each with an environment of its own."""

    def __init__(self, process: ServiceProcess) -> None:
        self._process = process
        self.environment = f"contract-{next(_numbers)}"
        self._query = f"environment={self.environment}&service_name=orders"

    def open(self, **arguments: Any) -> Pilothouse:
        return Pilothouse(self._process.url, "orders", self.environment, **arguments)

    def set(self, key: str, value: Any) -> None:
        self._ask("PATCH", f"/api/v1/config?{self._query}", {"set": {key: value}})

    def unset(self, key: str) -> None:
        self._ask("PATCH", f"/api/v1/config?{self._query}", {"unset": [key]})

    def define_flag(self, definition: Mapping[str, Any]) -> None:
        self._define("/api/v1/feature-flags", definition)

    def define_segment(self, definition: Mapping[str, Any]) -> None:
        self._define("/api/v1/segments", definition)

    def remove_flag(self, name: str) -> None:
        path = f"/api/v1/feature-flags/{name}?environment={self.environment}"
        self._ask("DELETE", path, None)

    def _define(self, path: str, definition: Mapping[str, Any]) -> None:
        body = {**definition, "environment": self.environment}
        one = f"{path}/{definition['name']}?environment={self.environment}"
        if self._process.request("GET", one).status == 200:
            self._ask("PUT", one, definition)
        else:
            self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Any) -> None:
        answer = self._process.request(method, path, body)
        assert answer.status < 300, answer.body
