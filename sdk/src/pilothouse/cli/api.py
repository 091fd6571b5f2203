"""Requests of commands: one at a time, failures as exit codes, lists over all their pages."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote

from pilothouse.cli.exit_codes import Failure, of_error, usage
from pilothouse.errors import PilothouseError, Unavailable
from pilothouse.events import EventParser
from pilothouse.transport import Answer, Limits, Transport, full_jitter

_PAGE = 1000
_LIMITS = Limits(timeout=10.0, connections=2)
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_T = TypeVar("_T")


def segment(name: str) -> str:
    """Return a name as one segment of a path; raises Failure (usage) for an impossible name."""
    if name in {"", ".", ".."}:
        raise usage(f"{name!r} cannot be a name")
    return quote(name, safe="")


class Api:
    """The service at one URL. Every method raises Failure and nothing else.

    Query parameters are passed by name; those that are None are not sent, lists are repeated.
    """

    def __init__(self, url: str, token: str | None, proxy: str | None = None) -> None:
        try:
            self._transport = Transport(url, token, replace(_LIMITS, proxy=proxy))
        except ValueError as error:
            raise usage(str(error)) from None
        self._loop = asyncio.new_event_loop()
        self._moving: AsyncGenerator[None, None] | None = None
        self._pending: asyncio.Task[Any] | None = None

    def interrupt(self) -> None:
        """Cancel the current request, if there is one, as Ctrl-C does; for signal handlers."""
        if self._pending is not None:
            self._loop.call_soon_threadsafe(self._pending.cancel)

    def close(self) -> None:
        self._cancel_leftovers()
        if self._moving is not None:
            self._run(self._moving.aclose())
        self._run(self._transport.close())
        self._loop.close()

    def get(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        wait: float | None = None,
        **query: Any,
    ) -> Answer:
        """Read; with `wait` the service may delay its answer by that many seconds; no retries."""
        sent = dict(headers or {})
        if wait is not None:
            sent["Prefer"] = f"wait={wait:g}"
        attempts = None if wait is None else 1
        params = _params(query)
        getting = self._transport.get(path, params, sent, attempts=attempts, longer=wait or 0.0)
        return self._run(getting)

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        sending = self._transport.request(
            method, path, params=_params(query), headers=headers, body=json, content=content
        )
        return self._run(sending)

    def items(self, path: str, **query: Any) -> Iterator[Any]:
        """Yield the items of a list, page after page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **{"limit": _PAGE, **query}, cursor=cursor).object()
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def page(self, path: str, limit: int | None = None, **query: Any) -> dict[str, Any]:
        """Return up to `limit` items of a list, or all, as one page of it."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            count = _PAGE if limit is None else min(limit - len(items), _PAGE)
            page = self.get(path, **query, limit=count, cursor=cursor).object()
            items += page["items"]
            cursor = page["next"]
            if cursor is None or len(items) == limit:
                return {**page, "items": items}

    def news(self, away: Callable[[Failure], None]) -> Iterator[None]:
        """Yield when the change log may have changed, and once at the start; never ends by itself.

        Calls `away` when the stream breaks, and opens it again.
        """
        self._moving = self._moves(away)
        while True:
            self._run(self._moving.__anext__())
            yield

    async def _moves(self, away: Callable[[Failure], None]) -> AsyncGenerator[None, None]:
        failures = 0
        while True:
            try:
                async with self._transport.stream("/api/v1/stream") as chunks:
                    failures = 0
                    yield  # changes before the stream was open are not in it
                    parser = EventParser()
                    async for chunk in chunks:
                        if any(event.kind != "drain" for event in parser.feed(chunk)):
                            yield
            except Unavailable as error:
                if not failures:
                    away(of_error(error))
            failures += 1
            await asyncio.sleep(full_jitter(failures, _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))

    def _cancel_leftovers(self) -> None:
        """End what Ctrl-C left behind when it came just before its handler was there."""
        leftovers = asyncio.all_tasks(self._loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self._loop.run_until_complete(asyncio.wait(leftovers))

    def _run(self, pending: Awaitable[_T]) -> _T:
        task = self._loop.create_task(_await(pending))
        self._pending = task
        try:
            with _interrupting(self._loop, task):
                return self._loop.run_until_complete(task)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        except PilothouseError as error:
            raise of_error(error) from None
        finally:
            self._pending = None


async def _await(pending: Awaitable[_T]) -> _T:
    return await pending


@contextmanager
def _interrupting(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]") -> Iterator[None]:
    """Let Ctrl-C cancel the task: raised at any line, it would leave connections open."""
    try:
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _params(query: Mapping[str, Any]) -> dict[str, str | list[str]] | None:
    stated = {name: _text(value) for name, value in query.items() if value is not None}
    return stated or None


def _text(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
