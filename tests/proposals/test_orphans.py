"""What proposals set is emptied where no row names it, and nothing else is."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.proposals import orphans
from app.proposals.bodies.embedded import EmbeddedProposalBodies
from app.proposals.errors import BodyMissing
from app.proposals.model import Author, Proposal, ProposalCommit, ProposalItem, Target
from app.proposals.orphans import OrphanRemover
from app.proposals.store.embedded import EmbeddedProposalStore
from app.sqlite.state import SQLiteState

pytestmark = pytest.mark.anyio
NOW = datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Stores:
    proposals: EmbeddedProposalStore
    bodies: EmbeddedProposalBodies

    async def propose(self, proposal_id: str, round_: int) -> None:
        item = ProposalItem(
            Target("config", "staging", "shop"), "delete", 1, (("staging", "shop"),)
        )
        author = Author("ann", None)
        proposal = Proposal(proposal_id, "t", "open", round_, (item,), (author,), NOW, NOW)
        await self.proposals.create(ProposalCommit(proposal, "ann", "", "request"))


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    state = SQLiteState(tmp_path)
    yield Stores(EmbeddedProposalStore(state, lambda: None), EmbeddedProposalBodies(state))
    await state.close()


async def test_only_what_no_row_names_is_emptied(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "ORPHAN_SECONDS", 0.0)
    await stores.propose("p-known", 2)
    for name in ("p-known.1", "p-known.2", "p-known.3", "p-unknown.1"):
        await stores.bodies.write(name, "{}")

    await OrphanRemover(stores.proposals, stores.bodies).empty_orphans()

    assert await stores.bodies.read("p-known.1") == await stores.bodies.read("p-known.2") == "{}"
    for name in ("p-known.3", "p-unknown.1"):
        with pytest.raises(BodyMissing):
            await stores.bodies.read(name)


async def test_a_row_is_waited_for(stores: Stores) -> None:
    await stores.bodies.write("p-new.1", "{}")
    remover = OrphanRemover(stores.proposals, stores.bodies)

    await remover.empty_orphans()
    await remover.empty_orphans()

    assert await stores.bodies.read("p-new.1") == "{}"
