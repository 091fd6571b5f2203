"""Documents of the service as they are stored in Vault, for tests that edit them there."""

import json
from typing import Any

from tests.e2e.client import Layer
from tests.e2e.conftest import RealBackend


class Stored:
    """A layer's secret in Vault, as an operator with a token gets at it."""

    def __init__(self, layer: Layer) -> None:
        backend = layer.of.backend
        assert isinstance(backend, RealBackend)
        self._vault = backend.vault
        self._path = f"{backend.prefix}/layers/{layer.environment}/{layer.service}"

    def _ask(self, method: str, kind: str, body: Any = None) -> Any:
        status, answer = self._vault.api(method, f"secret/{kind}/{self._path}", body)
        assert status < 300, (status, answer)
        return answer

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask("GET", "data")["data"]["data"]["document"])
        return found

    def write(self, fields: dict[str, str]) -> int:
        version = self._ask("GET", "metadata")["data"]["current_version"]
        body = {"options": {"cas": version}, "data": fields}
        written: int = self._ask("POST", "data", body)["data"]["version"]
        return written

    def edit(self, data: dict[str, Any]) -> int:
        """Change the data and leave all else as it was, as a person would."""
        return self.write({"document": json.dumps({**self.document(), "data": data})})

    def delete(self) -> None:
        self._ask("DELETE", "data")

    def destroy(self, *versions: int) -> None:
        self._ask("PUT", "destroy", {"versions": versions})

    def delete_versions(self, *versions: int) -> None:
        self._ask("POST", "delete", {"versions": versions})

    def configure(self, settings: dict[str, Any]) -> None:
        self._ask("POST", "metadata", settings)

    def keep_only(self, versions: int) -> None:
        self.configure({"max_versions": versions})

    def create(self, fields: dict[str, str]) -> None:
        self._ask("POST", "data", {"data": fields})

    def forget(self) -> None:
        self._ask("DELETE", "metadata")
