"""Lists of flags and segments, filtered."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.flags.cache import FlagCache
from app.flags.evaluation.usage import UsageCounter
from app.flags.model import Item, Kind
from app.workers import run_apart

_MANY_ITEMS = 500  # to look through them takes about as long as a thread does


@dataclass(frozen=True, slots=True)
class FlagFilter:
    """Filters of a list; None means no filter."""

    enabled: bool | None = None
    tag: str | None = None
    text: str | None = None
    stale_days: int | None = None
    archived: bool = False  # only these, which are left out otherwise


@dataclass(frozen=True, slots=True)
class FlagListing:
    sets: FlagCache
    counter: UsageCounter

    async def list_items(self, kind: Kind, environment: str, wanted: FlagFilter) -> Sequence[Item]:
        """Return the items of an environment that pass the filter, by name."""
        items = self.sets.environment(environment).items.values()
        if wanted.stale_days is not None:
            self.counter.collect()
        return await run_apart(len(items) > _MANY_ITEMS, self._filter_items, kind, items, wanted)

    def _filter_items(
        self, kind: Kind, items: Iterable[Item], wanted: FlagFilter
    ) -> Sequence[Item]:
        passing = [
            item
            for item in items
            if item.kind == kind and (item.is_archived if wanted.archived else not item.is_deleted)
        ]
        if wanted != FlagFilter():
            passing = [item for item in passing if self._is_wanted(item, wanted)]
        return sorted(passing, key=lambda item: item.name)

    def _is_wanted(self, item: Item, wanted: FlagFilter) -> bool:
        enabled, tags, description = self._filtered_members(item)
        if wanted.enabled is not None and enabled is not wanted.enabled:
            return False
        if wanted.tag is not None and wanted.tag not in tags:
            return False
        if wanted.text is not None:
            text = f"{item.name} {description}".casefold()
            if wanted.text.casefold() not in text:
                return False
        return wanted.stale_days is None or self._is_stale(item, wanted.stale_days)

    def _filtered_members(self, item: Item) -> tuple[Any, Sequence[str], str]:
        """Return whether it is enabled, its tags and its description, from memory if possible."""
        known = self.sets.environment(item.environment)
        if item.kind == "flag" and (flag := known.flag(item.name)) is not None:
            return flag.enabled, flag.tags, flag.description
        if item.kind == "segment" and (segment := known.segment(item.name)) is not None:
            return None, (), segment.description
        members: Mapping[str, Any] = json.loads(item.definition)
        return members.get("enabled"), members.get("tags", ()), members.get("description", "")

    def _is_stale(self, item: Item, days: int) -> bool:
        """Tell whether a flag was neither evaluated nor created for this many days."""
        last = self.counter.last_evaluated_at(item.environment, item.name) or item.created_at
        return last <= datetime.now(UTC) - timedelta(days=days)
