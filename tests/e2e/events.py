"""A stream client of few words: reads server-sent events off a plain socket, with a deadline."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.servers.process import PATIENCE_SECONDS


@dataclass(frozen=True)
class Event:
    """One block of a stream; a block with an id alone only moves the client's place."""

    id: int | None
    name: str | None
    data: Any
    retry: int | None


class Events:
    def __init__(self, connection: socket.socket, within: float) -> None:
        connection.settimeout(within)
        self.connection = connection
        self._file = connection.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = dict(self._header_lines())

    def _header_lines(self) -> Iterator[tuple[str, str]]:
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            yield name.lower(), value.strip()

    def __iter__(self) -> Iterator[Event]:
        text = ""
        while size := int(self._file.readline().strip() or b"0", 16):
            text += self._file.read(size).decode()
            self._file.readline()
            *blocks, text = text.split("\n\n")
            yield from (_event(block) for block in blocks if block.strip(":\n"))

    def until(self, holds: Callable[[Event], bool]) -> list[Event]:
        """Read on until an event for which `holds`; returns all of them."""
        found: list[Event] = []
        for event in self:
            found.append(event)
            if holds(event):
                return found
        raise AssertionError(f"the stream ended after {found}")

    def first_revision(self) -> int:
        """Read what a stream begins with: the revision it goes on from."""
        return self.until(lambda event: event.id is not None)[-1].id or 0

    def close(self) -> None:
        self._file.close()


def _event(block: str) -> Event:
    fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
    return Event(
        id=int(fields["id"]) if "id" in fields else None,
        name=fields.get("event"),
        data=json.loads(fields["data"]) if "data" in fields else None,
        retry=int(fields["retry"]) if "retry" in fields else None,
    )


@contextmanager
def listening(
    url: str,
    query: str = "",
    *,
    path: str = "/api/v1/stream",
    last_event_id: int | None = None,
    token: str | None = None,
    within: float = PATIENCE_SECONDS,
) -> Iterator[Events]:
    """Open a stream; every read ends within `within` seconds."""
    address = urlsplit(url)
    head = f"GET {path}{query} HTTP/1.1\r\nHost: {address.netloc}\r\n"
    if last_event_id is not None:
        head += f"Last-Event-ID: {last_event_id}\r\n"
    if token is not None:
        head += f"Authorization: Bearer {token}\r\n"
    target = (address.hostname or "", address.port or 80)
    with closing(socket.create_connection(target, timeout=within)) as connection:
        connection.sendall(f"{head}\r\n".encode())
        events = Events(connection, within)
        with closing(events):
            yield events
