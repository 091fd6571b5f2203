"""The members of flags and segments, as callers see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from app.flags.cache import FlagCache
from app.flags.definitions.representations import public_members
from app.flags.evaluation.usage import UsageCounter
from app.flags.model import Item, Kind
from app.workers import in_slices, run_in_worker

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FlagPresenter:
    """Adds to a definition what is not part of it, such as when a flag was last evaluated."""

    sets: FlagCache
    counter: UsageCounter

    def collect_counts(self, kind: Kind) -> None:
        """Collect the counts of evaluations, before `members` of flags; it looks at every flag."""
        if kind == "flag":
            self.counter.collect()

    def members(self, item: Item) -> dict[str, Any]:
        known = self.sets.environment(item.environment)
        is_known = item.kind == "flag" and known.live_item("flag", item.name) is item
        members = public_members(item, known.flag(item.name) if is_known else None)
        if item.kind == "flag":
            members["last_evaluated_at"] = self.counter.last_evaluated_at(
                item.environment, item.name
            )
        return members

    async def convert_members(
        self, items: Sequence[Item], convert: Callable[[Any], T], *, is_large: bool
    ) -> list[T]:
        """Convert the members of each item, many of them in a worker thread."""
        self.counter.collect()
        if is_large:
            return await run_in_worker(lambda: [convert(self.members(item)) for item in items])
        return await in_slices(items, lambda item: convert(self.members(item)))
