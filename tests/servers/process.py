"""A process of this run: its own folder and port, its log, and ways to stop, kill and freeze it."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from typing import IO, Protocol

from tests.servers import leash
from tests.servers.warm import Forked, is_warm, origin

TAIL = 30  # lines of the log shown when something fails
PATIENCE_SECONDS = 30.0  # costs nothing where all is well, and a busy machine stands still at times
# What a busy machine may add to an answer that is promised in time. Without a deadline there would
# be none at all; `make faults`, on a machine of its own, holds the promise closely.
SLACK_SECONDS = 0.5 if os.environ.get("PILOTHOUSE_FAULTS") == "whole" else 4.0


class StartFailed(Exception):
    """A process ended early or did not become ready; the message ends with its log."""


class Freezable(Protocol):
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class Running(Freezable, Protocol):
    """What a test may do to a server, wherever it runs."""

    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def restart(self) -> None: ...
    def close(self) -> None: ...


@contextmanager
def freeze_server(server: Freezable) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:  # a failed test must not leave the next one a frozen server
        server.thaw()


async def patiently(ask: Callable[[], Awaitable[object]], unavailable: type[Exception]) -> None:
    """Ask until it is answered in time: a server may be busy with what was done to it before."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(unavailable):
                await ask()
                return


def wait_until(holds: Callable[[], bool], what: str, within: float = PATIENCE_SECONDS) -> None:
    """Raise TimeoutError when `holds` is not true within that many seconds."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within:g} s in vain until {what}")
        time.sleep(0.02)


def reserve_port() -> socket.socket:
    """Bind a free port without listening.

    While the socket is open the kernel gives its port to nobody who asks for any free one, neither
    to a listener nor to an outgoing connection; a server that names the port still gets it, because
    both sides say SO_REUSEADDR. So a killed server finds its port free when it returns.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


class Berth:
    """A folder and a port of 127.0.0.1 for one server, kept through restarts until closed."""

    def __init__(self, name: str, owner: str | None = None) -> None:
        # Not in TMPDIR: the path of a socket has 107 bytes at most, and `owner` must reach it.
        self.folder = Path(tempfile.mkdtemp(prefix=f"pilothouse-{name}-", dir="/tmp"))
        if owner is not None:
            shutil.chown(self.folder, owner)
        self._holder = reserve_port()
        self.port: int = self._holder.getsockname()[1]

    def close(self) -> None:
        self._holder.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Command:
    argv: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path
    user: str = ""  # empty: the user who runs the tests
    stop_signal: Signals = SIGTERM


class ChildProcess:
    """Started and ready once constructed; it and all it starts end with this run at the latest."""

    def __init__(
        self, command: Command, berth: Berth, ready: Callable[[], bool], within: float = 180
    ) -> None:
        self.command = command
        self._berth = berth
        self._ready = ready
        self._within = within
        self._log = berth.folder / "log"
        self._leash: subprocess.Popen[bytes] | Forked
        try:
            self._start()
        except StartFailed:
            berth.close()
            raise

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._leash = self._start_on_leash(log)
        try:
            wait_until(self._is_ready, "it is ready", self._within)
        except TimeoutError as late:
            self.kill()
            raise self._failure(str(late)) from late

    def _start_on_leash(self, log: IO[bytes]) -> subprocess.Popen[bytes] | Forked:
        argv = self.command.argv
        if is_warm(argv):
            with suppress(ConnectionError):  # what cannot be imported, it tells better itself
                return origin().start(argv, self.command.environment, log)
        return subprocess.Popen(
            (sys.executable, "-I", "-S", leash.__file__, self.command.user, *argv),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.command.environment,
            cwd=self.command.folder,
            start_new_session=True,  # Ctrl-C is for the test run, which then ends its servers
        )

    def _is_ready(self) -> bool:
        if self.exit_code is not None:
            self.kill()
            raise self._failure(f"it ended early with exit code {self.exit_code}")
        return self._ready()

    def _failure(self, reason: str) -> StartFailed:
        tail = "\n".join(self.log().splitlines()[-TAIL:])
        return StartFailed(f"{self.command.argv[0]}: {reason}; its log ends with:\n{tail}")

    @property
    def exit_code(self) -> int | None:
        """Tell the exit code, minus the signal that ended it, or None while it runs."""
        return self._leash.poll()

    @property
    def pid(self) -> int:
        """Tell the id of the process itself, which is below its leash."""
        return next(leash.children_of(self._leash.pid))

    def wait_for_exit(self, within: float) -> int:
        return self._leash.wait(within)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def freeze(self) -> None:
        leash.freeze_below(self._leash.pid)

    def thaw(self) -> None:
        leash.thaw_below(self._leash.pid)

    def kill(self) -> None:
        """End it and all it started with SIGKILL."""
        if self._leash.stdin is not None:
            self._leash.stdin.close()
        self._leash.wait()

    def stop(self) -> None:
        """Ask it to end; kill it when it does not for as long as anything is waited for."""
        if self.exit_code is None:
            self.thaw()
            self._leash.send_signal(self.command.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._leash.wait(PATIENCE_SECONDS)
        self.kill()

    def restart(self) -> None:
        """Start it again on the same port and data; stop it first when it still runs."""
        self.stop()
        self._start()

    def close(self) -> None:
        self.stop()
        self._berth.close()
