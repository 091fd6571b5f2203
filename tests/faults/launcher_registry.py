"""`python -m tests.faults.launcher_registry serve`: the real service, with points in its registry.

FAILPOINT and SEEDED_BUG, `@` and a file each, say what happens there (see `launcher` and
`bugs_registry`). The points are before and after claim, current (the sweep reads the rows) and
commit (of one transaction of ZooKeeper, after what it rests on was read).
"""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from app.__main__ import main
from app.registry.instances.port import InstanceStore
from app.registry.nodes.zookeeper.session import ZooKeeperSession
from app.settings import Settings
from app.wiring import Backends, open_backends
from tests.faults.bugs_registry import BuggyRows, Seeded, plant_in_registry
from tests.faults.launcher import Failpoints, Tripped

ROW_STEPS = {"claim": "claim", "rows_by_key": "current"}


def _trip_commits(failpoints: Failpoints) -> None:
    commit = ZooKeeperSession.commit

    async def commit_with_failpoint(self: ZooKeeperSession, transaction: Any) -> list[object]:
        await failpoints.reach("before_commit")
        return await commit(self, transaction)

    ZooKeeperSession.commit = commit_with_failpoint  # type: ignore[method-assign]


def launch(environment: Mapping[str, str], words: list[str]) -> int:
    failpoints = Failpoints(environment["FAILPOINT"])
    seeded = Seeded(Path(environment["SEEDED_BUG"].removeprefix("@")))
    plant_in_registry(seeded)
    _trip_commits(failpoints)

    @asynccontextmanager
    async def open_buggy_backends(settings: Settings) -> AsyncIterator[Backends]:
        assert settings.database_url is not None
        database = settings.database_url.get_secret_value()
        async with open_backends(settings) as backends:
            rows = Tripped(BuggyRows(backends.rows, database, seeded), ROW_STEPS, failpoints)
            yield replace(backends, rows=cast("InstanceStore", rows))

    with patch("app.main.open_backends", open_buggy_backends):
        return main(words)


if __name__ == "__main__":
    sys.exit(launch(os.environ, sys.argv[1:]))
