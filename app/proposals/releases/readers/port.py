"""The port: storage of who reads what.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_reader_store.py`. Every method
is one transaction, committed before it returns, and raises ReleasesUnavailable within its deadline.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.proposals.releases.readers.model import Place, Read, Reader, Report, ReportCounts


class ReaderStore(Protocol):
    async def record_reads(self, reads: Mapping[Place, Read]) -> None:
        """Write what instances have read last, all at once."""
        ...

    async def record_report(self, place: Place, report: Report) -> None:
        """Write what an instance says of what it has read.

        Of one release, a refusal stays, whatever the instance says later. Reports of more than
        `MOST_INSTANCES` instances of one release are not counted.
        """
        ...

    async def report_counts(self, releases: Sequence[str]) -> Mapping[str, ReportCounts]:
        """Count the reports on the candidates of releases; one without any is not in it."""
        ...

    async def page(
        self,
        environment: str | None,
        service: str | None,
        after: tuple[str, str, str] | None,
        limit: int,
    ) -> Sequence[Reader]:
        """Return readers by environment, service and instance; None selects all."""
        ...

    async def forget(self, older_than: float) -> int:
        """Delete readers without a sign of life for `older_than` seconds, and reports as old.

        Some at a time; returns how many.
        """
        ...
