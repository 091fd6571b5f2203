"""What a request that must be refused sends, byte by byte, and how it must be answered."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

# Stands in every value that is sent; no answer and no line of the log may hold it.
VALUE = "hunter2"
JSON = {"Content-Type": "application/json"}
MANY = 10_001
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BadRequest:
    """`target` is sent as it stands: whoever writes one has encoded it, or means not to."""

    title: str
    status: int
    code: str
    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False

    def wire(self) -> bytes:
        headers = {"Host": "pilothouse", **self._framing(), **self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1", *map(": ".join, headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self._chunked_body()

    def _framing(self) -> dict[str, str]:
        if self.chunked:
            return {"Transfer-Encoding": "chunked"}
        return {"Content-Length": str(len(self.body))}

    def _chunked_body(self) -> bytes:
        if not self.chunked:
            return self.body
        chunks = (self.body[at : at + 65536] for at in range(0, len(self.body), 65536))
        return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def sending(
    title: str, status: int, code: str, method: str, target: str, body: Any, **headers: str
) -> BadRequest:
    """Send `body` as JSON, or as it is when it is bytes."""
    sent = body if isinstance(body, bytes) else json_bytes(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return BadRequest(title, status, code, method, target, sent, {**JSON, **named})


def json_bytes(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def in_url(text: str) -> str:
    return quote(text, safe="")
