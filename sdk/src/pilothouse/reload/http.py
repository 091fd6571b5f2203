"""One server from which configuration is fetched, behind a circuit breaker."""

import asyncio
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pilothouse.errors import NotFound, PilothouseError, Unavailable
from pilothouse.reload.errors import SourceUnavailable
from pilothouse.transport import Answer, Limits, Token, Transport
from pilothouse_core.breaker import Breaker

_NOT_FOUND = 404
_PAUSE_SECONDS = 30.0


class NothingThere(SourceUnavailable):
    """The server answers that there is nothing at this URL."""


class Server:
    """Requests to one address, with one attempt each: a poll tries again anyway."""

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        timeout: float = 5.0,
        proxy: str | None = None,
        breaker: Breaker | None = None,
        is_document: bool = False,
    ) -> None:
        limits = Limits(timeout=timeout, attempts=1, proxy=proxy)
        self._connect = partial(Transport, url, token, limits, is_document=is_document)
        self.url = self._connect().url
        self.breaker = breaker or Breaker(pause=_PAUSE_SECONDS)
        self.shown = _loggable_url(self.url)
        """The URL without parts that may be secret."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: Transport | None = None

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        longer: float = 0.0,
    ) -> Answer:
        """Return an answer of 2xx or 304.

        Raises NothingThere for 404, and SourceUnavailable for every other failure; while the
        breaker is open it does so without a request.
        """
        if not self.breaker.try_call():
            raise SourceUnavailable(
                f"{self.shown} is not requested for now, after repeated failures"
            )
        began = monotonic()
        try:
            answer = await self.open_transport().request(
                method, path, params=params, headers=headers, body=body, longer=longer
            )
        except Unavailable as error:
            self.breaker.record_failure(began)
            if self.breaker.is_open:
                self.breaker.record_trial()  # a call may last longer than a pause
            raise SourceUnavailable(self._error_message(error)) from error
        except PilothouseError as error:
            # The server answers: a breaker would not help.
            self.breaker.record_success()
            if isinstance(error, NotFound) or error.status == _NOT_FOUND:
                raise NothingThere(f"{self.shown}{path}: not found (404)") from error
            raise SourceUnavailable(self._error_message(error)) from error
        self.breaker.record_success()
        return answer

    def _error_message(self, error: PilothouseError) -> str:
        message = str(error).replace(self.url, self.shown)
        return message if message.startswith(self.shown) else f"{self.shown}: {message}"

    def open_transport(self) -> Transport:
        """Return the connections of this event loop: a second `asyncio.run` needs new ones."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._loop is not loop:
            self._transport, self._loop = self._connect(), loop
        return self._transport

    async def close(self) -> None:
        if self._transport is not None and self._loop is asyncio.get_running_loop():
            await self._transport.close()
        self._transport = None


def _loggable_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
