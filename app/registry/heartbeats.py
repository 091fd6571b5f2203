"""Heartbeats of many instances, noted together: while one batch is written the next one gathers."""

import asyncio
from collections.abc import Mapping
from itertools import islice

from app.registry.errors import RegistryUnavailable
from app.registry.rows import AT_ONCE, Beat, InstanceRows, Key, Row
from app.registry.view import View


class Heartbeats:
    def __init__(self, rows: InstanceRows, view: View) -> None:
        self._rows = rows
        self._view = view
        self._gathered: dict[Beat, asyncio.Future[Row | None]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: set[Beat] = set()

    async def beat(self, beat: Beat) -> Row | None:
        """Note a heartbeat; returns the row, None if there is no such registration.

        While the store is away, an instance that is known here is believed, and noted as soon as
        that is possible: nobody is evicted meanwhile. Raises RegistryUnavailable for others.
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
                except RegistryUnavailable as error:
                    self._believe(gathered, error)
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

    def _believe(
        self,
        gathered: Mapping[Beat, "asyncio.Future[Row | None]"],
        error: RegistryUnavailable,
    ) -> None:
        for beat, waiting in gathered.items():
            row = self._view.row(beat.service, beat.instance_id)
            is_known = (
                row is not None and row.state == "registered" and beat.epoch in (None, row.epoch)
            )
            if is_known:
                self._unwritten.add(beat)
            if waiting.done():
                continue
            if is_known:
                waiting.set_result(row)
            else:
                waiting.set_exception(error)

    async def keep(self) -> None:
        """Write for ever what could not be written; raises RegistryUnavailable."""
        while True:
            await asyncio.sleep(1.0)
            await self.write_late()

    async def write_late(self) -> None:
        """Write what could not be written when it was heard; raises RegistryUnavailable."""
        while self._unwritten:
            unwritten = list(islice(self._unwritten, AT_ONCE))
            found = await self._rows.beat(unwritten)
            self._unwritten.difference_update(unwritten)
            self._view.learn(found.values())
