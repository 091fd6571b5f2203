"""The port through which schemas judge the configurations that exist."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from app.rules.judging.model import Case, Pair
from pilothouse_core.trees import Tree


class Configurations(Protocol):
    @property
    def revision(self) -> int:
        """How far this replica has followed the log."""
        ...

    def pairs(self, is_judged: Callable[[str, str], bool]) -> Sequence[Pair]:
        """Return every pair that exists and is judged, in order."""
        ...

    def affected_pairs(
        self, documents: Iterable[tuple[str, str]], is_judged: Callable[[str, str], bool]
    ) -> Sequence[Pair]:
        """Return the judged pairs to which documents contribute, by their environment and name."""
        ...

    def newest_change(self, pair: Pair) -> int:
        """Return the revision of the newest change that contributes to a pair."""
        ...

    async def case(self, pair: Pair) -> Case:
        """Return a pair as it is now; whatever is found in it counts as new."""
        ...

    def layers(self, is_reached: Callable[[str, str], bool]) -> Iterable[Pair]:
        """Return the documents of environments and services that a schema reaches."""
        ...

    async def layer(self, document: Pair) -> Tree:
        """Return what one layer has, secrets masked."""
        ...

    async def catch_up(self) -> None:
        """Follow the log to its end; raises LogUnavailable."""
        ...

    async def follow(self, revision: int) -> None:
        """Wait until this replica has followed the log to `revision`."""
        ...
