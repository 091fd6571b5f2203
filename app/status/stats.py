"""Statistics for people, at /stats."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.changes.log.port import ChangeLog
from app.configs.documents.reader import DocumentReader
from app.configs.model import KIND
from app.flags.cache import FlagCache
from app.flags.model import Kind
from app.registry.view import RegistryView
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

_HOUR = 3600.0


class StatsOut(BaseModel):
    documents: int = Field(
        description="Only what the caller may read, as are the next five counts."
    )
    environments: int
    services: int
    flags: int
    segments: int
    instances: int
    changes_last_hour: int = Field(
        description="Changes of the whole installation, as `X-Revision` counts them."
    )
    cache_hit_ratio: float = Field(
        description="Share of document reads from the cache since this replica started."
    )


@dataclass(frozen=True, slots=True)
class Stats:
    reader: DocumentReader
    log: ChangeLog
    sets: FlagCache
    view: RegistryView

    async def now(self, caller: Caller) -> StatsOut:
        """Return the counts of what a caller may read."""
        live = [
            pointer.entity
            for path, pointer in self.reader.follower.pointers.items()
            if pointer.entity.kind == KIND
            and path.startswith("layers/")
            and not pointer.deleted
            and caller.may(
                Right.READ_CONFIGS,
                pointer.entity.environment,
                pointer.entity.name.partition("/")[0],
            )
        ]
        reads = self.reader.versions.hits + self.reader.versions.misses
        return StatsOut(
            documents=len(live),
            environments=len({entity.environment for entity in live}),
            services=len({entity.name for entity in live} - {"_shared"}),
            flags=self._count("flag", caller),
            segments=self._count("segment", caller),
            instances=sum(len(self.view.service(name).instances) for name in self.view.services),
            changes_last_hour=await self.log.count_recent(_HOUR),
            cache_hit_ratio=round(self.reader.versions.hits / reads, 4) if reads else 0.0,
        )

    def _count(self, kind: Kind, caller: Caller) -> int:
        return sum(
            item_kind == kind and not item.is_deleted
            for name, environment in self.sets.environments.items()
            if caller.may(Right.READ_FLAGS, name)
            for (item_kind, _), item in environment.items.items()
        )


router = APIRouter(tags=["health"], responses=PROBLEMS)


@router.get("/stats", summary="Numbers for people")
async def stats(source: Annotated[Stats, from_state("stats")], caller: CurrentCaller) -> StatsOut:
    caller.demand(Right.READ_STATS)
    return await source.now(caller)
