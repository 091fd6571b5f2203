"""The stream of change events: opened, read, and opened again after it was lost."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from pilothouse.errors import Unavailable
from pilothouse.events import Event, EventParser
from pilothouse.timeouts import wait_for_event
from pilothouse.transport import Transport, full_jitter

_PATH = "/api/v1/stream"
_LASTING = 5.0  # seconds after which a stream was not a failure
_log = logging.getLogger("pilothouse")


class StreamHandler(Protocol):
    """Is called with what the stream brings, on the event loop."""

    def on_stream_open(self, revision: int) -> None:
        """Changes up to `revision` are not in the stream."""

    def on_change(self, change: Mapping[str, Any] | None, revision: int) -> None:
        """`change` is the data of an event; None if everything may have changed."""

    def on_quiet(self) -> None:
        """The stream is alive, and all its events have been handled."""

    def on_stream_loss(self) -> None:
        """From now on no change is reported."""


class EventStream:
    """Listens on the event loop that runs when `listen` is called.

    `selection` are the parameters of the stream. After a failure it waits for up to
    `longest_backoff` seconds, with full jitter from `backoff`.
    """

    def __init__(
        self,
        transport: Transport,
        selection: Mapping[str, str],
        handler: StreamHandler,
        *,
        backoff: float,
        longest_backoff: float,
    ) -> None:
        self._transport = transport
        self._selection = selection
        self._handler = handler
        self._backoff = backoff
        self._longest_backoff = longest_backoff
        self._kinds: frozenset[str] = frozenset()
        self._decided = asyncio.Event()  # whether there is a stream
        self.task: asyncio.Task[None] | None = None
        self.is_open = False

    def listen(self, kinds: frozenset[str]) -> None:
        """Listen to changes of these kinds as well; opens a new stream if they are more."""
        if kinds <= self._kinds:
            return
        self._kinds |= kinds
        if self.task is not None:
            self.task.cancel()
        self.task = asyncio.create_task(self._listen())

    async def wait_until_decided(self, seconds: float) -> None:
        """Return when it is known whether there is a stream, or after `seconds`."""
        await wait_for_event(self._decided, seconds)

    async def _listen(self) -> None:
        failures = 0
        params = {**self._selection, "kinds": ",".join(sorted(self._kinds))}
        while True:
            began = time.monotonic()
            parser = EventParser()
            try:
                await self._handle_events(params, parser)
                error: Exception | None = None
            except Exception as broken:  # noqa: BLE001 - whatever it is, it is tried again
                error = broken
            if error is None or time.monotonic() - began > _LASTING:
                failures = 0
            failures += 1
            if failures > 1 or not self._decided.is_set():
                self._on_loss(error)
            base = max(self._backoff, (parser.retry or 0) / 1000)
            pause = full_jitter(failures, base, max(base, self._longest_backoff))
            await asyncio.sleep(pause)

    async def _handle_events(self, params: Mapping[str, str], parser: EventParser) -> None:
        """Handle all events; returns when the service drains its streams before it stops."""
        async with self._transport.stream(_PATH, params) as chunks:
            is_first = True
            async for chunk in chunks:
                events = parser.feed(chunk)
                if is_first:
                    is_first = False
                    self._on_open(parser.last_event_id)
                for event in events:
                    if event.kind == "drain":
                        return
                    self._handler.on_change(_change_of(event), _revision_of(event.id))
                self._handler.on_quiet()
        raise Unavailable("the stream of events ended")

    def _on_open(self, last_event_id: str) -> None:
        self.is_open = True
        self._decided.set()
        self._handler.on_stream_open(_revision_of(last_event_id))

    def _on_loss(self, error: Exception | None) -> None:
        is_news = self.is_open or not self._decided.is_set()
        level = logging.WARNING if is_news else logging.DEBUG
        _log.log(
            level, "event stream unavailable, polling instead: %s", error or "closed by the service"
        )
        self._decided.set()
        if self.is_open:
            self.is_open = False
            self._handler.on_stream_loss()


def _change_of(event: Event) -> Mapping[str, Any] | None:
    if event.kind != "reset":
        with suppress(ValueError):
            data = json.loads(event.data)
            return data if isinstance(data, dict) else None
    return None


def _revision_of(event_id: str) -> int:
    return int(event_id) if event_id.isdecimal() else 0
