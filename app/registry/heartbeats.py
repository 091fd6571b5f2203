"""Records heartbeats of many instances in batches."""

from collections.abc import Sequence

from app.registry.batching import Batcher
from app.registry.errors import RegistryUnavailable
from app.registry.instances.port import InstanceStore
from app.registry.model import MAX_ROWS_PER_CALL, Heartbeat, InstanceRow
from app.registry.view import RegistryView
from app.timeouts import timeout_while_running

ANSWER_SECONDS = 2.0  # including the wait for a running batch and the next one


class HeartbeatRecorder:
    def __init__(
        self, rows: InstanceStore, view: RegistryView, seconds: float = ANSWER_SECONDS
    ) -> None:
        """Record each heartbeat within `seconds`, or raise."""
        self._rows = rows
        self._view = view
        self._seconds = seconds
        self._batcher = Batcher(self._write, MAX_ROWS_PER_CALL)

    async def record(self, beat: Heartbeat) -> InstanceRow | None:
        """Record a heartbeat; returns the row, None if there is no such registration.

        Raises RegistryUnavailable if it was not recorded: other replicas, which may evict, would
        not know of it, so that the instance has to call another replica.
        """
        try:
            async with timeout_while_running(self._seconds):
                return await self._batcher.submit(beat)
        except TimeoutError as error:
            raise RegistryUnavailable("the store of the registry does not answer") from error

    async def _write(self, beats: Sequence[Heartbeat]) -> Sequence[InstanceRow | None]:
        rows_by_key = await self._rows.record_heartbeats(list(dict.fromkeys(beats)))
        self._view.learn(rows_by_key.values())
        rows = [rows_by_key.get((beat.service, beat.instance_id)) for beat in beats]
        return [
            row if row is not None and beat.epoch in {None, row.epoch} else None
            for row, beat in zip(rows, beats, strict=True)
        ]
