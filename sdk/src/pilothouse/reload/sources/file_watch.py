"""Noticing that a file changed, however it does: in place, by renaming, by a symlink above it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

_STEP_MILLISECONDS = 20
_MOST_MILLISECONDS = 200
# The net under the notifications, which network file systems do not send.
_LOOK_SECONDS = 2.0
_LOOK_SECONDS_WITHOUT_NOTIFICATIONS = 0.5

Signature = tuple[int, int, int, int, int] | None
# A file system's clock ticks in steps, of two seconds on the coarsest.
_RACE_NANOSECONDS = 2_000_000_000


def prepare() -> None:
    """Import what sends notifications, before anything is watched.

    Imported by the first watcher it would hold up its loop, and a process forked at that moment
    would wait for ever for the half of it that was not there yet.
    """
    with suppress(ImportError):
        import_module("watchfiles")


def signature(path: Path) -> Signature:
    """Return what differs when a file does, following symlinks.

    None where there is no file, and where it was written so lately that another write of the same
    size might leave the same times.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    last = max(found.st_mtime_ns, found.st_ctime_ns)
    if time.time_ns() - last < _RACE_NANOSECONDS:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


async def stirrings(path: Path) -> AsyncGenerator[None, None]:
    """Yield when something stirs in the directory of `path`, and from time to time.

    It is the directory that is watched: editors and Kubernetes do not write into a file, they put
    another one (or a symlink `..data` to another directory) in its place.
    """
    try:
        from watchfiles import awatch  # noqa: PLC0415 - an extra
    except ImportError:
        while True:
            await asyncio.sleep(_LOOK_SECONDS_WITHOUT_NOTIFICATIONS)
            yield
    directory = path.parent
    while True:
        watched = _identity(directory)
        if watched is None:
            await asyncio.sleep(_LOOK_SECONDS_WITHOUT_NOTIFICATIONS)
            yield
            continue
        try:
            async for _ in awatch(
                directory,
                watch_filter=None,
                debounce=_MOST_MILLISECONDS,
                step=_STEP_MILLISECONDS,
                rust_timeout=int(_LOOK_SECONDS * 1000),
                yield_on_timeout=True,
                recursive=False,
            ):
                yield
                if _identity(directory) != watched:
                    break  # it went away: another one of its name is not watched yet
        except OSError:
            await asyncio.sleep(_LOOK_SECONDS_WITHOUT_NOTIFICATIONS)
        yield


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        found = directory.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
