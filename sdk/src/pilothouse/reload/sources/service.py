"""The effective configuration of a service, from Pilothouse itself."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from time import monotonic
from typing import Any

from pilothouse.reload.errors import BadConfig, ReloadError
from pilothouse.reload.http import NothingThere, Server
from pilothouse.reload.validation import Flaw, Rules
from pilothouse.transport import Answer, Token
from pilothouse_core.strict_json import BadJson, loads
from pilothouse_core.trees import Tree, is_secret

_WAIT_SECONDS = 30
_SOONEST_SECONDS = 0.5


class PilothouseConfigSource:
    """All layers of one service in one environment, merged by Pilothouse.

    Without `reveal` secrets are left out, so that another source may hold them; with it they are
    there in plain, which the token must be allowed to see, and which is audited at every load.
    `watch` waits for changes at the service, and polls only after failures. `proxy` is as that of
    `Limits`.
    """

    is_remote = True

    kind = "pilothouse"

    def __init__(  # noqa: PLR0913 - each is a choice of its own
        self,
        url: str,
        service: str,
        environment: str = "default",
        token: Token = None,
        *,
        user: str | None = None,
        reveal: bool = False,
        timeout: float = 5.0,
        priority: int = 300,
        name: str | None = None,
        retry_seconds: float = 5.0,
        rules: Rules | None = None,
        proxy: str | None = None,
    ) -> None:
        self.priority = priority
        self.name = name or f"pilothouse:{environment}/{service}"
        self.rules = rules or Rules()
        self.server = Server(url, token=token, timeout=timeout, proxy=proxy)
        self._service, self._environment = service, environment
        self._reveal = reveal
        self._retry_seconds = retry_seconds
        self._params = {"environment": environment, "service_name": service}
        if user is not None:
            self._params["user"] = user
        self._tag = ""

    async def load_config(self) -> Mapping[str, Any]:
        """Return the effective configuration. Raises SourceUnavailable and BadConfig."""
        # A revealed answer has no tag. The one from before it: what changes in between shows later.
        masked = await self._get(self._params)
        self._tag = masked.etag
        if not self._reveal:
            return _without_secrets(_data(masked))
        return _data(await self._get({**self._params, "reveal": "true"}))

    async def save_config(self, config: Mapping[str, Any]) -> None:
        """Replace the document of this service in this environment, one of the layers.

        Raises SourceUnavailable.
        """
        path = f"/api/configs/{self._service}"
        body = {"config_data": dict(config)}
        params = {"environment": self._environment}
        try:
            await self.server.request("PUT", path, params=params, body=body)
        except NothingThere:
            await self.server.request("POST", path, params=params, body=body)

    async def is_modified(self) -> bool:
        """Tell whether the effective configuration differs. Raises SourceUnavailable."""
        return await self._is_modified(wait=0)

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return what is wrong with `config`, and credentials that are written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield as soon as the service says that something changed."""
        was_away = False
        while True:
            asked = monotonic()
            try:
                is_due, is_away = await self._is_modified(wait=_WAIT_SECONDS), False
            except ReloadError:
                is_due = is_away = True
            if is_due or was_away:
                yield
            was_away = is_away
            if is_away or (monotonic() - asked < _SOONEST_SECONDS and not (is_due and self._tag)):
                # Something in between does not let it wait: then it is polled.
                await asyncio.sleep(self._retry_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def close(self) -> None:
        await self.server.close()

    async def _is_modified(self, *, wait: int) -> bool:
        headers = {"If-None-Match": self._tag} if self._tag else {}
        if wait:
            headers["Prefer"] = f"wait={wait}"
        answer = await self.server.request(
            "GET", "/api/v1/effective", params=self._params, headers=headers, longer=wait
        )
        return not answer.is_unchanged

    async def _get(self, params: Mapping[str, str]) -> Answer:
        return await self.server.request("GET", "/api/v1/effective", params=params)


def _data(answer: Answer) -> dict[str, Any]:
    try:
        body = loads(answer.body)
    except BadJson as error:
        raise BadConfig(f"an answer that is not JSON: {error.reason}") from None
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise BadConfig("an answer without the member data: this is not the service")
    return data


def _without_secrets(tree: Mapping[str, Any]) -> Tree:
    return {name: _plain(value) for name, value in tree.items() if not is_secret(value)}


def _plain(value: Any) -> Any:
    """Return a value without its secrets; an item of a list is None then, and keeps its place."""
    if isinstance(value, list):
        return [None if is_secret(item) else _plain(item) for item in value]
    return _without_secrets(value) if isinstance(value, dict) else value
