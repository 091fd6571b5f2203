"""Detects changes of a file: in place, by renaming, or by a symlink above it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

_STEP_MILLISECONDS = 20
_MOST_MILLISECONDS = 200
# In addition to notifications, which network file systems do not send.
_LOOK_SECONDS = 2.0
_LOOK_SECONDS_WITHOUT_NOTIFICATIONS = 0.5

Signature = tuple[int, int, int, int, int] | None
# A file system's clock ticks in steps, of two seconds on the coarsest.
_RACE_NANOSECONDS = 2_000_000_000


def prepare() -> None:
    """Import the library for notifications, before anything is watched.

    Imported by the first watcher it would block its loop, and a process forked during the import
    would wait without limit for the import to be complete.
    """
    with suppress(ImportError):
        import_module("watchfiles")


def signature(path: Path) -> Signature:
    """Return attributes that differ if the content of a file does, following symlinks.

    None if there is no file, and if it was written so recently that another write of the same size
    might leave the same times.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    last = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - last < _RACE_NANOSECONDS:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


async def directory_events(path: Path) -> AsyncGenerator[None, None]:
    """Yield when something changes in the directory of `path`, and periodically.

    The directory is watched, not the file: editors and Kubernetes do not write into a file, they
    replace it, or a symlink `..data` to another directory.
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
                    break  # it was replaced by another directory, which is not watched yet
        except OSError:
            await asyncio.sleep(_LOOK_SECONDS_WITHOUT_NOTIFICATIONS)
        yield


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
