"""The tasks that watch sources, and reload each when it changes."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from pilothouse.reload.members import Member, Members
from pilothouse.reload.sources.port import Closing, Watched

LOOP_ENDED = "the event loop that the manager was started on has ended: nothing is watched"
_LONGEST_PAUSE_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Watchers:
    """Belongs to the loop on which the manager runs; `reload` loads the source of a name."""

    def __init__(
        self, members: Members, reload: Callable[[str], Awaitable[object]], *, watch_files: bool
    ) -> None:
        self._members = members
        self._reload = reload
        self._watch_files = watch_files
        self._is_stopping = False

    def begin_all(self) -> None:
        self._is_stopping = False
        for member in self._members:
            self.begin(member)

    def begin(self, member: Member, *, load_first: bool = False) -> None:
        """Watch a source; `load_first` is for one that was added while the manager runs."""
        is_watched = isinstance(member.source, Watched) and (
            self._watch_files or member.kind != "file"
        )
        if load_first or is_watched:
            member.watcher = asyncio.get_running_loop().create_task(
                self._watch(member, load_first=load_first, is_watched=is_watched)
            )

    async def stop(self) -> None:
        """End all tasks, and close the sources."""
        self._is_stopping = True
        watchers = [one.watcher for one in self._members if one.watcher is not None]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await self.close_sources()

    async def end(self, member: Member) -> None:
        """End the task of a source that was removed, and close it."""
        if member.watcher is not None:
            member.watcher.cancel()
            await asyncio.gather(member.watcher, return_exceptions=True)
        await _close(member.source)

    async def close_sources(self) -> None:
        for member in self._members:
            await _close(member.source)

    def leave_ended_loop(self) -> None:
        """Forget the tasks of a loop that has ended."""
        for watcher in self.forget():
            if not watcher.get_loop().is_closed():
                watcher.cancel()

    def forget(self) -> "list[asyncio.Task[None]]":
        """Return the tasks, which are no longer those of the sources."""
        watchers = [one.watcher for one in self._members if one.watcher is not None]
        for member in self._members:
            member.watcher = None
        return watchers

    async def _watch(self, member: Member, *, load_first: bool, is_watched: bool) -> None:
        source = member.source
        if load_first:
            await self._reload(member.name)
        failures = 0
        while is_watched and isinstance(source, Watched):
            try:
                async with aclosing(source.watch()) as changes:
                    async for _ in changes:
                        failures = 0
                        await self._reload(member.name)
            except asyncio.CancelledError:
                if not self._is_stopping and member in self._members:
                    _log.warning("%s: %s", member.name, LOOP_ENDED)
                    await _close(source)
                raise
            except Exception as error:  # noqa: BLE001 - a source may be code of the program
                failures += 1
                reason = f"{type(error).__name__}: {error}"
                _log.warning("%s is not watched for now: %s", member.name, reason)
                longest = min(_LONGEST_PAUSE_SECONDS, 2.0**failures)
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - full jitter
            else:
                return


async def _close(source: object) -> None:
    if isinstance(source, Closing):
        await source.close()
