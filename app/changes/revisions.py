"""Revisions in HTTP: `min_revision` on every read, waiting reads, `X-Revision`."""

from asyncio import get_running_loop
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Protocol

from fastapi import Depends, Query

from app.changes.errors import RevisionNotReached
from app.changes.follower import Follower
from app.changes.log.port import ChangeLog, Intents
from app.changes.stream.hub import Hub
from app.web.conditional import etag, matches
from app.web.freshness import Freshness
from app.web.request_state import from_state

REVISION_HEADER = "X-Revision"
CATCH_UP_SECONDS = 0.5
Following = Annotated[Follower, from_state("follower")]
Log = Annotated[ChangeLog, from_state("log")]
LoggedIntents = Annotated[Intents, from_state("intents")]
Streams = Annotated[Hub, from_state("hub")]


async def _wait_for_min_revision(
    follower: Following,
    min_revision: Annotated[
        int | None,
        Query(ge=0, lt=2**63, description="Answer from this revision on, or 503 after 2 s."),
    ] = None,
) -> None:
    if min_revision is not None:
        await follower.wait_for_revision(min_revision)


min_revision_dependency = Depends(_wait_for_min_revision)


async def wait_until_followed(follower: Follower, newest: Callable[[], int]) -> int:
    """Return the revision of an answer that is read from now on, without waiting in between.

    `newest` returns the newest change in it. A replica's own write is visible before the log was
    followed that far; with the followed revision, a client that continues on another replica would
    see the write disappear. So this waits for the log: for milliseconds, and not at all while the
    log is unavailable.
    """
    loop = get_running_loop()
    end = loop.time() + CATCH_UP_SECONDS - follower.silence
    while newest() > follower.revision and loop.time() < end:
        with suppress(RevisionNotReached):
            await follower.wait_for_revision(newest(), end - loop.time())
    return max(follower.revision, newest())


class ChangeSignal(Protocol):
    async def wait_for_change(self, seconds: float) -> None:
        """Return on the next change, at the latest after `seconds`."""
        ...


async def hold_until_changed(
    tag: Callable[[], str],
    known: str | None,
    wait: float | None,
    follower: ChangeSignal,
    fresh: Freshness,
    stay: Callable[[], None],
) -> None:
    """Hold a waiting read while its tag is one the client knows; at most `wait` seconds.

    `stay` raises when the caller's access has ended: it must not see what came since.
    """
    if wait is None or known is None:
        return
    loop = get_running_loop()
    end = loop.time() + wait
    while fresh.serving and matches(known, etag(tag())) and loop.time() < end:
        await follower.wait_for_change(end - loop.time())
        stay()
