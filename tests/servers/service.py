"""The real service as a process of its own, and requests to it that tell every status as it is."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

from tests.servers.answer import Answer, request
from tests.servers.deadlines import PATIENT
from tests.servers.process import PATIENCE_SECONDS, Berth, ChildProcess, Command
from tests.servers.warm import inherited_variables

ROOT = Path(__file__).parents[2]
SERVE = (sys.executable, "-m", "app", "serve")


class ServiceProcess:
    """Answers `/live` once constructed; keeps its port and its data folder until closed."""

    def __init__(self, environment: Mapping[str, str], argv: Sequence[str] = SERVE) -> None:
        berth = Berth("service")
        self.url = f"http://127.0.0.1:{berth.port}"
        self.data_folder = berth.folder / "data"
        self.data_folder.mkdir()
        own = {
            "HOST": "127.0.0.1",
            "PORT": str(berth.port),
            "PILOTHOUSE_DATA_DIR": str(self.data_folder),
        }
        patient = PATIENT if "PYTEST_VERSION" in os.environ else {}  # not where it is measured
        command = Command(argv, {**inherited_variables(), **own, **patient, **environment}, ROOT)
        self._child = ChildProcess(command, berth, self._is_live)

    def _is_live(self) -> bool:
        try:
            return self.request("GET", "/live", timeout=2).status == 200
        except (OSError, HTTPException):
            return False

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout: float = PATIENCE_SECONDS,
    ) -> Answer:
        url = self.url + path
        return request(method, url, json=json, headers=headers, data=data, timeout=timeout)

    @property
    def exit_code(self) -> int | None:
        """Tell the exit code, minus the signal that ended it, or None while it runs."""
        return self._child.exit_code

    @property
    def pid(self) -> int:
        """Tell the id of the process itself, as long as it runs."""
        return self._child.pid

    def wait_for_exit(self, within: float = PATIENCE_SECONDS) -> int:
        return self._child.wait_for_exit(within)

    def log(self) -> str:
        """Tell all it has written, of every start."""
        return self._child.log()

    def freeze(self) -> None:
        self._child.freeze()

    def thaw(self) -> None:
        self._child.thaw()

    def kill(self) -> None:
        self._child.kill()

    def stop(self) -> None:
        """Send SIGTERM and wait; what is still there after a long time is killed."""
        self._child.stop()

    def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it again, with these variables instead of those given before."""
        command = self._child.command
        changed = {**command.environment, **(environment or {})}
        self._child.command = replace(command, environment=changed)
        self._child.restart()

    def close(self) -> None:
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
