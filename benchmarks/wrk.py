"""Rates by wrk: a client written in C, so that the server is what is measured."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_COUNT = """
local number, path = 0, nil
request = function()
    path = path or wrk.path
    number = number + 1
    return wrk.format("GET", path .. number)
end
"""
SERVER_CORE, CLIENT_CORE = "0", "1"


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers a second, and latencies in seconds."""

    rate: float
    p50: float
    p99: float


def on_core(core: str, argv: list[str]) -> list[str]:
    return ["taskset", "-c", core, *argv]


def run(
    url: str,
    *,
    connections: int = 20,
    seconds: int = 4,
    headers: Sequence[str] = (),
    body: str | None = None,
    expect_errors: bool = False,
) -> Rate:
    """Load one URL after a second of warm-up, by POST if there is a body.

    A URL that ends in `{}` has the number of the request there. Fails when an answer is an error.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is missing: apt-get install wrk")
    with TemporaryDirectory() as folder:
        options = [option for line in headers for option in ("-H", line)]
        if body is not None:
            script = Path(folder) / "post.lua"
            script.write_text(f'wrk.method = "POST"\nwrk.body = {json.dumps(body)}\n')
            options += ["-s", str(script), "-H", "Content-Type: application/json"]
        if url.endswith("{}"):
            url = url.removesuffix("{}")
            script = Path(folder) / "count.lua"
            script.write_text(_COUNT)
            options += ["-s", str(script)]
        for duration in (1, seconds):
            text = _wrk(url, connections, duration, options)
    if not expect_errors and "Non-2xx or 3xx" in text:
        raise RuntimeError(f"{url} answered with errors:\n{text}")
    return Rate(
        float(_figure(r"Requests/sec:\s+([\d.]+)", text)),
        _seconds(_figure(r"\n\s+50%\s+(\S+)", text)),
        _seconds(_figure(r"\n\s+99%\s+(\S+)", text)),
    )


def _wrk(url: str, connections: int, seconds: int, options: Sequence[str]) -> str:
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", *options]
    return subprocess.run(
        on_core(CLIENT_CORE, [*argv, url]), check=True, capture_output=True, text=True
    ).stdout


def _figure(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return match[1]


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
