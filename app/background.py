"""Runs the features and their background tasks; a task that fails is restarted."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from app.errors import Unavailable
from app.feature import Feature, Task, merge
from app.telemetry import BACKGROUND_FAILURES

_PAUSE_SECONDS = 0.4
_log = structlog.get_logger(__name__)


@asynccontextmanager
async def run_features(features: Sequence[Feature]) -> AsyncIterator[None]:
    """Start the features in order, run their tasks, and at the end close them in reverse order."""
    async with AsyncExitStack() as stack:
        for feature in features:
            await feature.start()
        for feature in features:
            stack.push_async_callback(feature.close)
        tasks = merge(feature.tasks for feature in features)
        await stack.enter_async_context(run_background_tasks(tasks))
        yield


@asynccontextmanager
async def run_background_tasks(tasks: Mapping[str, Task]) -> AsyncIterator[None]:
    """Run the tasks by name until the block is left."""
    started = [asyncio.create_task(_supervise(name, task)) for name, task in tasks.items()]
    try:
        yield
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


async def _supervise(name: str, task: Task) -> None:
    silent = False
    while True:
        try:
            await task()
        except Unavailable as error:
            if not silent:  # an outage is logged once, not twice a second
                _log.warning("background_task_waits", task=name, reason=str(error))
            silent = True
        except Exception:  # noqa: BLE001 - a bug in one round must not end all rounds
            _log.exception("background_task_failed", task=name)
            silent = False
        BACKGROUND_FAILURES.labels(name).inc()
        await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
