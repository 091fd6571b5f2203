"""HEAD: asked as the GET that it stands for, and answered without a body."""

from starlette.types import Message, Scope, Send


def as_get(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """Return what to call the application with, which needs to know nothing of HEAD.

    The server has a scope of its own, which says HEAD still: it lets the length that a body would
    have pass.
    """
    # Without the extensions: a stream would push its events past `send`.
    return {**scope, "method": "GET", "extensions": {}}, _without_body(send)


def _without_body(send: Send) -> Send:
    is_over = False

    async def sending(message: Message) -> None:
        nonlocal is_over
        if message["type"] == "http.response.start":
            await send(message)
        elif not is_over:
            # Also where more would follow: whoever streams is told by this that nobody listens.
            is_over = True
            await send({"type": "http.response.body", "body": b""})

    return sending
