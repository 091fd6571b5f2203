"""A secret of Vault's KV engine, version 2, as a source."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pilothouse.reload.errors import BadConfig
from pilothouse.reload.http import Server
from pilothouse.reload.sources.polling import poll_changes
from pilothouse.reload.validation import Flaw, Rules
from pilothouse.transport import Token
from pilothouse_core.strict_json import BadJson, loads


class VaultConfigSource:
    """The data of one secret. `token` may be a function, which is called before every request.

    `proxy` is as that of `Limits`.
    """

    is_remote = True

    kind = "vault"

    def __init__(  # noqa: PLR0913 - independent options
        self,
        address: str,
        path: str,
        token: Token,
        *,
        mount: str = "secret",
        namespace: str | None = None,
        timeout: float = 5.0,
        priority: int = 400,
        name: str | None = None,
        poll_seconds: float | None = 60.0,
        rules: Rules | None = None,
        proxy: str | None = None,
    ) -> None:
        if any(part in {"", ".", ".."} for part in f"{mount}/{path}".split("/")):
            # Vault, or a proxy in front of it, would read it as another path.
            raise ValueError("mount and path are names with single slashes between them")
        self.priority = priority
        self.name = name or f"vault:{mount}/{path}"
        self.rules = rules or Rules()
        self.server = Server(address, timeout=timeout, proxy=proxy)
        self._token = token
        self._namespace = namespace
        self._place = f"/v1/{mount}/data/{path}"
        self._poll_seconds = poll_seconds
        self._version: int | None = None

    async def load_config(self) -> Mapping[str, Any]:
        """Return the newest version. Raises SourceUnavailable, also if there is none."""
        self._version = None
        data, version = await self._read()
        self._version = version
        return data

    async def save_config(self, config: Mapping[str, Any]) -> None:
        """Write a new version; raises SourceUnavailable if there is a newer one than was loaded."""
        body: dict[str, Any] = {"data": dict(config)}
        if self._version is not None:
            body["options"] = {"cas": self._version}
        await self.server.request("POST", self._place, headers=self._headers(), body=body)

    async def is_modified(self) -> bool:
        """Tell whether there is another version. Raises SourceUnavailable."""
        _, version = await self._read()
        return version != self._version

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return the flaws of `config`, without credentials, which belong in Vault."""
        return self.rules.flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when there is another version, or Vault becomes unavailable or available again."""
        if self._poll_seconds is not None:
            async for _ in poll_changes(self.is_modified, self._poll_seconds):
                yield

    async def close(self) -> None:
        await self.server.close()

    def _headers(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        return headers

    async def _read(self) -> tuple[dict[str, Any], int]:
        answer = await self.server.request("GET", self._place, headers=self._headers())
        try:
            body = loads(answer.body)
        except BadJson as error:
            raise BadConfig(f"an answer that is not JSON: {error.reason}") from None
        secret = body.get("data") if isinstance(body, dict) else None
        if isinstance(secret, dict):
            data, metadata = secret.get("data"), secret.get("metadata")
            if isinstance(data, dict) and isinstance(metadata, dict):
                return data, int(metadata.get("version", 0))
        raise BadConfig("an answer without data and metadata: this is not a KV engine of version 2")
