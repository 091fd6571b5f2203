"""One HTTP request and its answer: no status raises, no redirect is followed, none stays open."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from json import dumps, loads
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: HTTPMessage  # looks names up whatever their case
    body: bytes

    def json(self) -> Any:
        return loads(self.body)


def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
    timeout: float = 10,
) -> Answer:
    """Send `json`, or the bytes of `data`; wait at most `timeout` seconds for each sign of life.

    Raises OSError (TimeoutError among them) or http.client.HTTPException when no answer comes.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connect = HTTPSConnection if secure else HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout)
    sent = dict(headers or {})
    if json is not None:
        data = dumps(json).encode()
        sent.setdefault("Content-Type", "application/json")
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # answered before it was all sent
            target = parts._replace(scheme="", netloc="").geturl() or "/"
            connection.request(method, target, data, sent)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
