"""`python -m tests.faults.launcher serve`: the real service, which ends, stops or waits at a point.

What it does where is said in the environment: FAILPOINT (see `Failpoint`), SEEDED_BUG (see
`tests/faults/bugs.py`) and, to make recovery quick, FIRST_LOOK and RECONCILE_EVERY in seconds. The
service itself knows nothing of this: the ports are wrapped.
"""

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, cast
from unittest.mock import patch

from app.__main__ import main
from app.cache.port import Cache
from app.changes.events.port import EventPublisher
from app.changes.log.port import ChangeLog, Intents, Outbox
from app.configs.store.port import ConfigStore
from app.flags.store.port import FlagStore
from app.rules.definitions.port import DefinitionStore
from app.settings import Settings
from app.wiring import Backends, open_backends
from tests.faults.bugs import plant_bug

INTENT_STEPS = {
    "begin": "begin",
    "intent_by_idempotency_key": "join",
    "expire": "expire",
    "reserve": "reserve",
    "earlier_related": "wait",
    "confirm": "confirm",
    "cancel": "cancel",
}
DEFINITION_STEPS = {"commit": "define"}
LOG_STEPS = {"advance": "advance", "since": "follow"}
OUTBOX_STEPS = {"unsent_changes": "pick", "mark_sent": "mark"}
STORE_STEPS = {"write": "store", "read": "look", "head": "head"}
CACHE_STEPS = {"put": "share"}
FLAG_STEPS = {"commit": "commit", "commit_by_idempotency_key": "repeat"}
PUBLISHER_STEPS = {"publish": "send"}
# Who asks these questions is no request but a task in the background, from then on.
TASKS = {"overdue_intents": "reconcile:", "documents": "scan:", "unsent_changes": "relay:"}
WAIT = "wait"
_POLL_SECONDS = 0.005
_SPELLING = re.compile(r"((?:\w+:)?(?:before|after)_\w+)(?:#(\d+))?=(\w+)")

# Both belong to the request or the task that is under way.
_task = ContextVar("task", default="")
_doubting = ContextVar("doubting", default=False)


@dataclass(frozen=True, slots=True)
class Failpoint:
    """A step of the write path, which time it is passed, and what happens then.

    Steps are `before_` or `after_` begin, store, look (the read-back), fetch (any other reading
    of the store), share (with the cache), advance, join, expire, head and follow; those of the
    reconciler and the scanner have their task in front, as in `reconcile:before_advance` and
    `scan:after_store`. `effect` is a signal that the process sends itself, or `wait`: only the
    request or task that came here waits, until the failpoint is lifted. The relay's are
    `relay:`, before or after pick (what is not yet sent), send (to Kafka) and mark (as sent).
    Those of flags are commit and repeat (the question what was written under a key). Writes that
    schemas judge have reserve, wait (for related ones before them), confirm and cancel too, and the
    commit of a schema is define.
    """

    point: str
    effect: str = "SIGKILL"
    at: int = 1

    def __str__(self) -> str:
        return f"{self.point}#{self.at}={self.effect}"

    @classmethod
    def read(cls, text: str) -> Self:
        found = _SPELLING.fullmatch(text)
        if found is None:
            raise ValueError(f"no failpoint is spelled {text!r}")
        return cls(found[1], found[3], int(found[2] or 1))


class Failpoints:
    """Named in FAILPOINT, separated by commas, or in the file that `@` there points to.

    The file may change while the service runs; each change counts from one again.
    """

    def __init__(self, stated: str) -> None:
        self._file = Path(stated[1:]) if stated.startswith("@") else None
        self._stated = stated
        self._counted = ""
        self._passed: Counter[str] = Counter()

    def _armed_failpoints(self) -> Mapping[str, Failpoint]:
        stated = self._stated
        if self._file is not None:
            stated = self._file.read_text() if self._file.exists() else ""
        if stated != self._counted:
            self._counted, self._passed = stated, Counter()
        found = [Failpoint.read(word) for word in re.split(r"[,\s]+", stated) if word]
        return {failpoint.point: failpoint for failpoint in found}

    async def reach(self, point: str) -> None:
        armed = self._armed_failpoints().get(point)
        self._passed[point] += 1
        if armed is None or self._passed[point] != armed.at:
            return
        print(f"reached {armed}", flush=True)  # noqa: T201 - the test reads it in the log
        if armed.effect != WAIT:
            os.kill(os.getpid(), signal.Signals[armed.effect])
            return
        while self._armed_failpoints().get(point) == armed:  # noqa: ASYNC110 - another process lifts it
            await asyncio.sleep(_POLL_SECONDS)
        await self.reach(point)  # what has been armed here meanwhile is not passed by


