"""The jars of a server that runs on Java: what a pom asks for, fetched once by Maven."""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.choice import NotProvided

QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # to start, not to run fast


def java(environment: Mapping[str, str]) -> str:
    found = shutil.which("java", path=environment.get("PATH", ""))
    if found is None:
        raise NotProvided("no `java` on the PATH")
    return found


def jars(name: str, pom: Path, environment: Mapping[str, str]) -> Path:
    """Fetch the jars unless an earlier run did, for the same pom; return their folder."""
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "pilothouse" / "servers" / f"{name}-{digest}"
    if not folder.exists():
        maven = shutil.which("mvn", path=environment.get("PATH", ""))
        if maven is None:
            raise NotProvided(f"no `mvn` on the PATH, and no {folder}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs side by side fetch once
            if not folder.exists():
                _fetch(maven, pom, folder, environment)
    return folder


def _fetch(maven: str, pom: Path, folder: Path, environment: Mapping[str, str]) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={unfinished}")
    fetched = subprocess.run(
        (maven, "-q", "-B", "-f", pom, *goal),
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode != 0:
        raise NotProvided(f"`mvn` fails: {(fetched.stdout + fetched.stderr).strip()[-2000:]}")
    unfinished.replace(folder)
