"""Server-sent events, read from whatever chunks they come in. No I/O.

WHATWG HTML, section 9.2.6, "Interpreting an event stream".
"""

import re
from dataclasses import dataclass

from pilothouse.errors import BadAnswer

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LONGEST = 1 << 20  # bytes of one event; the service's own have about 300


@dataclass(frozen=True, slots=True)
class Event:
    kind: str
    data: str
    id: str


class EventParser:
    """Parses fed bytes; `last_event_id` and `retry` (milliseconds) are the last received ones."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._line = bytearray()
        self._ended_in_cr = False
        self._at_start = True
        self._kind = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes; raises BadAnswer for one that is too long."""
        if not chunk:
            return []
        if self._ended_in_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a line end that was counted
            self._ended_in_cr = False
            if not chunk:
                return []
        self._ended_in_cr = chunk.endswith(b"\r")
        first, *others = _LINE_END.split(chunk)
        self._line += first
        if self._size + len(self._line) > _LONGEST:
            raise BadAnswer("an event of more than 1 MiB")
        events = []
        for following in others:
            event = self._read_line(bytes(self._line))
            self._line = bytearray(following)
            if event is not None:
                events.append(event)
        return events

    def _read_line(self, raw: bytes) -> Event | None:
        if self._at_start:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
            self._at_start = False
        if not raw:
            return self._dispatch()
        self._size += len(raw)
        name, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_event_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value[:9])
        return None

    def _dispatch(self) -> Event | None:
        event = None
        if self._data:
            event = Event(self._kind or "message", "\n".join(self._data), self.last_event_id)
        self._kind, self._data, self._size = "", [], 0
        return event
