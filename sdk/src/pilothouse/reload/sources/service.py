"""The effective configuration of a service, from Pilothouse."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pilothouse.config_state import without_secrets
from pilothouse.effective import PATH, ConfigTarget
from pilothouse.reload.errors import BadConfig
from pilothouse.reload.http import NothingThere, Server
from pilothouse.reload.validation import Flaw, Rules
from pilothouse.sync import Follower, RefreshPolicy, Resource
from pilothouse.transport import Answer, Token
from pilothouse_core.strict_json import BadJson, loads

_LONGEST_POLL_SECONDS = 30.0
_POLL_FACTOR = 6.0


class PilothouseConfigSource:
    """All layers of one service in one environment, merged by Pilothouse.

    Without `reveal` secrets are left out, so that another source may have them. With it they are
    read in plain, for which the token needs the right; every such load is audited. `watch` follows
    the service as a client does: by its event stream, else by waiting reads, else by polling. After
    a failure it tries again within `retry_seconds`. `proxy` is as that of `Limits`.
    `instance` is the id of this instance, by which it reads its arm of a release.
    """

    is_remote = True

    kind = "pilothouse"

    def __init__(  # noqa: PLR0913 - independent options
        self,
        url: str,
        service: str,
        environment: str = "default",
        token: Token = None,
        *,
        user: str | None = None,
        instance: str | None = None,
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
        self._target = ConfigTarget(environment, service, user, instance=instance)
        self._reveal = reveal
        self._policy = RefreshPolicy(
            poll_interval=min(_LONGEST_POLL_SECONDS, _POLL_FACTOR * retry_seconds),
            backoff=retry_seconds,
            longest_backoff=retry_seconds,
        )
        self._tag = ""  # of the answer that was loaded last
        self._revision = 0  # that a load has to reach, because `watch` has seen it
        self._resource: Resource | None = None  # that `watch` follows
        self._is_unavailable = False

    async def load_config(self) -> Mapping[str, Any]:
        """Return the effective configuration. Raises SourceUnavailable and BadConfig."""
        params = self._target.params
        if self._revision:
            params["min_revision"] = str(self._revision)
        masked = await self._get(params)
        self._tag = masked.etag
        if self._resource is not None:
            self._resource.etag = masked.etag
        if not self._reveal:
            return without_secrets(_data(masked), keeps_sections=True)[0]
        # A revealed answer has no tag. If a change came in between, the tag of the masked answer is
        # older than the content, and the next read of `watch` reports the change.
        return _data(await self._get({**params, "reveal": "true"}))

    async def save_config(self, config: Mapping[str, Any]) -> None:
        """Replace the document of this service in this environment, one of the layers.

        Raises SourceUnavailable.
        """
        path = f"/api/configs/{self._target.service}"
        body = {"config_data": dict(config)}
        params = {"environment": self._target.environment}
        try:
            await self.server.request("PUT", path, params=params, body=body)
        except NothingThere:
            await self.server.request("POST", path, params=params, body=body)

    async def is_modified(self) -> bool:
        """Tell whether the effective configuration differs. Raises SourceUnavailable."""
        headers = {"If-None-Match": self._tag} if self._tag else {}
        answer = await self.server.request("GET", PATH, params=self._target.params, headers=headers)
        return not answer.is_unchanged

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return the flaws of `config`, and the credentials written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when the service reports a change, is unavailable, or is available again."""
        due = asyncio.Event()

        async def accept(answer: Answer) -> None:
            revision = answer.object().get("revision")
            self._revision = revision if isinstance(revision, int) else 0
            if answer.etag != self._tag or not answer.etag:
                due.set()

        resource = Resource(
            self.name,
            PATH,
            self._target.params,
            accept,
            kinds=frozenset({"config"} | ({"release"} if self._target.instance else set())),
            concerns=self._target.concerns,
            noticed=lambda: self._note_availability(resource, due),
        )
        resource.etag = self._tag
        self._resource = resource
        transport = self.server.open_transport()
        follower = Follower(transport, self._target.selection, self._policy)
        follower.attach(resource)
        try:
            while True:
                await due.wait()
                due.clear()
                yield
                if resource.etag != self._tag:  # the load has failed
                    pause = self._policy.after_failures(1)
                    asyncio.get_running_loop().call_later(pause, due.set)
        finally:
            self._resource = None
            await follower.close()

    def _note_availability(self, resource: Resource, due: asyncio.Event) -> None:
        was_unavailable = self._is_unavailable
        self._is_unavailable = resource.last_error is not None
        if self._is_unavailable:
            self._revision = 0  # the service may have been set back
        else:
            self.server.breaker.record_success()
        if was_unavailable or self._is_unavailable:
            due.set()

    async def close(self) -> None:
        await self.server.close()

    async def _get(self, params: Mapping[str, str]) -> Answer:
        return await self.server.request("GET", PATH, params=params)


def _data(answer: Answer) -> dict[str, Any]:
    try:
        body = loads(answer.body)
    except BadJson as error:
        raise BadConfig(f"an answer that is not JSON: {error.reason}") from None
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise BadConfig("an answer without the member data: this is not the service")
    return data
