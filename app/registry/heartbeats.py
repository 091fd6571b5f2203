"""Heartbeats of many instances, noted together: while one batch is written the next one gathers."""

import asyncio
from collections.abc import Mapping
from itertools import islice

from app.registry.rows import AT_ONCE, Beat, InstanceRows, Key, Row
from app.registry.view import View


class Heartbeats:
    def __init__(self, rows: InstanceRows, view: View) -> None:
        self._rows = rows
        self._view = view
        self._gathered: dict[Beat, asyncio.Future[Row | None]] = {}
        self._writing: asyncio.Task[None] | None = None

    async def beat(self, beat: Beat) -> Row | None:
        """Note a heartbeat; returns the row, None if there is no such registration.

        Raises RegistryUnavailable where it was not noted: other replicas, which may evict, would
        not know of it, and the instance had better ask one of them.
        """
        waiting = self._gathered.get(beat)
        if waiting is None:
            waiting = self._gathered[beat] = asyncio.get_running_loop().create_future()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await asyncio.shield(waiting)

    async def _write(self) -> None:
        try:
            while self._gathered:
                gathered = dict(islice(self._gathered.items(), AT_ONCE))
                for beat in gathered:
                    del self._gathered[beat]
                try:
                    self._settle(gathered, await self._rows.beat(list(gathered)))
                except Exception as error:  # noqa: BLE001 - handed to those who wait
                    for waiting in gathered.values():
                        if not waiting.done():
                            waiting.set_exception(error)
        finally:
            self._writing = None

    def _settle(
        self, gathered: Mapping[Beat, "asyncio.Future[Row | None]"], found: Mapping[Key, Row]
    ) -> None:
        self._view.learn(found.values())
        for beat, waiting in gathered.items():
            row: Row | None = found.get((beat.service, beat.instance_id))
            matches = row is not None and beat.epoch in (None, row.epoch)
            if not waiting.done():
                waiting.set_result(row if matches else None)
