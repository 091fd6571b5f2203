"""Marks reads served from the last known state with their age (`X-Stale`)."""

from typing import Annotated, Protocol

from fastapi import Depends, Response

from app.web.request_state import from_state


class Freshness(Protocol):
    """The part of the lifespan state's `health` that reads need."""

    @property
    def serving(self) -> bool:
        """False once a shutdown has begun: waiting reads end."""
        ...

    def stale_seconds(self) -> int | None:
        """Return for how long a backend of reads has been unavailable, None if none is."""
        ...


Fresh = Annotated[Freshness, from_state("health")]


async def _add_stale_header(response: Response, fresh: Fresh) -> None:
    age = fresh.stale_seconds()
    if age is not None:
        response.headers["X-Stale"] = str(age)


adds_stale_header = Depends(_add_stale_header)


def headers_so_far(response: Response) -> dict[str, str]:
    """Return the headers set so far, such as `X-Stale`: FastAPI omits them in other responses."""
    return dict(response.headers)
