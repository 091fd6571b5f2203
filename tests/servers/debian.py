"""Packages of Debian that tests need: installed when they are missing and this user may."""

import os
import shutil
import subprocess
from collections.abc import Mapping

from tests.servers.choice import NotProvided


def install(package: str, missing: str, environment: Mapping[str, str]) -> None:
    """Install it without what it merely recommends; raises NotProvided, telling what is missing."""
    apt_get = shutil.which("apt-get", path=environment.get("PATH", ""))
    if apt_get is None or os.geteuid() != 0:
        raise NotProvided(f"{missing}, and only root with apt-get could install it")
    for arguments in (("update",), ("install", "-y", "--no-install-recommends", package)):
        done = subprocess.run(
            (apt_get, "-q", "-o", "DPkg::Lock::Timeout=300", *arguments),
            env={**environment, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotProvided(f"`apt-get {arguments[0]}` fails: {done.stderr.strip()[-2000:]}")
