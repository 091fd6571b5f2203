"""A real Prometheus for tests, told where to discover its targets: installed here."""

import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

from tests.servers.answer import request
from tests.servers.choice import NotProvided, first_provided
from tests.servers.debian import install
from tests.servers.process import Berth, ChildProcess, Command

REFRESH = "200ms"  # of the discovery; Prometheus itself takes over a new list every five seconds


class PrometheusServer:
    """Scrapes what one URL of HTTP service discovery tells; its data goes when it is closed."""

    def __init__(self, program: Path, discovery: str, relabelling: list[Mapping[str, Any]]) -> None:
        berth = Berth("prometheus")
        self.url = f"http://127.0.0.1:{berth.port}"
        job = {
            "job_name": "discovered",
            "scrape_interval": "1s",
            "http_sd_configs": [{"url": discovery, "refresh_interval": REFRESH}],
            "relabel_configs": relabelling,
        }
        file = berth.folder / "prometheus.yml"
        file.write_text(json.dumps({"scrape_configs": [job]}))  # JSON is YAML
        listen = f"--web.listen-address=127.0.0.1:{berth.port}"
        options = (f"--config.file={file}", f"--storage.tsdb.path={berth.folder / 'data'}", listen)
        command = Command((program, *options), environment={}, folder=berth.folder)
        self._child = ChildProcess(command, berth, partial(_is_ready, self.url))

    def targets(self) -> list[Any]:
        """Return its active targets, each with its `labels` and `health`."""
        targets = request("GET", f"{self.url}/api/v1/targets?state=active").json()
        found: list[Any] = targets["data"]["activeTargets"]
        return found

    def failed_refreshes(self) -> int:
        """Tell how often it asked for its targets in vain."""
        lines = request("GET", f"{self.url}/metrics").body.decode().splitlines()
        counts = [line for line in lines if line.startswith("prometheus_sd_http_failures_total")]
        return sum(int(float(line.rpartition(" ")[2])) for line in counts)

    def close(self) -> None:
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_prometheus(
    discovery: str,
    relabelling: list[Mapping[str, Any]],
    environment: Mapping[str, str] = os.environ,
) -> PrometheusServer:
    """Raise ServerMissing, naming what is missing, when there is no way to get one."""
    # In a container it would reach neither the service nor what is registered there.
    program = first_provided(
        "Prometheus", {"install prometheus": lambda: _installed_program(environment)}
    )
    return PrometheusServer(program, discovery, relabelling)


def _is_ready(url: str) -> bool:
    try:
        return request("GET", f"{url}/-/ready", timeout=2).status == 200
    except (OSError, HTTPException):
        return False


def _installed_program(environment: Mapping[str, str]) -> Path:
    path = environment.get("PATH", "")
    found = shutil.which("prometheus", path=path)
    if found is None:
        install("prometheus", "no `prometheus` on the PATH", environment)
        found = shutil.which("prometheus", path=path)
    if found is None:
        raise NotProvided("apt-get installed it, but there is no `prometheus` on the PATH")
    return Path(found)