class Tripped:
    """A port whose steps come past the failpoints; everything else passes through."""

    def __init__(self, port: object, steps: Mapping[str, str], failpoints: Failpoints) -> None:
        self._port = port
        self._steps = steps
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name in TASKS:
            _task.set(TASKS[name])
        step = self._steps.get(name)
        if step is None:
            return method
        if step == "look" and not self._looks():
            step = "fetch"
        return self._tripping(method, f"{_task.get()}{{}}_{step}")

    @staticmethod
    def _looks() -> bool:
        """Tell a read-back from a reader's reading: it follows a write that was not confirmed."""
        return bool(_doubting.get() or _task.get())

    def _tripping(self, method: Callable[..., Any], point: str) -> Callable[..., Any]:
        async def tripping(*args: Any, **kwargs: Any) -> Any:
            await self._failpoints.reach(point.format("before"))
            try:
                result = await method(*args, **kwargs)
            except Exception:
                _doubting.set(True)
                raise
            await self._failpoints.reach(point.format("after"))
            return result

        return tripping


def _with_failpoints(backends: Backends, failpoints: Failpoints) -> Backends:
    intents = cast("Intents", Tripped(backends.changes.intents, INTENT_STEPS, failpoints))
    log = cast("ChangeLog", Tripped(backends.changes.log, LOG_STEPS, failpoints))
    outbox = cast("Outbox", Tripped(backends.changes.outbox, OUTBOX_STEPS, failpoints))
    changes = replace(backends.changes, intents=intents, log=log, outbox=outbox)
    store = cast("ConfigStore", Tripped(backends.store, STORE_STEPS, failpoints))
    flags = cast("FlagStore", Tripped(backends.flags, FLAG_STEPS, failpoints))
    definitions = cast(
        "DefinitionStore", Tripped(backends.definitions, DEFINITION_STEPS, failpoints)
    )
    cache = cast("Cache", Tripped(backends.cache, CACHE_STEPS, failpoints))
    publisher = backends.publisher and cast(
        "EventPublisher", Tripped(backends.publisher, PUBLISHER_STEPS, failpoints)
    )
    return replace(
        backends,
        changes=changes,
        store=store,
        flags=flags,
        definitions=definitions,
        cache=cache,
        publisher=publisher,
    )


def _opening(
    environment: Mapping[str, str],
) -> Callable[[Settings], AbstractAsyncContextManager[Backends]]:
    failpoints = Failpoints(environment.get("FAILPOINT", ""))

    @asynccontextmanager
    async def open_buggy_backends(settings: Settings) -> AsyncIterator[Backends]:
        async with open_backends(settings) as backends:
            buggy = plant_bug(environment.get("SEEDED_BUG", ""), backends, settings)
            yield _with_failpoints(buggy, failpoints)

    return open_buggy_backends


def _replaced_constants(environment: Mapping[str, str]) -> Mapping[str, object]:
    """Tell which constants of the service to replace."""
    paced: dict[str, object] = {}
    if look := environment.get("FIRST_LOOK"):
        paced["app.changes.log.postgres.intents._FIRST_LOOK"] = timedelta(seconds=float(look))
        paced["app.changes.log.embedded.intents._FIRST_LOOK"] = timedelta(seconds=float(look))
    if every := environment.get("RECONCILE_EVERY"):
        paced["app.configs.feature.RECONCILE_SECONDS"] = float(every)
    if missed := environment.get("RESUME_AT_MOST"):
        paced["app.changes.stream.event_stream._RESUME_AT_MOST"] = int(missed)
    return paced


def launch(environment: Mapping[str, str], words: list[str]) -> int:
    changes = {**_replaced_constants(environment), "app.main.open_backends": _opening(environment)}
    with ExitStack() as stack:
        for name, replacement in changes.items():
            stack.enter_context(patch(name, replacement))
        return main(words)


if __name__ == "__main__":
    sys.exit(launch(os.environ, sys.argv[1:]))
