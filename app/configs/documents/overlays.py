"""Effective configurations with the candidate of a release in the place of its layer."""

from dataclasses import replace

from app.configs.documents.candidates import Candidates, ReleaseArm
from app.configs.documents.edits import Edit
from app.configs.documents.effective import Effective, EffectiveReader
from app.configs.documents.memory import BoundedMemory
from app.configs.model import Body, DocumentId, Stamp, layers_of
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.layers import merge

_Name = tuple[DocumentId, tuple[tuple[DocumentId, int], ...], str]


class OverlaidReader:
    """Reads effective configurations as one arm of a release has them."""

    def __init__(
        self, layers: EffectiveReader, candidates: Candidates, *, memory_bytes: int
    ) -> None:
        self.layers = layers
        self.candidates = candidates
        self._memory: BoundedMemory[_Name, Effective] = BoundedMemory(memory_bytes)
        layers.reader.follower.listeners.on_log_replaced(self._memory.clear)

    async def forget_superseded(self) -> None:
        """Drop what was made from versions that the log no longer names."""
        await self._memory.keep(lambda name, _: self.layers.reader.is_current(name[1]))

    async def effective(
        self, document: DocumentId, arm: ReleaseArm | None, *, with_secrets: bool = False
    ) -> Effective:
        """Merge the layers that contribute to `document`, as `arm` has them.

        Raises StoreUnavailable if what the release changes cannot be read.
        """
        effective = await self.layers.effective(document, with_secrets=with_secrets)
        if arm is None or not arm.is_candidate:
            return effective if arm is None else replace(effective, release=arm)
        overlaid = self._overlay_in_memory(effective, arm)
        if overlaid is not None and not (with_secrets and overlaid.without_secrets):
            return overlaid
        edit = await self.candidates.edit(arm.release)
        overlaid = await run_apart(
            effective.size > LARGE_TEXT, overlaid_effective, effective, edit, arm
        )
        self._memory.put(_name(effective, arm), overlaid, overlaid.size)
        return overlaid

    def effective_in_memory(self, document: DocumentId, arm: ReleaseArm | None) -> Effective | None:
        """Return the same if it was made from these very versions before."""
        effective = self.layers.effective_in_memory(document)
        if effective is None or arm is None:
            return effective
        if arm.is_candidate:
            return self._overlay_in_memory(effective, arm)
        return replace(effective, release=arm)

    def _overlay_in_memory(self, effective: Effective, arm: ReleaseArm) -> Effective | None:
        overlaid = self._memory.get(_name(effective, arm))
        if overlaid is None:
            return None
        return replace(overlaid, revision=effective.revision, release=arm)


def _name(effective: Effective, arm: ReleaseArm) -> _Name:
    return effective.addressed, effective.layers, arm.release


def overlaid_effective(effective: Effective, edit: Edit, arm: ReleaseArm) -> Effective:
    """Merge the layers again, with `edit` applied to the released one, which may not exist yet."""
    layer = arm.layer
    base = effective.bodies.get(layer)
    draft = edit.apply(layer, base)
    if draft.data is None:  # it says already what the release would change
        return replace(effective, release=arm)
    present = base if base is not None else _new_body()
    changed = {**effective.bodies, layer: replace(present, data=draft.data)}
    bodies = {each: changed[each] for each in layers_of(effective.addressed) if each in changed}
    merged = merge((each, body.data) for each, body in bodies.items())
    versions = tuple((each, body.version) for each, body in bodies.items())
    return replace(effective, merged=merged, layers=versions, bodies=bodies, release=arm)


def _new_body() -> Body:
    return Body(0, Stamp("", "created", "", "", ""), "", "")
