"""Flags of other systems in, and out again: each import is one commit, or nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.changes.model import Action
from app.flags.errors import BadEnvironment, NotExpressed
from app.flags.formats.flagd import read_flagd, write_flagd
from app.flags.formats.model import Imported, Unexpressed
from app.flags.formats.unleash import read_unleash
from app.flags.model import Item, Kind
from app.flags.sets import Environment, FlagSets
from app.flags.writing import Change, Definition, FlagWriter, Request
from app.telemetry import FLAG_WRITES
from pilothouse_core.flags import read_flag, read_segment
from pilothouse_core.names import is_name

Format = Literal["flagd", "unleash"]
Status = Action | Literal["unchanged"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became, or would become, of one imported flag or segment."""

    kind: Kind
    name: str
    status: Status
    version: int  # the one it has, or would have


@dataclass(frozen=True, slots=True)
class Import:
    arrivals: Sequence[Arrival]
    revision: int  # of the last change that was made; 0 where none was


@dataclass(frozen=True, slots=True)
class FlagTransfer:
    sets: FlagSets
    writer: FlagWriter

    async def read(
        self, document: Any, form: Format, source_environment: str | None, *, partly: bool
    ) -> Imported:
        """Read a file; raises NotExpressed for what has no equal here, unless `partly` will do."""
        # A large file takes long, and others want to be served meanwhile.
        read = await asyncio.to_thread(_read, document, form, source_environment)
        if not partly or any(not note.flag for note in read.report):
            _refuse_partial(read.report)
        return read

    async def preview(self, environment: str, read: Imported) -> Import:
        """Return what importing would do; raises what it would raise."""
        change = await asyncio.to_thread(_change, read)
        edits = await self.writer.preview(environment, lambda _: change)
        known = self.sets.environment(environment).items
        made = [
            Arrival(edit.kind, edit.name, edit.action, _next(known.get((edit.kind, edit.name))))
            for edit in edits
        ]
        return Import(self._all(environment, change, made), 0)

    async def imported(self, environment: str, read: Imported, request: Request) -> Import:
        """Put flags into an environment in one commit; nothing is removed from it.

        Raises what `FlagWriter.write` raises.
        """
        change = await asyncio.to_thread(_change, read)
        items = await self.writer.write(environment, lambda _: change, request)
        for item in items:
            FLAG_WRITES.labels(item.kind).inc()
        made = [Arrival(item.kind, item.name, item.action, item.version) for item in items]
        revision = max((item.revision for item in items), default=0)
        return Import(self._all(environment, change, made), revision)

    def _all(self, environment: str, change: Change, made: Sequence[Arrival]) -> Sequence[Arrival]:
        """Add to what was made what stood there so already; flags first, in the file's order."""
        moved = {(arrival.kind, arrival.name): arrival for arrival in made}
        found = self.sets.environment(environment)
        arrivals = []
        for kind, name in change:
            item = found.live(kind, name)
            version = 0 if item is None else item.version
            arrivals.append(moved.get((kind, name)) or Arrival(kind, name, "unchanged", version))
        return arrivals

    def revision(self, environment: str) -> int:
        """Return the revision an export reflects."""
        return self._environment(environment).revision

    def _environment(self, name: str) -> Environment:
        if not is_name(name):
            raise BadEnvironment(name)
        return self.sets.environment(name)

    def exported(self, environment: str, *, leave_out: bool = False) -> dict[str, Any]:
        """Return an environment's flags as flagd's definitions.

        Raises NotExpressed where flagd has no words for one of them, unless it may be left out.
        """
        found = self._environment(environment).flags
        flags = [found.flags[name].flag for name in sorted(found.flags)]
        document, report = write_flagd(flags, found.segment_definitions.values())
        if not leave_out:
            _refuse_partial(report)
        return document


def _refuse_partial(report: Sequence[Unexpressed]) -> None:
    if report:
        raise NotExpressed([(note.flag, note.pointer, note.reason) for note in report])


def _next(item: Item | None) -> int:
    return 1 if item is None else item.version + 1


def _read(document: Any, form: Format, source_environment: str | None) -> Imported:
    if form == "flagd":
        return read_flagd(document)
    return read_unleash(document, source_environment)


def _change(read: Imported) -> dict[tuple[Kind, str], Definition | None]:
    flags = [read_flag(definition) for definition in read.flags]
    segments = [read_segment(definition) for definition in read.segments]
    return {("flag", flag.name): flag for flag in flags} | {
        ("segment", segment.name): segment for segment in segments
    }
