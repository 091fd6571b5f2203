"""What a write would do: the edits of its plan, and their effect on one item. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.flags.cache import EnvironmentFlags
from app.flags.definitions.representations import difference
from app.flags.model import Edit, Item, Kind
from app.workers import LARGE_TEXT
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.diff import Diff
from pilothouse_core.flags.moved_buckets import FlagMoves, moved_buckets
from pilothouse_core.flags.reading import read_flag


@dataclass(frozen=True, slots=True)
class ItemPreview:
    """What a write would do to one flag or segment; definitions are JSON text, "" for none."""

    kind: Kind
    environment: str
    name: str
    version: int  # the current one; 0: there is none
    is_changed: bool  # False: the write would create no version
    former: str = field(repr=False)
    definition: str = field(repr=False)  # as it would be stored
    proposal_needed: str | None = None  # the policy that asks for it

    @property
    def is_large(self) -> bool:
        return len(self.former) + len(self.definition) > LARGE_TEXT

    def diff(self) -> Diff:
        """Compute what the history would show for the version that the write would create."""
        return difference(self.former, self.definition)

    def bucket_moves(self, now: float) -> FlagMoves | None:
        """Count the buckets that the write would move; None where none can be compared.

        `now` is in seconds since 1970. That is so for a segment, and where there is no flag before
        or after, also because it is archived.
        """
        is_same = self.former == self.definition
        if self.kind == "segment" or (self.is_changed and is_same):
            return None
        return bucket_moves_of(self.former, self.definition, now)


def bucket_moves_of(former: str, definition: str, now: float) -> FlagMoves | None:
    """Count the buckets that move between two definitions of a flag as JSON text, "" for none.

    None where there are not two, or one that this release cannot read.
    """
    if not former or not definition:
        return None
    try:
        return moved_buckets(read_flag(json.loads(former)), read_flag(json.loads(definition)), now)
    except DefinitionError:
        return None


@dataclass(frozen=True, slots=True)
class WritePreview:
    """The edits that a write would commit, and the environment for which they were planned."""

    environment: EnvironmentFlags
    edits: Sequence[Edit]
    proposal_needed: str | None = None  # the policy that asks for it

    def present_item(self, kind: Kind, name: str) -> Item | None:
        """Return the item as it is now, live or archived."""
        known = self.environment
        return known.live_item(kind, name) or known.archived_item(kind, name)

    def item(self, kind: Kind, name: str) -> ItemPreview:
        present = self.present_item(kind, name)
        former = "" if present is None else present.definition
        edit = next((one for one in self.edits if (one.kind, one.name) == (kind, name)), None)
        return ItemPreview(
            kind=kind,
            environment=self.environment.name,
            name=name,
            version=0 if present is None else present.version,
            is_changed=edit is not None,
            former=former,
            definition=former if edit is None else edit.definition,
            proposal_needed=self.proposal_needed,
        )
