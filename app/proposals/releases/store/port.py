"""The port: storage of releases.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_release_store.py`. Every method
is one transaction, committed before it returns, and raises ReleasesUnavailable within its deadline.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from app.proposals.releases.model import Move, NewRelease, Origin, Release, Selection


class ReleaseStore(Protocol):
    async def start(self, release: NewRelease, origin: Origin) -> Release:
        """Begin a release with its first step, with its change in the log and the audit.

        One that was started before under the same id is returned as it is now. Raises
        ReleaseRunning(id) if another one of the same subject has not ended, and TooManyReleases.
        """
        ...

    async def move(self, move: Move, origin: Origin) -> Release:
        """Write the next state of a release, with its change in the log and the audit.

        Raises ReleaseNotFound, ReleaseEnded if it is done or aborted, and ReleaseMoved(version) if
        it is not at the version of the move. Then nothing was written.
        """
        ...

    async def get(self, release: str) -> Release:
        """Return one release; raises ReleaseNotFound."""
        ...

    async def active(self) -> tuple[datetime, Sequence[Release]]:
        """Return the time by the store's clock, and all releases that have not ended."""
        ...

    async def changed_after(self, after: int, limit: int) -> Sequence[Release]:
        """Return releases whose newest change is after this revision, ascending."""
        ...

    async def page(
        self, selection: Selection, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Release]:
        """Return releases by their start, the newest first; those after (start, id) of the last."""
        ...
