"""Keeps one command on a leash: `leash.py USER COMMAND...` ends it when standard input closes.

The holder of the other end may vanish in any way, even by SIGKILL: the kernel closes the pipe, and
the command ends together with everything it started. PR_SET_PDEATHSIG would not do: it hangs on the
thread that started the process, and frozen grandchildren would outlive it.
Reads /proc, hence Linux only; uses nothing outside the standard library, hence runs on its own.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
STOPPED_OR_GONE = frozenset("TtZX")


def _state_and_parent(process: Path) -> tuple[str, int]:
    """Raise OSError when there is no such process (any more)."""
    stat = (process / "stat").read_bytes()
    # The name before the last parenthesis may itself contain spaces and parentheses.
    state, parent = stat.rpartition(b")")[2].split()[:2]
    return state.decode(), int(parent)


def children_of(pid: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end while we look
            if _state_and_parent(entry)[1] == pid:
                yield int(entry.name)


def _wait_until_stopped(pid: int) -> None:
    deadline = time.monotonic() + 2
    with suppress(OSError):
        while _state_and_parent(Path(f"/proc/{pid}"))[0] not in STOPPED_OR_GONE:
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze_below(pid: int) -> None:
    """Stop all that `pid` started, parents first and for certain, so that nobody forks unseen."""
    for child in children_of(pid):
        _send(child, signal.SIGSTOP)
        _wait_until_stopped(child)
        freeze_below(child)


def _send_below(pid: int, number: signal.Signals) -> None:
    for child in children_of(pid):
        _send_below(child, number)
        _send(child, number)


def thaw_below(pid: int) -> None:
    _send_below(pid, signal.SIGCONT)


def kill_below(pid: int) -> None:
    freeze_below(pid)
    _send_below(pid, signal.SIGKILL)


def _kill_when_let_go() -> None:
    os.read(0, 1)  # nobody ever writes: it returns when the other end is closed
    kill_below(os.getpid())


def _bury_the_rest() -> None:
    while True:
        kill_below(os.getpid())
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _end_like(code: int) -> None:
    """End with the same exit code, or by the same signal."""
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def hold(start: Callable[[], int]) -> int:
    """Start a child, whose process id `start` returns; return its exit code, minus its signal."""
    # Orphans come to us instead of to init, so that nothing is lost from sight.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = start()

    def pass_on(number: int, _: FrameType | None) -> None:
        _send(child, signal.Signals(number))

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    threading.Thread(target=_kill_when_let_go, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _bury_the_rest()
    return code


def main(user: str, *command: str) -> None:
    account = pwd.getpwnam(user) if user else None
    started: list[subprocess.Popen[bytes]] = []  # one that is forgotten would be waited for

    def start() -> int:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        started.append(child)
        return child.pid

    _end_like(hold(start))


if __name__ == "__main__":
    main(*sys.argv[1:])
