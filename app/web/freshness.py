"""How old an answer may be, said on every read that was served from the last known state."""

from typing import Annotated, Protocol

from fastapi import Depends, Response

from app.web.state import from_state


class Freshness(Protocol):
    """What `app.main` puts into the lifespan state as `health`, as far as reads need it."""

    @property
    def serving(self) -> bool:
        """False from the moment a shutdown begins: nothing is waited for any more."""
        ...

    def stale_seconds(self) -> int | None:
        """Return for how long a server that reads rely on has been away, None if none is."""
        ...


Fresh = Annotated[Freshness, from_state("health")]


async def _mark(response: Response, fresh: Fresh) -> None:
    age = fresh.stale_seconds()
    if age is not None:
        response.headers["X-Stale"] = str(age)


marked_when_stale = Depends(_mark)


def carried(response: Response) -> dict[str, str]:
    """Return the headers set so far, such as `X-Stale`: FastAPI drops them from other answers."""
    return dict(response.headers)
