"""What is old and done with is deleted, however much of it there is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from app.changes.errors import IntentNotFound
from app.changes.log.embedded.ports import embedded_ports
from app.changes.model import Entity, Intent, Written
from app.changes.retention import Retention
from app.sqlite.state import SQLiteState

pytestmark = pytest.mark.anyio
CHECKOUT = Entity("config", "staging", "checkout", "staging/checkout")


async def test_writes_that_are_decided_are_forgotten_with_the_changes_of_their_age(
    tmp_path: Path,
) -> None:
    state = SQLiteState(tmp_path)
    ports = embedded_ports(state)
    now = datetime.now(UTC)
    young, old = (
        Intent(str(uuid4()), CHECKOUT, base, "updated", "ana", "", "request", at)
        for base, at in ((1, now), (0, now - timedelta(days=3)))
    )
    for one in (old, young):
        await ports.intents.begin(one)
        await ports.log.advance(CHECKOUT, [Written(one.base + 1, one.id, one.at)])

    await Retention(ports.maintenance, days=2, keep=200, relayed=True).trim()

    assert (await ports.intents.intent(young.id)).state == "applied"
    with pytest.raises(IntentNotFound):
        await ports.intents.intent(old.id)
    await state.close()
