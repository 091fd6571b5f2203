"""What a write would do: the edits of its plan, and their effect on one item. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.flags.cache import EnvironmentFlags
from app.flags.definitions.representations import difference
from app.flags.model import Edit, Item, Kind
from app.workers import LARGE_TEXT
from pilothouse_core.diff import Diff


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

    @property
    def is_large(self) -> bool:
        return len(self.former) + len(self.definition) > LARGE_TEXT

    def diff(self) -> Diff:
        """Compute what the history would show for the version that the write would create."""
        return difference(self.former, self.definition)


@dataclass(frozen=True, slots=True)
class WritePreview:
    """The edits that a write would commit, and the environment for which they were planned."""

    environment: EnvironmentFlags
    edits: Sequence[Edit]

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
        )
