"""Numbers for people, at /stats."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.access.caller import Calling
from app.access.model import Right
from app.changes.port import ChangeLog
from app.configs.model import KIND
from app.configs.reading import Reader
from app.flags.model import Kind
from app.flags.sets import FlagSets
from app.registry.view import View
from app.web.problem import PROBLEMS
from app.web.state import from_state

_HOUR = 3600.0


class StatsOut(BaseModel):
    documents: int
    environments: int
    services: int
    flags: int
    segments: int
    instances: int
    changes_last_hour: int
    cache_hit_ratio: float = Field(description="Of document reads since this replica started.")


@dataclass(frozen=True, slots=True)
class Stats:
    reader: Reader
    log: ChangeLog
    sets: FlagSets
    view: View

    async def now(self) -> StatsOut:
        live = [
            pointer.entity
            for path, pointer in self.reader.follower.pointers.items()
            if pointer.entity.kind == KIND and path.startswith("layers/") and not pointer.deleted
        ]
        reads = self.reader.hits + self.reader.misses
        return StatsOut(
            documents=len(live),
            environments=len({entity.environment for entity in live}),
            services=len({entity.name for entity in live} - {"_shared"}),
            flags=self._number("flag"),
            segments=self._number("segment"),
            instances=sum(len(self.view.service(name).seen) for name in self.view.services),
            changes_last_hour=await self.log.recent(_HOUR),
            cache_hit_ratio=round(self.reader.hits / reads, 4) if reads else 0.0,
        )

    def _number(self, kind: Kind) -> int:
        return sum(
            found == kind and not item.deleted
            for environment in self.sets.environments.values()
            for (found, _), item in environment.items.items()
        )


router = APIRouter(tags=["health"], responses=PROBLEMS)


@router.get("/stats", summary="Numbers for people")
async def stats(source: Annotated[Stats, from_state("stats")], caller: Calling) -> StatsOut:
    caller.demand(Right.READ_STATS)
    return await source.now()
