"""The port: candidates of releases, which some instances read in the place of a layer.

The adapter is `app.proposals.releases.view`; without releases it is `NoCandidates`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from app.configs.documents.edits import Edit
from app.configs.errors import ReleaseRunning
from app.configs.model import Body, DocumentId, Draft
from pilothouse_core.diff import diff
from pilothouse_core.keys import is_below
from pilothouse_core.releases.arms import Arm


@dataclass(frozen=True, slots=True)
class ReleaseArm:
    """The arm of an instance, as an answer names it; `layer` is the one that is released.

    `label` is different for each arm of each step of each release.
    """

    release: str
    arm: Arm
    step: int
    layer: DocumentId = field(repr=False)
    label: str = field(repr=False)

    @property
    def is_candidate(self) -> bool:
        return self.arm == "candidate"


@dataclass(frozen=True, slots=True)
class ReleasedKeys:
    """The keys of a layer that a release changes."""

    release: str
    keys: Collection[str]

    def refuse_changes(self, base: Body | None, draft: Draft) -> None:
        """Raise ReleaseRunning if a draft changes a key of the release, or what lies in one."""
        if draft.data is None:
            return
        changes = diff(base.data if base is not None else {}, draft.data)
        changed = (*changes.added, *changes.removed, *changes.changed)
        shared = sorted(key for key in changed if any(_overlap(key, own) for own in self.keys))
        if shared:
            key = shared[0][:80]
            raise ReleaseRunning(self.release, repr(key), key=key)


def _overlap(one: str, other: str) -> bool:
    return one == other or is_below(one, other) or is_below(other, one)


class Candidates(Protocol):
    """What is known of releases here and now; `generation` moves whenever that changes."""

    @property
    def generation(self) -> int: ...

    def arm(self, document: DocumentId, instance: str) -> ReleaseArm | None:
        """Return the arm of an instance that reads `document`; None if nothing is released there.

        Raises ReleasesUnavailable if that is not known since the start of this replica.
        """
        ...

    async def edit(self, release: str) -> Edit:
        """Return what a release changes; raises StoreUnavailable."""
        ...

    def released_keys(self, document: DocumentId) -> ReleasedKeys | None:
        """Return the keys of a layer that only its release may change."""
        ...

    def record_read(
        self, document: DocumentId, instance: str, tag: str, revision: int, arm: ReleaseArm | None
    ) -> None:
        """Note what an instance has read."""
        ...


class NoCandidates:
    """Nothing is released, and who reads what is not recorded."""

    generation = 0

    def arm(self, document: DocumentId, instance: str) -> ReleaseArm | None:  # noqa: ARG002
        return None

    async def edit(self, release: str) -> Edit:
        raise LookupError(release)

    def released_keys(self, document: DocumentId) -> ReleasedKeys | None:  # noqa: ARG002
        return None

    def record_read(
        self, document: DocumentId, instance: str, tag: str, revision: int, arm: ReleaseArm | None
    ) -> None:
        """Forget it at once."""


NO_CANDIDATES: Candidates = NoCandidates()
