"""The use cases of readers: what they report, and who of them a caller is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.proposals.releases.readers.model import Place, Reader, Report, ReportCounts
from app.proposals.releases.readers.port import ReaderStore

KEPT_SECONDS: Final = 86_400.0  # of readers without a sign of life
FORGET_SECONDS: Final = 600.0
_PAGE: Final = 500
_MOST_PAGES: Final = 20  # that one request reads of what its caller may not see


@dataclass(frozen=True, slots=True)
class ReaderService:
    """`wake` lets the controllers of this replica look at all releases at once."""

    store: ReaderStore
    wake: Callable[[], None]

    async def report(self, place: Place, report: Report) -> None:
        """Keep a report; a refusal is looked at at once. Raises ReleasesUnavailable."""
        await self.store.record_report(place, report)
        if report.outcome == "refused" and report.release is not None:
            self.wake()

    async def counts(self, releases: Sequence[str]) -> Mapping[str, ReportCounts]:
        return await self.store.report_counts(releases) if releases else {}

    async def page(
        self,
        environment: str | None,
        service: str | None,
        after: tuple[str, str, str] | None,
        limit: int,
        is_visible: Callable[[Place], bool],
    ) -> tuple[Sequence[Reader], bool]:
        """Return the first visible readers after a place, and whether there may be more."""
        visible: list[Reader] = []
        for _ in range(_MOST_PAGES):
            rows = await self.store.page(environment, service, after, _PAGE)
            visible += (row for row in rows if is_visible(row.place))
            if len(visible) > limit:
                return visible[:limit], True
            if len(rows) < _PAGE:
                return visible, False
            last = rows[-1].place
            after = (last.environment, last.service, last.instance)
        return visible, True

    async def forget(self) -> None:
        """Delete what was kept long enough."""
        while await self.store.forget(KEPT_SECONDS):
            pass
