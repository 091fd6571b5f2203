"""What releases change, kept where configurations are kept."""

import json
from dataclasses import dataclass
from typing import Protocol

from app.configs.documents.edit_json import edit_from_json
from app.configs.documents.edits import Edit
from app.configs.errors import StoreUnavailable
from app.proposals.bodies.port import ProposalBodies
from app.proposals.errors import BodyMissing
from app.proposals.releases.model import Release


class CandidateBodies(Protocol):
    async def read(self, release: Release) -> Edit:
        """Return the edit that the release applies, its secrets encrypted for its layer.

        Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProposedCandidates:
    """The edits of the items of proposals."""

    bodies: ProposalBodies

    async def read(self, release: Release) -> Edit:
        missing = StoreUnavailable(f"what the release {release.id} changes is not stored")
        if release.item is None:
            raise missing
        name = f"{release.item.proposal}.{release.item.round}"
        try:
            items = json.loads(await self.bodies.read(name))["items"]
        except BodyMissing:
            raise missing from None
        return edit_from_json(items[release.item.item])
