"""Revisions in HTTP: `min_revision` on every read, waiting reads, `X-Revision`."""

from asyncio import get_running_loop
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Protocol

from fastapi import Depends, Query

from app.changes.errors import RevisionNotReached
from app.changes.follower import Follower
from app.changes.port import ChangeLog
from app.changes.stream import Hub
from app.web.conditional import etag, matches
from app.web.freshness import Freshness
from app.web.state import from_state

REVISION_HEADER = "X-Revision"
CATCH_UP_SECONDS = 0.5
Following = Annotated[Follower, from_state("follower")]
Log = Annotated[ChangeLog, from_state("log")]
Streams = Annotated[Hub, from_state("hub")]


async def _reach(
    follower: Following,
    min_revision: Annotated[
        int | None,
        Query(ge=0, lt=2**63, description="Answer from this revision on, or 503 after 2 s."),
    ] = None,
) -> None:
    if min_revision is not None:
        await follower.reach(min_revision)


reaches_revision = Depends(_reach)


async def reflected(follower: Follower, newest: Callable[[], int]) -> int:
    """Return the revision of an answer that is read from now on, without waiting in between.

    `newest` tells the newest change in it. A replica's own write is shown before the log was
    followed that far; under the followed revision, a client that goes on with it on another
    replica would see the write go away again. So this waits for the log, which is a matter of
    milliseconds, and not at all while the log is away.
    """
    loop = get_running_loop()
    end = loop.time() + CATCH_UP_SECONDS - follower.silence
    while newest() > follower.revision and loop.time() < end:
        with suppress(RevisionNotReached):
            await follower.reach(newest(), end - loop.time())
    return max(follower.revision, newest())


class Moving(Protocol):
    async def moved(self, seconds: float) -> None:
        """Return when something has moved, at the latest after `seconds`."""
        ...


async def hold(
    tag: Callable[[], str],
    known: str | None,
    wait: float | None,
    follower: Moving,
    fresh: Freshness,
    stay: Callable[[], None],
) -> None:
    """Hold a waiting read while its tag is one the client knows; at most `wait` seconds.

    `stay` raises when who waits would be let in no longer: they must not be told what came since.
    """
    if wait is None or known is None:
        return
    loop = get_running_loop()
    end = loop.time() + wait
    while fresh.serving and matches(known, etag(tag())) and loop.time() < end:
        await follower.moved(end - loop.time())
        stay()
