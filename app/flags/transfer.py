"""Import and export of flags; each import is one commit."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.changes.model import Action
from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.definitions.plans import ImportItems
from app.flags.definitions.representations import members_of
from app.flags.errors import BadDefinition, BadEnvironment, NotExpressed
from app.flags.model import Edit, Item, Kind
from app.flags.writer import FlagWriter, WriteRequest
from app.importers.flagd import read_flagd, write_flagd
from app.importers.model import (
    DEFAULT_FLAGD_HASH,
    FlagdHash,
    ImportedFlags,
    UnexpressedNote,
)
from app.importers.pilothouse import read_own, write_own
from app.importers.unleash import read_unleash
from app.telemetry import FLAG_WRITES
from app.workers import LARGE_TEXT, in_slices
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.names import is_name

Format = Literal["flagd", "unleash", "pilothouse"]
ExportFormat = Literal["flagd", "pilothouse"]
Status = Action | Literal["archived", "unchanged"]
_MANY_ITEMS = 100


@dataclass(frozen=True, slots=True)
class ImportedItem:
    """The result of importing one flag or segment, or its preview."""

    kind: Kind
    name: str
    status: Status
    version: int  # the one it has, or would have


@dataclass(frozen=True, slots=True)
class ImportResult:
    arrivals: Sequence[ImportedItem]
    revision: int  # of the last change that was made; 0 where none was


@dataclass(frozen=True, slots=True)
class FlagTransfer:
    sets: FlagCache
    writer: FlagWriter

    async def read(
        self,
        document: Any,
        form: Format,
        source_environment: str | None,
        hash_version: FlagdHash = DEFAULT_FLAGD_HASH,
        *,
        partly: bool,
    ) -> ImportedFlags:
        """Read a file; raises NotExpressed for what cannot be converted, unless `partly`.

        A file in Pilothouse's own format is read as a whole, or BadDefinition names the place.
        """
        # A large file takes long, and other requests have to be served at the same time.
        read = await asyncio.to_thread(_read, document, form, source_environment, hash_version)
        if not partly or any(not note.flag for note in read.report):
            _refuse_partial(read.report)
        return read

    async def preview(self, environment: str, read: ImportedFlags) -> ImportResult:
        """Return the result of an import without writing; raises as the import does."""
        plan = await asyncio.to_thread(_import_plan, read)
        preview = await self.writer.preview(environment, plan)
        known = preview.environment.items
        made = await in_slices(
            preview.edits,
            lambda edit: ImportedItem(
                edit.kind,
                edit.name,
                _status(edit),
                _next_version(known.get((edit.kind, edit.name))),
            ),
        )
        return ImportResult(await self._with_unchanged(environment, plan, made), 0)

    async def import_flags(
        self, environment: str, read: ImportedFlags, request: WriteRequest
    ) -> ImportResult:
        """Put flags into an environment in one commit; nothing is removed from it.

        Raises what `FlagWriter.write` raises.
        """
        plan = await asyncio.to_thread(_import_plan, read)
        items = await self.writer.write(environment, plan, request)
        for kind, count in Counter(item.kind for item in items).items():
            FLAG_WRITES.labels(kind).inc(count)
        revision = max((item.revision for item in items), default=0)
        made = await in_slices(
            items, lambda item: ImportedItem(item.kind, item.name, _status(item), item.version)
        )
        return ImportResult(await self._with_unchanged(environment, plan, made), revision)

    async def _with_unchanged(
        self, environment: str, plan: ImportItems, made: Sequence[ImportedItem]
    ) -> Sequence[ImportedItem]:
        """Add the unchanged items to the imported ones; flags first, in the order of the file."""
        moved = {(arrival.kind, arrival.name): arrival for arrival in made}
        flag_set = self.sets.environment(environment)

        def arrival(key: tuple[Kind, str]) -> ImportedItem:
            item = flag_set.live_item(*key) or flag_set.archived_item(*key)
            version = 0 if item is None else item.version
            return moved.get(key) or ImportedItem(*key, "unchanged", version)

        return await in_slices(plan.change(), arrival)

    def revision(self, environment: str) -> int:
        """Return the revision an export reflects."""
        return self._environment(environment).revision

    def _environment(self, name: str) -> EnvironmentFlags:
        if not is_name(name):
            raise BadEnvironment(name)
        return self.sets.environment(name)

    def is_large(self, environment: str) -> bool:
        """Tell whether exporting an environment's flags takes long."""
        items = self._environment(environment).items.values()
        return len(items) > _MANY_ITEMS or sum(len(i.definition) for i in items) > LARGE_TEXT

    def export_flagd(
        self,
        environment: str,
        hash_version: FlagdHash = DEFAULT_FLAGD_HASH,
        *,
        leave_out: bool = False,
        redraws: bool = False,
    ) -> dict[str, Any]:
        """Return an environment's flags as definitions of a flagd that hashes by `hash_version`.

        Raises NotExpressed if flagd cannot express one of them, unless it may be left out.
        """
        environment_flags = self._environment(environment).flags
        flags = [environment_flags.flags[name].flag for name in sorted(environment_flags.flags)]
        segments = environment_flags.segment_definitions.values()
        document, report = write_flagd(flags, segments, hash_version, redraws=redraws)
        if not leave_out:
            _refuse_partial(report)
        return document

    def export_pilothouse(self, environment: str) -> bytes:
        """Return the flags and segments of an environment, archived ones too, for an import."""
        flag_set = self._environment(environment)
        by_name = sorted(flag_set.items.values(), key=lambda item: item.name)
        items = [item for item in by_name if item.definition]
        flags = [
            {**members_of(item, flag_set.flag(item.name)), "archived": item.is_archived}
            for item in items
            if item.kind == "flag"
        ]
        segments = [members_of(item) for item in items if item.kind == "segment"]
        return write_own(environment, flags, segments)


def _status(written: Edit | Item) -> Status:
    if written.action == "deleted" and written.definition:
        return "archived"
    return written.action


def _refuse_partial(report: Sequence[UnexpressedNote]) -> None:
    if report:
        raise NotExpressed([(note.flag, note.pointer, note.reason) for note in report])


def _next_version(item: Item | None) -> int:
    return 1 if item is None else item.version + 1


def _read(
    document: Any, form: Format, source_environment: str | None, hash_version: FlagdHash
) -> ImportedFlags:
    if form == "flagd":
        return read_flagd(document, hash_version)
    if form == "pilothouse":
        try:
            return read_own(document)
        except DefinitionError as error:
            raise BadDefinition.of(error) from error
    return read_unleash(document, source_environment)


def _import_plan(read: ImportedFlags) -> ImportItems:
    return ImportItems(
        tuple(map(read_flag, read.flags)), tuple(map(read_segment, read.segments)), read.archived
    )
