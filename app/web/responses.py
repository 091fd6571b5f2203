"""JSON responses; large ones are encoded in a thread."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.workers import run_apart


class _LargeResponse(JSONResponse):
    """Encoded by msgspec, several times as fast: encoding holds the GIL."""

    def render(self, content: Any) -> bytes:
        try:
            return msgspec.json.encode(content)
        except (OverflowError, ValueError, TypeError):  # integers beyond 64 bits, for example
            return super().render(content)


async def model_response(
    is_large: bool,  # noqa: FBT001
    make: Callable[[], BaseModel],
    headers: Mapping[str, str],
    status: int = 200,
) -> JSONResponse:
    """Return a model as FastAPI would; a large one is created and encoded in a thread."""

    def answer() -> JSONResponse:
        content = make().model_dump(mode="json", by_alias=True)
        kind = _LargeResponse if is_large else JSONResponse
        return kind(content, status, dict(headers))

    return await run_apart(is_large, answer)
