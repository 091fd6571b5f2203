"""A document whose log is thousands of versions behind, after a database was lost, say."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.audit.fingerprints import Fingerprints
from app.cache.absent import AbsentCache
from app.changes.errors import LogUnavailable
from app.changes.follower import Follower
from app.changes.log.embedded.intents import EmbeddedIntents
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.model import Entity, Pointer, Written
from app.configs.documents.cache import DocumentCache
from app.configs.documents.reader import DocumentReader
from app.configs.documents.recovery import Scanner
from app.configs.documents.writer import DocumentWriter
from app.configs.model import document_id
from app.configs.store.embedded import EmbeddedCipher, EmbeddedConfigStore
from app.sqlite.state import SQLiteState

pytestmark = pytest.mark.anyio
CHECKOUT = document_id("staging", "checkout")
BACKLOG = 1234
IN_TIME = 250  # versions: what a real log takes before its deadline is no fixed number


class SlowLog(EmbeddedChangeLog):
    """A log that does not answer in time when it is given much."""

    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        if len(written) > IN_TIME:
            raise LogUnavailable("the change log does not answer")
        return await super().advance(entity, written)


@pytest.mark.slow
async def test_thousands_of_versions_are_logged_in_portions(tmp_path: Path) -> None:
    state = SQLiteState(tmp_path)
    log, store = SlowLog(state), EmbeddedConfigStore(state, max_versions=10)
    for base in range(BACKLOG):
        await store.write(CHECKOUT, f"written by hand {base}", base=base)
    follower = Follower(log)
    await follower.start()
    cached = DocumentCache(AbsentCache(), max_versions=10)
    reader = DocumentReader(store, follower, cached, max_versions=10, memory_bytes=2**20)
    cipher = EmbeddedCipher(tmp_path / "secrets.key")
    writer = DocumentWriter(
        store,
        EmbeddedIntents(state),
        log,
        cipher,
        reader,
        max_versions=10,
        fingerprints=Fingerprints(bytes(32)),
    )

    await Scanner(store, reader, writer).scan()

    logged = [change.version for change in await log.since(0, 2 * BACKLOG)]
    assert logged == list(range(1, BACKLOG + 1))
    pointer = reader.pointer(CHECKOUT)
    assert pointer is not None
    assert pointer.version == BACKLOG
    await state.close()
