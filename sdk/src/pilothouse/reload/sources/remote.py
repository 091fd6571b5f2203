"""A document over HTTP, from a primary URL and its backups."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pilothouse.reload.documents import SUFFIXES, read_document
from pilothouse.reload.errors import BadConfig, SourceUnavailable
from pilothouse.reload.http import Server
from pilothouse.reload.sources.polling import poll_changes
from pilothouse.reload.validation import Flaw, Rules
from pilothouse.transport import Answer
from pilothouse_core.breaker import Breaker

_SUFFIXES = {
    "application/json": ".json",
    "application/yaml": ".yaml",
    "application/x-yaml": ".yaml",
    "application/vnd.yaml": ".yaml",
    "text/json": ".json",
    "text/x-json": ".json",
    "text/x-yaml": ".yaml",
    "text/yaml": ".yaml",
}
_UNSPECIFIC = frozenset({"text/plain", "application/octet-stream", "binary/octet-stream", ""})
"""Types that do not describe the content: the suffix of the URL decides."""


class RemoteConfigSource:
    """A JSON or YAML mapping, read with GET; with an ETag, unchanged content is not sent again.

    The Content-Type decides between JSON and YAML, or the suffix of the URL's path if the type is
    text/plain, application/octet-stream or absent. Redirects are followed, but never from https to
    http, and to another origin without `headers`. `proxy` is as that of `Limits`.

    `backups` are further URLs of the same document, tried in order if those before them fail. Each
    has a circuit breaker: after `failures` in a row it is not called for `pause` seconds, so that a
    server that hangs rarely costs its `timeout`. `watch` polls every `poll_seconds`; None is never.
    """

    is_remote = True

    kind = "remote"

    def __init__(  # noqa: PLR0913 - independent options
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
        proxy: str | None = None,
    ) -> None:
        self.servers = [
            Server(
                one,
                timeout=timeout,
                proxy=proxy,
                breaker=Breaker(failures=failures, pause=pause),
                is_document=True,
            )
            for one in (url, *backups)
        ]
        self.priority = priority
        self.name = name or f"remote:{self.servers[0].shown}"
        self.rules = rules or Rules()
        self._headers = dict(headers or {})
        self._poll_seconds = poll_seconds
        self._seen: tuple[str, str, bytes] | None = None  # server, ETag, body

    async def load_config(self) -> Mapping[str, Any]:
        """Return the document of the first server that has it.

        Raises SourceUnavailable, which names every server, if none has.
        """
        self._seen = None
        reasons: list[str] = []
        for server in self.servers:
            try:
                answer = await server.request("GET", headers=self._headers)
                tree = _read(answer, server.url)
            except (SourceUnavailable, BadConfig) as error:
                reasons.append(_error_message(server, error))
            else:
                self._seen = server.url, answer.etag, answer.body
                return tree
        raise SourceUnavailable("; ".join(reasons))

    async def is_modified(self) -> bool:
        """Tell whether a load would return something else, or use another server.

        Raises SourceUnavailable if no server answers.
        """
        reasons: list[str] = []
        for server in self.servers:
            url, etag, body = self._seen or ("", "", b"")
            tag = {"If-None-Match": etag} if etag and url == server.url else {}
            try:
                answer = await server.request("GET", headers={**self._headers, **tag})
                if not answer.is_unchanged:
                    _read(answer, server.url)
            except (SourceUnavailable, BadConfig) as error:
                reasons.append(_error_message(server, error))
            else:
                return not answer.is_unchanged and (url, body) != (server.url, answer.body)
        raise SourceUnavailable("; ".join(reasons))

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return the flaws of `config`, and the credentials written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when the document changes, becomes unavailable, or is available again."""
        if self._poll_seconds is not None:
            async for _ in poll_changes(self.is_modified, self._poll_seconds):
                yield

    async def close(self) -> None:
        for server in self.servers:
            await server.close()


def _error_message(server: Server, error: Exception) -> str:
    message = str(error)
    return message if message.startswith(server.shown) else f"{server.shown}: {message}"


def _read(answer: Answer, url: str) -> dict[str, Any]:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    suffix = _suffix_of_type(kind)
    if suffix is None and kind in _UNSPECIFIC:
        suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    if suffix not in SUFFIXES:
        raise BadConfig(
            f"answers with {kind or 'no Content-Type'} instead of JSON or YAML, and its URL does"
            f" not end in {', '.join(SUFFIXES)}"
        )
    return read_document(answer.body, suffix)


def _suffix_of_type(kind: str) -> str | None:
    if kind.endswith("+json"):
        return ".json"
    return ".yaml" if kind.endswith("+yaml") else _SUFFIXES.get(kind)
