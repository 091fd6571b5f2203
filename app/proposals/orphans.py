"""Bodies of rounds that never became part of a proposal, because their writer died before."""

from dataclasses import dataclass, field
from time import monotonic

import structlog

from app.proposals.bodies.port import ProposalBodies
from app.proposals.model import ProposalFilter
from app.proposals.store.port import ProposalStore

ORPHAN_SECONDS = 3600.0  # after which the row of a round is not expected any more
LOOK_SECONDS = 900.0
_PAGE = 500
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OrphanRemover:
    """`_seen_at` has the time of `monotonic` at which each orphan was first seen here."""

    store: ProposalStore
    bodies: ProposalBodies
    _seen_at: dict[str, float] = field(default_factory=dict)

    async def empty_orphans(self) -> None:
        """Empty every body that has had no row for an hour."""
        names = await self.bodies.names()
        rounds = await self._rounds()
        orphans = {name for name in names if not _is_known(name, rounds)}
        for name in self._seen_at.keys() - orphans:
            del self._seen_at[name]
        now = monotonic()
        for name in sorted(orphans):
            if now - self._seen_at.setdefault(name, now) >= ORPHAN_SECONDS:
                await self.bodies.empty(name)
                _log.info("proposal_body_emptied", name=name)

    async def _rounds(self) -> dict[str, int]:
        """Return the current round of every proposal."""
        rounds: dict[str, int] = {}
        before: int | None = None
        while page := await self.store.proposals(ProposalFilter(), _PAGE, before):
            rounds |= {proposal.id: proposal.round for proposal in page}
            before = page[-1].number
        return rounds


def _is_known(name: str, rounds: dict[str, int]) -> bool:
    proposal_id, _, number = name.partition(".")
    return number.isdecimal() and int(number) <= rounds.get(proposal_id, 0)
