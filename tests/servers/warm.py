"""Services start in a moment as forks of one process that has imported all they need.

To import the service takes a second of processor time, and a run of all tests starts hundreds. Each
fork is on a leash like any other process, runs its module from the beginning under the name
`__main__`, and has nothing from its origin but imported code: environment, standard streams,
session and working directory are its own. Linux only, as the leash is.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import connection
from pathlib import Path
from typing import IO, Final, NoReturn

from tests.servers.leash import hold

ROOT = Path(__file__).parents[2]
# `python -m` with these; what each imports is imported once for all.
MODULES: Final = (
    "app",
    "tests.faults.launcher",
    "tests.faults.launcher_registry",
    "tests.e2e.doors",
)
INHERITED: Final = ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV", "LANG")
_LARGEST = 100_000  # bytes of a request


def inherited_variables() -> dict[str, str]:
    """Return what a service has of the environment of whoever runs the tests.

    A setting that leaked in would decide their outcome.
    """
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


class Forked:
    """The end of a leash, with as much of `Popen` as its holder needs."""

    def __init__(self, pid: int, stdin: int, report: int) -> None:
        self.pid = pid
        self.stdin = os.fdopen(stdin, "wb")
        self._report = os.fdopen(report, "rb")
        self._code: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raises subprocess.TimeoutExpired."""
        if self._code is None:
            if not connection.wait([self._report.fileno()], timeout):
                raise subprocess.TimeoutExpired("leash", timeout or 0)
            with self._report:  # of one that was killed itself nothing comes but the end
                self._code = int(self._report.read() or -signal.SIGKILL)
            self.stdin.close()
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Origin:
    """The process that has imported everything, seen from the tests."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "tests.servers.warm", str(theirs.fileno())),
                env=environment,
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    def start(
        self, argv: Sequence[object], environment: Mapping[str, str], log: IO[bytes]
    ) -> Forked:
        """Run what `is_warm`, with standard output and error in `log`.

        Raises ConnectionError when what it needs could not be imported.
        """
        request = json.dumps([list(map(str, argv[2:])), dict(environment)]).encode()
        let_go, stdin = os.pipe()
        report, reported = os.pipe()
        try:
            pid = self._fork_service(request, let_go, log.fileno(), reported)
        except ConnectionError:
            os.close(stdin)
            os.close(report)
            raise
        finally:
            os.close(let_go)
            os.close(reported)
        return Forked(pid, stdin, report)

    def _fork_service(self, request: bytes, *files: int) -> int:
        with self._lock:
            socket.send_fds(self._line, [request], files)
            if pid := self._line.recv(_LARGEST):
                return int(pid)
        raise ConnectionResetError

    def close(self) -> None:
        self._line.close()  # which ends it
        self._process.wait()


_origins: list[Origin] = []
_starting = threading.Lock()  # replicas are started at the same time


def origin() -> Origin:
    """Return the one of this run."""
    with _starting:
        if not _origins:
            _origins.append(Origin(inherited_variables()))
        return _origins[0]


def is_warm(argv: Sequence[object]) -> bool:
    """Tell whether a command is a module to be imported once for all.

    What is measured begins cold, and so do the faults in full.
    """
    if "PYTEST_VERSION" not in os.environ or os.environ.get("PILOTHOUSE_FAULTS") == "whole":
        return False
    return tuple(argv[:2]) == (sys.executable, "-m") and argv[2] in MODULES


# --- the process itself ---


def main(line: socket.socket) -> None:
    for module in MODULES:
        import_module(module if module != "app" else "app.__main__")
    gc.freeze()  # collected in a fork, it would be copied there
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the tests hear how a fork ends, nobody waits
    while True:
        request, files, _, _ = socket.recv_fds(line, _LARGEST, 3)
        if not request:
            return
        assert threading.active_count() == 1  # a fork would lack the others
        pid = os.fork()
        if pid == 0:
            line.close()
            words, environment = json.loads(request)
            _leash(words, environment, *files)
        line.send(str(pid).encode())
        for file in files:
            os.close(file)


def _leash(
    words: list[str], environment: dict[str, str], let_go: int, log: int, reported: int
) -> NoReturn:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for file, number in (let_go, 0), (log, 1), (log, 2):
        os.dup2(file, number)
    os.close(let_go)
    os.close(log)

    def start() -> int:
        pid = os.fork()
        if pid == 0:
            os.close(reported)
            _become(words, environment)
        return pid

    os.write(reported, str(hold(start)).encode())
    os._exit(0)


def _become(words: list[str], environment: dict[str, str]) -> NoReturn:
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.environ.clear()
    os.environ.update(environment)
    for name in ("app.__main__", *MODULES[1:]):
        sys.modules.pop(name)  # the one that is run begins anew, and others import it when asked
    sys.argv[1:] = words[1:]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
