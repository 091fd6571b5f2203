"""Heartbeats of many instances, noted together."""

from collections.abc import Sequence

from app.patience import within
from app.registry.errors import RegistryUnavailable
from app.registry.gathering import Gathering
from app.registry.rows import AT_ONCE, Beat, InstanceRows, Row
from app.registry.view import View

_ANSWER_SECONDS = 2.0  # to wait for a batch under way, and for the next one, included


class Heartbeats:
    def __init__(self, rows: InstanceRows, view: View) -> None:
        self._rows = rows
        self._view = view
        self._gathering = Gathering(self._write, AT_ONCE)

    async def beat(self, beat: Beat) -> Row | None:
        """Note a heartbeat; returns the row, None if there is no such registration.

        Raises RegistryUnavailable where it was not noted: other replicas, which may evict, would
        not know of it, and the instance had better ask one of them.
        """
        try:
            async with within(_ANSWER_SECONDS):
                return await self._gathering.add(beat)
        except TimeoutError as error:
            raise RegistryUnavailable("the store of the registry does not answer") from error

    async def _write(self, beats: Sequence[Beat]) -> Sequence[Row | None]:
        found = await self._rows.beat(list(dict.fromkeys(beats)))
        self._view.learn(found.values())
        rows = [found.get((beat.service, beat.instance_id)) for beat in beats]
        return [
            row if row is not None and beat.epoch in {None, row.epoch} else None
            for row, beat in zip(rows, beats, strict=True)
        ]
