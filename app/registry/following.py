"""Every replica's rows, read again where the change log says that something has moved."""

from app.registry.rows import InstanceRows, Row
from app.registry.view import View

_KIND = "instance"


class RowFollower:
    def __init__(self, rows: InstanceRows, view: View, page: int = 1000) -> None:
        self._rows = rows
        self._view = view
        self._page = page  # rows that are read at once
        self._after = 0
        self.is_read = False

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Read what has changed, if anything of these kinds concerns instances."""
        if _KIND in kinds or not self.is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read what has changed; raises RegistryUnavailable."""
        found: list[Row] = []
        after = self._after
        while True:
            page = await self._rows.newer(after, self._page)
            found += page
            if len(page) < self._page:
                break
            after = page[-1].revision
        self._view.learn(found)
        self._after = max([self._after, *(row.revision for row in found)])
        self.is_read = True
