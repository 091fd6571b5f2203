"""Notes who reads what: in memory, and written for all together every few seconds."""

import asyncio
from collections.abc import Iterator
from itertools import islice

from app.configs.documents.candidates import ReleaseArm
from app.errors import Unavailable
from app.proposals.releases.readers.model import Place, Read
from app.proposals.releases.readers.port import ReaderStore
from app.telemetry import READS_DROPPED

FLUSH_SECONDS = 5.0
MOST_PLACES = 20_000  # that are kept between two writes
_BATCH = 500
_Place = tuple[str, str, str]
_Read = tuple[str, int, ReleaseArm | None]


class ReadRecorder:
    def __init__(self, store: ReaderStore) -> None:
        self._store = store
        self._reads: dict[_Place, _Read] = {}

    def record(
        self,
        environment: str,
        service: str,
        instance: str,
        tag: str,
        revision: int,
        arm: ReleaseArm | None,
    ) -> None:
        """Note what an instance has read last; beyond `MOST_PLACES`, further ones are dropped."""
        place = environment, service, instance
        if len(self._reads) >= MOST_PLACES and place not in self._reads:
            READS_DROPPED.inc()
            return
        self._reads[place] = tag, revision, arm

    async def run(self) -> None:
        """Write what was noted, again and again."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what was noted; what cannot be written is dropped and counted."""
        reads, self._reads = self._reads, {}
        for batch in _batches(reads):
            try:
                await self._store.record_reads(batch)
            except Unavailable:
                READS_DROPPED.inc(len(batch))


def _batches(reads: dict[_Place, _Read]) -> Iterator[dict[Place, Read]]:
    items = iter(reads.items())
    while batch := dict(islice(items, _BATCH)):
        yield {Place(*place): _read(*read) for place, read in batch.items()}


def _read(tag: str, revision: int, arm: ReleaseArm | None) -> Read:
    return Read(tag, revision) if arm is None else Read(tag, revision, arm.release, arm.arm)
