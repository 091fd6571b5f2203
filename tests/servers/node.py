"""JavaScript programs of tests/interop, with the packages that `make` installs there."""

import shutil

from tests.servers.choice import ServerMissing
from tests.servers.program import INTEROP, Program


def node(name: str) -> Program:
    """Start the program; raises ServerMissing, naming what is missing."""
    found = shutil.which("node")
    if found is None or not (INTEROP / "node_modules").is_dir():
        raise ServerMissing("Node or its packages are not installed: see `make .venv/dev`")
    return Program((found, INTEROP / name))
