"""A real HAProxy for tests, in front of replicas that it checks: installed here."""

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Self

from tests.servers.answer import request
from tests.servers.choice import NotProvided, first_provided
from tests.servers.debian import install
from tests.servers.process import Berth, ChildProcess, Command

# Nothing is asked a second time: a failure that a retry would hide is one.
_CONFIGURATION = """
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend all
    bind 127.0.0.1:{port}
    monitor-uri /haproxy
    stats enable
    stats uri /haproxy-stats
    default_backend replicas
backend replicas
    option httpchk GET /ready
    default-server inter {inter_ms}ms fall 2 rise 1
"""


class HAProxyServer:
    """Sends requests in turn to those of the replicas whose `/ready` it gets."""

    def __init__(self, program: Path, urls: Sequence[str], inter_ms: int) -> None:
        berth = Berth("haproxy")
        self.port = berth.port
        self.url = f"http://127.0.0.1:{berth.port}"
        servers = [
            f"    server {number} {url.removeprefix('http://')} check\n"
            for number, url in enumerate(urls)
        ]
        file = berth.folder / "haproxy.cfg"
        file.write_text(
            _CONFIGURATION.format(port=berth.port, inter_ms=inter_ms) + "".join(servers)
        )
        command = Command((program, "-db", "-f", file), environment={}, folder=berth.folder)
        self._child = ChildProcess(command, berth, partial(_is_ready, self.url))

    def up(self) -> set[int]:
        """Return the numbers of the replicas that it sends requests to."""
        lines = request("GET", f"{self.url}/haproxy-stats;csv").body.decode().splitlines()
        fields = [line.split(",") for line in lines if line.startswith("replicas,")]
        return {int(row[1]) for row in fields if row[1].isdigit() and row[17].startswith("UP")}

    def close(self) -> None:
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_haproxy(
    urls: Sequence[str], inter_ms: int, environment: Mapping[str, str] = os.environ
) -> HAProxyServer:
    """Raise ServerMissing, naming what is missing, when there is no way to get one."""
    # In a container it would not reach the replicas.
    program = first_provided(
        "HAProxy", {"install haproxy": lambda: _installed_program(environment)}
    )
    return HAProxyServer(program, urls, inter_ms)


def _is_ready(url: str) -> bool:
    try:
        return request("GET", f"{url}/haproxy", timeout=2).status == 200
    except (OSError, HTTPException):
        return False


def _installed_program(environment: Mapping[str, str]) -> Path:
    path = f"{environment.get('PATH', '')}:/usr/sbin"
    found = shutil.which("haproxy", path=path)
    if found is None:
        install("haproxy", "no `haproxy` on the PATH", environment)
        found = shutil.which("haproxy", path=path)
    if found is None:
        raise NotProvided("apt-get installed it, but there is no `haproxy` on the PATH")
    return Path(found)
