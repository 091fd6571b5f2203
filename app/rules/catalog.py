"""In-memory catalog of the current schemas and templates, on every replica."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import structlog

from app.rules.definitions.model import Definition, Kind
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import DefinitionsUnavailable, RuleInvalid, SchemaInvalid
from app.rules.schemas.index import Mounted, Reaching, SchemaIndex
from app.rules.schemas.reading import Schema, read_schema
from app.workers import LARGE_TEXT, run_in_worker

_PAGE = 200
_FEW = 10  # are compiled on the loop: a small schema takes half a millisecond
_MOST_PAIRS = 20_000
KINDS = frozenset({"schema", "template"})
_log = structlog.get_logger(__name__)

Value = TypeVar("Value")


class DefinitionCatalog:
    """Follows the log: before a change of a definition is visible, it is read from the store."""

    def __init__(self, store: DefinitionStore) -> None:
        self._store = store
        self._definitions: dict[tuple[Kind, str], Definition] = {}
        self._schemas = SchemaIndex()
        self._unreadable: set[str] = set()
        self._judging: dict[tuple[str, str], tuple[Mounted, ...]] = {}
        self._reaching: dict[tuple[str, str], Reaching] = {}
        self._after = 0
        self._is_read = False
        self._refreshing = asyncio.Lock()

    @property
    def is_read(self) -> bool:
        """Whether the store was read at least once since the start."""
        return self._is_read

    @property
    def has_schemas(self) -> bool:
        """Whether any schema is there. Raises DefinitionsUnavailable."""
        return bool(self.schemas)

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """Every current schema by its name. Raises DefinitionsUnavailable."""
        self._require_read()
        return self._schemas.by_name

    @property
    def revision(self) -> int:
        """The newest change of a definition that is in here."""
        return self._after

    def definition(self, kind: Kind, name: str) -> Definition | None:
        """Return the newest version, deleted or not. Raises DefinitionsUnavailable."""
        self._require_read()
        return self._definitions.get((kind, name))

    def live(self, kind: Kind) -> Sequence[Definition]:
        """Return those that are not deleted, by name. Raises DefinitionsUnavailable."""
        self._require_read()
        definitions = (each for each in self._definitions.values() if each.kind == kind)
        return sorted(
            (each for each in definitions if not each.is_deleted), key=lambda each: each.name
        )

    def schemas_of(self, environment: str, service: str) -> tuple[Mounted, ...]:
        """Return what judges a configuration, by name. Raises DefinitionsUnavailable."""
        self._require_read()
        mounted = self._judging.get((environment, service))
        if mounted is None:
            mounted = tuple(
                (schema, at)
                for schema in self._schemas.concerning(service)
                for at in schema.mounts(environment, service)
            )
            _remember(self._judging, (environment, service), mounted)
        return mounted

    def schemas_reaching(self, environment: str, service: str) -> Reaching:
        """Return what judges anything that a document contributes to."""
        self._require_read()
        reaching = self._reaching.get((environment, service))
        if reaching is None:
            reaching = Reaching(
                (schema, at)
                for schema in self._schemas.reached_by(service)
                for at in schema.mounts_of_document(environment, service)
            )
            _remember(self._reaching, (environment, service), reaching)
        return reaching

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Read changes from the store if one of these kinds concerns definitions."""
        if kinds & KINDS or not self._is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read changes from the store; raises DefinitionsUnavailable."""
        async with self._refreshing:
            while True:
                page = await self._store.definitions_after(self._after, _PAGE)
                await self._apply(page)
                if len(page) < _PAGE:
                    break
            self._is_read = True

    async def _apply(self, page: Sequence[Definition]) -> None:
        is_large = len(page) > _FEW or sum(len(each.text) for each in page) > LARGE_TEXT
        changed = (
            await run_in_worker(_compile_schemas, page) if is_large else _compile_schemas(page)
        )
        for definition in page:
            self._definitions[definition.kind, definition.name] = definition
            self._after = max(self._after, definition.revision)
        for name, schema in changed.items():
            self._unreadable.discard(name)
            if schema is not None:
                self._schemas.put(schema)
                continue
            self._schemas.remove(name)
            if not self._definitions["schema", name].is_deleted:
                self._unreadable.add(name)
        if changed:
            self._judging.clear()
            self._reaching.clear()

    def _require_read(self) -> None:
        if not self._is_read:
            raise DefinitionsUnavailable(
                "the schemas have not been read since this replica started"
            )
        if self._unreadable:  # it may be enforced: nothing passes it unseen
            raise DefinitionsUnavailable(
                f"this release cannot read the schema {min(self._unreadable)!r}"
            )


def _remember(memory: dict[tuple[str, str], Value], pair: tuple[str, str], value: Value) -> None:
    if len(memory) >= _MOST_PAIRS:
        memory.clear()
    memory[pair] = value


def _compile_schemas(page: Iterable[Definition]) -> dict[str, Schema | None]:
    """Return every schema of a page, None for one that is deleted or cannot be read."""
    return {each.name: _compile_schema(each) for each in page if each.kind == "schema"}


def _compile_schema(definition: Definition) -> Schema | None:
    if definition.is_deleted:
        return None
    try:
        return read_schema(definition.name, definition.version, json.loads(definition.text))
    except (SchemaInvalid, RuleInvalid, ValueError) as error:
        # Perhaps a newer release has written it.
        _log.error(
            "schema_unreadable",
            name=definition.name,
            version=definition.version,
            reason=getattr(error, "pointer", "not JSON"),
        )
        return None
