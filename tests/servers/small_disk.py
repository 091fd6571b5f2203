"""Run a service whose data folder is a disk of its own, small enough to be filled. Linux only."""

import os
import sys

_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$PILOTHOUSE_DATA_DIR" && shift && exec "$@"'


def on_small_disk(argv: tuple[str, ...], size: str) -> tuple[str, ...]:
    """Return what runs `argv` with a disk of this size (`8m`) mounted at its data folder."""
    own_namespace = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount")
    return (*own_namespace, "sh", "-c", _MOUNT, sys.executable, size, *argv)
