"""The least a server on uvicorn can do: one constant answer. What reads are compared with."""

import os
import sys

import uvicorn
from starlette.types import Receive, Scope, Send

_BODY = b"x" * 300


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer everything with 300 bytes, about the size of a key's answer."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"300")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
    sys.exit()
