"""Reads rows again after the change log reports changes of instances."""

from app.registry.instances.port import InstanceStore
from app.registry.model import InstanceRow
from app.registry.view import RegistryView

_KIND = "instance"


class RowFollower:
    def __init__(self, rows: InstanceStore, view: RegistryView, page: int = 1000) -> None:
        self._rows = rows
        self._view = view
        self._page = page  # number of rows in one read
        self._after = 0
        self.is_read = False

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Read changed rows if these kinds include instances."""
        if _KIND in kinds or not self.is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read changed rows; raises RegistryUnavailable."""
        rows: list[InstanceRow] = []
        after = self._after
        while True:
            page = await self._rows.rows_after(after, self._page)
            rows += page
            if len(page) < self._page:
                break
            after = page[-1].revision
        self._view.learn(rows)
        self._after = max([self._after, *(row.revision for row in rows)])
        self.is_read = True
