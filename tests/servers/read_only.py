"""Run a command on a file system that is read-only, as a container with `read_only: true` does.

`python -m tests.servers.read_only [--writable DIR]... -- COMMAND...` in a mount namespace of its
own; `on_read_only` puts that into an argv. Linux only, as the leash of processes is.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_OF_THE_KERNEL = ("/proc", "/sys", "/dev")


def on_read_only(argv: Sequence[str], writable: Sequence[Path] = ()) -> tuple[str, ...]:
    """Return what runs `argv` where nothing but the folders `writable` can be written."""
    own_namespace = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount")
    folders = [word for folder in writable for word in ("--writable", str(folder))]
    here = (sys.executable, "-m", "tests.servers.read_only")
    return (*own_namespace, *here, *folders, "--", *argv)


def main(words: Sequence[str]) -> None:
    end = words.index("--")
    folders = [folder for option, folder in zip(words[:end:2], words[1:end:2], strict=True)]
    _mount("--make-rprivate", "/")
    for folder in folders:
        _mount("--bind", folder, folder)
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        place = line.split()[1].encode().decode("unicode_escape")
        if place not in folders and not place.startswith(_OF_THE_KERNEL):
            _mount("-o", "bind,remount,ro", place)
    command = words[end + 1 :]
    os.execvp(command[0], list(command))


def _mount(*words: str) -> None:
    subprocess.run(("mount", *words), check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
