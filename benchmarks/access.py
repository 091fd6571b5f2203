"""What access control costs a hot request: both doors in one process, without a network.

Over a network the machine's own noise from one second to the next is larger than what is measured.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from app.main import create_app
from app.settings import Settings

_ADMIN = "administrator-of-the-benchmarks-only"
_ROUNDS, _CALLS = 15, 2000
_PLACE = {"environment": "production", "service_name": "bench"}
_SERVICE = {"name": "b", "class": "service", "environments": ["production"], "services": ["bench"]}
_FLAG = {"name": "flag7", "environment": "production", "enabled": True}
_ONE = json.dumps({"flag_name": "flag7", "user_id": "u", "environment": "production"}).encode()
_QUERY = b"environment=production&service_name=bench"
_JSON = (b"content-type", b"application/json")
Header = tuple[bytes, bytes]
Call = Callable[..., Awaitable[dict[str, Any]]]


def access_costs() -> str:
    """Tell the processor time of a request with open access, and with a service's token."""
    return asyncio.run(_measure_access())


async def _measure_access() -> str:
    async with AsyncExitStack() as stack:
        doors = {access: await _door(stack, access) for access in ("open", "required")}
        await asyncio.sleep(1)  # until the followers have seen what was written
        best: dict[tuple[str, str], float] = {}
        for _ in range(_ROUNDS):  # in turns, so that whatever slows the machine slows both
            for access, asked in doors.items():
                for name, ask in asked.items():
                    began = process_time()
                    for _ in range(_CALLS):
                        await ask()
                    took = (process_time() - began) / _CALLS
                    best[name, access] = min(took, best.get((name, access), took))
    return "\n".join(
        f"{name}, in the process: {best[name, 'open'] * 1e6:.1f} us with open access,"
        f" {best[name, 'required'] * 1e6:.1f} us with a token"
        for name in ("read a key", "evaluate one flag")
    )


async def _door(
    stack: AsyncExitStack, access: str
) -> Mapping[str, Callable[[], Awaitable[dict[str, Any]]]]:
    folder = stack.enter_context(TemporaryDirectory())
    settings = Settings.model_validate(
        {
            "pilothouse_access": access,
            "pilothouse_admin_token": _ADMIN,
            "pilothouse_data_dir": str(Path(folder)),
            "log_level": "error",
        }
    )
    app = create_app(settings)
    state = await stack.enter_async_context(app.router.lifespan_context(app))

    async def call(method: str, path: str, body: bytes, token: str, query: bytes = b"") -> Any:
        return await _call(app, dict(state or {}), method, path, body, token, query)

    made = {"key": "key7", "value": "value 7", **_PLACE}
    await call("POST", "/api/v1/config", json.dumps(made).encode(), _ADMIN)
    await call("POST", "/api/v1/feature-flags", json.dumps(_FLAG).encode(), _ADMIN)
    token = ""
    if access == "required":  # where it is open nobody is given tokens
        answer = await call("POST", "/api/v1/tokens", json.dumps(_SERVICE).encode(), _ADMIN)
        token = answer["token"]
    return {
        "read a key": lambda: call("GET", "/api/v1/config/key7", b"", token, _QUERY),
        "evaluate one flag": lambda: call("POST", "/api/v1/feature-flags/evaluate", _ONE, token),
    }


async def _call(  # noqa: PLR0913, PLR0917 - what a request is made of
    app: Any, state: Any, method: str, path: str, body: bytes, token: str, query: bytes
) -> Any:
    headers: list[Header] = [(b"host", b"localhost")]
    if token:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    if body:
        headers += [_JSON, (b"content-length", b"%d" % len(body))]
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "state": dict(state),
    }
    await app(scope, receive, send)
    if sent[0]["status"] not in {200, 201}:
        raise RuntimeError(f"{path} answered {sent}")
    return json.loads(sent[1]["body"]) if method == "POST" and sent[0]["status"] == 201 else {}
