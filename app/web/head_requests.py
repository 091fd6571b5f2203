"""HEAD requests: handled as GET, with an empty body."""

from starlette.types import Message, Scope, Send


def as_get(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """Return the scope and `send` with which the application handles HEAD as GET.

    The scope of the server still says HEAD, so that it accepts the Content-Length without a body.
    """
    # Without the extensions: a stream would push its events past `send`.
    return {**scope, "method": "GET", "extensions": {}}, _without_body(send)


def _without_body(send: Send) -> Send:
    is_over = False

    async def send_without_body(message: Message) -> None:
        nonlocal is_over
        if message["type"] == "http.response.start":
            await send(message)
        elif not is_over:
            # Also if more would follow: the rest of a stream would not be read.
            is_over = True
            await send({"type": "http.response.body", "body": b""})

    return send_without_body
