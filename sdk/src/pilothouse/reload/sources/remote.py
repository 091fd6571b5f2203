"""A document that is served over HTTP, by a primary and by backups."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from pilothouse.reload.breaker import Breaker
from pilothouse.reload.documents import read_document
from pilothouse.reload.errors import BadConfig, SourceUnavailable
from pilothouse.reload.http import Server
from pilothouse.reload.sources.polling import polled
from pilothouse.reload.validation import Flaw, Rules
from pilothouse.transport import Answer

_SUFFIXES = {
    "application/json": ".json",
    "application/yaml": ".yaml",
    "application/x-yaml": ".yaml",
    "text/yaml": ".yaml",
}


class RemoteConfigSource:
    """GET of a JSON or YAML mapping, by its Content-Type; an ETag saves what has not changed.

    `backups` are further URLs of the same document, asked in this order while the ones before do
    not deliver. Each has a breaker: after `failures` in a row a server is left alone for `pause`
    seconds, so that one that hangs costs its `timeout` only now and then. `poll_seconds` is how
    often `watch` looks; None for never.
    """

    is_remote = True

    kind = "remote"

    def __init__(  # noqa: PLR0913 - each is a choice of its own
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        priority: int = 300,
        name: str | None = None,
        *,
        backups: Sequence[str] = (),
        poll_seconds: float | None = 30.0,
        failures: int = 3,
        pause: float = 30.0,
        rules: Rules | None = None,
    ) -> None:
        self.servers = [
            Server(one, timeout=timeout, breaker=Breaker(failures=failures, pause=pause))
            for one in (url, *backups)
        ]
        self.priority = priority
        self.name = name or f"remote:{self.servers[0].shown}"
        self.rules = rules or Rules()
        self._headers = dict(headers or {})
        self._poll_seconds = poll_seconds
        self._seen: tuple[str, str, bytes] | None = None  # server, ETag, body

    async def load_config(self) -> Mapping[str, Any]:
        """Return what the first server that delivers serves.

        Raises SourceUnavailable, which names every server, where none does.
        """
        self._seen = None
        reasons: list[str] = []
        for server in self.servers:
            try:
                answer = await server.request("GET", headers=self._headers)
                tree = _read(answer)
            except (SourceUnavailable, BadConfig) as error:
                reasons.append(_told(server, error))
            else:
                self._seen = server.url, answer.etag, answer.body
                return tree
        raise SourceUnavailable("; ".join(reasons))

    async def is_modified(self) -> bool:
        """Tell whether a load would bring something else, or come from another server.

        Raises SourceUnavailable where no server answers.
        """
        reasons: list[str] = []
        for server in self.servers:
            url, etag, body = self._seen or ("", "", b"")
            tag = {"If-None-Match": etag} if etag and url == server.url else {}
            try:
                answer = await server.request("GET", headers={**self._headers, **tag})
                if not answer.is_unchanged:
                    _read(answer)
            except (SourceUnavailable, BadConfig) as error:
                reasons.append(_told(server, error))
            else:
                return not answer.is_unchanged and (url, body) != (server.url, answer.body)
        raise SourceUnavailable("; ".join(reasons))

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return what is wrong with `config`, and credentials that are written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when what is served has changed, is away, or is back."""
        if self._poll_seconds is not None:
            async for _ in polled(self.is_modified, self._poll_seconds):
                yield

    async def close(self) -> None:
        for server in self.servers:
            await server.close()


def _told(server: Server, error: Exception) -> str:
    said = str(error)
    return said if said.startswith(server.shown) else f"{server.shown}: {said}"


def _read(answer: Answer) -> dict[str, Any]:
    kind = answer.headers.get("content-type", "nothing").partition(";")[0].strip().lower()
    suffix = ".json" if kind.endswith("+json") else _SUFFIXES.get(kind)
    if suffix is None:
        raise BadConfig(f"answers with {kind} instead of JSON or YAML")
    return read_document(answer.body, suffix)
