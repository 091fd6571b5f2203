"""Asks Prometheus whether a query is above its limit; the operator names the server."""

import json
from collections.abc import Sequence
from time import time
from typing import Any, Protocol

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from pilothouse_core.releases.plan import Prometheus

_SECONDS = 2.0
_MOST_BYTES = 1024 * 1024
_POINTS = 10  # of the time for which a query has to be above its limit
_log = structlog.get_logger(__name__)


class Queries(Protocol):
    async def is_above(self, signal: Prometheus) -> bool | None:
        """Tell whether a series of the query was above the limit all the time; None: no data.

        Never raises, and answers within a few seconds.
        """
        ...

    async def close(self) -> None: ...


class NoQueries:
    """No server is named: a query has no data."""

    async def is_above(self, signal: Prometheus) -> bool | None:  # noqa: ARG002 - nothing is asked
        return None

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class PrometheusQueries:
    def __init__(self, url: str, *, seconds: float = _SECONDS) -> None:
        self._url = url.rstrip("/")
        self._seconds = seconds
        self._session: ClientSession | None = None

    async def is_above(self, signal: Prometheus) -> bool | None:
        try:
            series = await self._ask(signal)
        except (ClientError, TimeoutError, ValueError, OSError) as error:
            _log.warning("prometheus_query_failed", reason=type(error).__name__)
            return None
        if not series:
            return None
        return any(all(value > signal.above for value in values) for values in series)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, signal: Prometheus) -> Sequence[Sequence[float]]:
        """Return the values of each series over the time; raises ValueError for another answer."""
        path, parameters = "query", {"query": signal.query}
        if signal.seconds:
            now = time()
            path = "query_range"
            parameters |= {
                "start": f"{now - signal.seconds:.3f}",
                "end": f"{now:.3f}",
                "step": f"{max(signal.seconds / _POINTS, 1):.3f}",
            }
        if self._session is None:
            self._session = ClientSession(
                cookie_jar=DummyCookieJar(), headers={"User-Agent": "pilothouse-release"}
            )
        async with self._session.get(
            f"{self._url}/api/v1/{path}",
            params=parameters,
            timeout=ClientTimeout(total=self._seconds),
            allow_redirects=False,
        ) as response:
            body = await response.content.read(_MOST_BYTES + 1)
            while len(body) <= _MOST_BYTES and (more := await response.content.read(_MOST_BYTES)):
                body += more
        if len(body) > _MOST_BYTES or response.status != 200:  # noqa: PLR2004 - HTTP
            raise ValueError("no usable answer")
        return _series(json.loads(body))


def _series(answer: Any) -> Sequence[Sequence[float]]:
    try:
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [[float(data["result"][1])]]
        if data["resultType"] == "vector":
            return [[float(each["value"][1])] for each in data["result"]]
        return [[float(value) for _, value in each["values"]] for each in data["result"]]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError("no usable answer") from error
