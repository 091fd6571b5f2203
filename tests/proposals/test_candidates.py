"""What a release changes, read from the body of the round that it applies."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.configs.documents.edit_json import edit_to_json
from app.configs.documents.edits import PatchKeys
from app.configs.errors import StoreUnavailable
from app.proposals.bodies.embedded import EmbeddedProposalBodies
from app.proposals.releases.bodies import ProposedCandidates
from app.proposals.releases.model import Item, Release
from app.sqlite.state import SQLiteState
from tests.contracts.releasing import BILLING, PLAN

NOW = datetime.now(UTC)
EDITS = [PatchKeys({"name": "x"}), PatchKeys({"pool": 40}, ("old",))]


@pytest.fixture
async def bodies(tmp_path: Path) -> AsyncIterator[EmbeddedProposalBodies]:
    state = SQLiteState(tmp_path)
    yield EmbeddedProposalBodies(state)
    await state.close()


def release(item: Item | None) -> Release:
    return Release(
        id="r-1",
        version=1,
        subject=BILLING,
        plan=PLAN,
        keys=("pool",),
        base=1,
        item=item,
        members=frozenset(),
        state="running",
        step=0,
        step_since=NOW,
        started_at=NOW,
        started_by="ana",
        ended_at=None,
        signal="",
        actor="ana",
        comment="",
        revision=1,
    )


async def test_the_edit_of_an_item_is_read_from_its_round(bodies: EmbeddedProposalBodies) -> None:
    await bodies.write("p-1.2", json.dumps({"items": [edit_to_json(edit) for edit in EDITS]}))

    candidates = ProposedCandidates(bodies)

    assert await candidates.read(release(Item("p-1", 2, 1))) == EDITS[1]


@pytest.mark.parametrize("item", [None, Item("p-1", 1, 0)])
async def test_what_is_not_stored_is_unavailable(
    bodies: EmbeddedProposalBodies, item: Item | None
) -> None:
    with pytest.raises(StoreUnavailable):
        await ProposedCandidates(bodies).read(release(item))
