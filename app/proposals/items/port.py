"""The port: what items of one kind do, from the draft of a round to its application.

Implemented by `configs`, `flags` and `definitions`; the service and the applier of proposals know
items only through this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from app.access.model import Caller
from app.proposals.model import ItemOutcome, Proposal, ProposalItem
from app.rules.policies.model import Requirements
from pilothouse_core.diff import Diff

Sent = Mapping[str, Any]
"""An item as a client sends it; its members are of the right types."""
Stored = Mapping[str, Any]
"""What an item sets as JSON, in the body of its round; secrets in it are encrypted."""
Side = Literal["refuse", "current", "proposed"]
"""Which side a rebase keeps where both have changed the same key."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """An item of a new round, checked as a write would be; `changes` shows it, secrets masked.

    `content` is the handler's own: what `store` makes a stored item of.
    """

    number: int
    item: ProposalItem
    changes: Diff = field(repr=False)
    content: Any = field(repr=False)
    warnings: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Numbered:
    """An item with its place in the proposal, and what it sets."""

    number: int
    item: ProposalItem
    stored: Stored = field(repr=False)


class PinMoved(Exception):
    """Targets have other versions than the pinned ones, but what the items change is untouched."""

    def __init__(self, pins: Mapping[int, int]) -> None:
        super().__init__()
        self.pins = pins


class ItemHandler(Protocol):
    @property
    def name(self) -> str:
        """The name of the handler, its own."""
        ...

    def may_read(self, caller: Caller, item: ProposalItem) -> bool:
        """Tell whether the caller may read what the item changes."""
        ...

    def requirements(self, item: ProposalItem) -> Requirements | None:
        """Return what the policies ask of it now, None if none of them asks."""
        ...

    async def draft(self, sent: Sequence[tuple[int, Sent]], caller: Caller) -> Sequence[Drafted]:
        """Draft items on what exists now, together.

        Raises Denied unless the caller may read and propose every one, ItemRefused and
        NothingProposed.
        """
        ...

    async def store(self, drafted: Sequence[Drafted]) -> Sequence[Stored]:
        """Return what is stored of drafted items: new secrets in them are encrypted now."""
        ...

    async def check(self, items: Sequence[Numbered]) -> Sequence[Mapping[str, object]]:
        """Return what would keep these items from being written now, as flaws of a problem."""
        ...

    async def writable_order(self, items: Sequence[Numbered]) -> Sequence[Numbered]:
        """Return items in an order in which each can be written after those before it.

        In their own order as far as that is one, and where none is.
        """
        ...

    async def show(self, each: Numbered) -> Diff:
        """Return what an item changes of its base, secrets masked."""
        ...

    async def current_version(self, item: ProposalItem) -> int:
        """Return the newest version of the target, a deletion too, 0 if there never was one."""
        ...

    async def stale_keys(self, item: ProposalItem) -> Sequence[str]:
        """Return the keys of the item that were changed since its base.

        `*` for an item about the whole of its target.
        """
        ...

    async def rebase(self, each: Numbered, side: Side) -> Numbered | Sequence[str] | None:
        """Return an item on what exists now, None if nothing of it is left.

        The keys that both sides have changed if `side` is "refuse" and there are any.
        """
        ...

    async def apply(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        """Write items that are written together, each on top of its pin, once in all.

        Called again for the same round, it returns what was written before. Raises PinMoved, the
        errors of the features, and Unavailable and OutcomeUnknown where it has to be called again.
        """
        ...

    async def undo(
        self, proposal: Proposal, items: Sequence[Numbered]
    ) -> Mapping[int, ItemOutcome]:
        """Write what was there before again, unless it was written since."""
        ...


def written_together(items: Sequence[Numbered]) -> Sequence[Sequence[Numbered]]:
    """Return items in their order, flags and segments of one environment as one group."""
    groups: dict[object, list[Numbered]] = {}
    for each in items:
        target = each.item.target
        is_of_set = target.kind in {"flag", "segment"}
        groups.setdefault(target.environment if is_of_set else each.number, []).append(each)
    return list(groups.values())
