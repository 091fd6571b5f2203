"""In-memory catalog of the current definitions, on every replica."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import structlog

from app.rules.definitions.model import Definition, Kind
from app.rules.definitions.port import DefinitionStore
from app.rules.errors import DefinitionsUnavailable, PolicyInvalid, RuleInvalid, SchemaInvalid
from app.rules.policies.model import Policy
from app.rules.policies.reading import read_policy
from app.rules.schemas.index import Mounted, Reaching, SchemaIndex
from app.rules.schemas.reading import Schema, read_schema
from app.workers import LARGE_TEXT, run_in_worker

_PAGE = 200
_FEW = 10  # are compiled on the loop: a small schema takes half a millisecond
_MOST_PAIRS = 20_000
KINDS = frozenset({"schema", "template", "policy", "webhook"})
_log = structlog.get_logger(__name__)

Value = TypeVar("Value")


class DefinitionCatalog:
    """Follows the log: before a change of a definition is visible, it is read from the store."""

    def __init__(self, store: DefinitionStore) -> None:
        self._store = store
        self._definitions: dict[tuple[Kind, str], Definition] = {}
        self._schemas = SchemaIndex()
        self._policies: dict[str, Policy] = {}
        self._unreadable: set[tuple[Kind, str]] = set()
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
    def policies(self) -> Sequence[Policy]:
        """Every current policy. Raises DefinitionsUnavailable."""
        self._require_read()
        return tuple(self._policies.values())

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
            self._note_readable("schema", name, is_readable=schema is not None)
            if schema is not None:
                self._schemas.put(schema)
            else:
                self._schemas.remove(name)
        for name, policy in _read_policies(page).items():
            self._note_readable("policy", name, is_readable=policy is not None)
            if policy is not None:
                self._policies[name] = policy
            else:
                self._policies.pop(name, None)
        if changed:
            self._judging.clear()
            self._reaching.clear()

    def _note_readable(self, kind: Kind, name: str, *, is_readable: bool) -> None:
        """Remember what exists and cannot be read; `is_readable` is false for a deletion too."""
        if is_readable or self._definitions[kind, name].is_deleted:
            self._unreadable.discard((kind, name))
        else:
            self._unreadable.add((kind, name))

    def _require_read(self) -> None:
        if not self._is_read:
            raise DefinitionsUnavailable(
                "the schemas have not been read since this replica started"
            )
        if self._unreadable:  # it may be enforced: nothing passes it unseen
            kind, name = min(self._unreadable)
            raise DefinitionsUnavailable(f"this release cannot read the {kind} {name!r}")


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
        _log_unreadable(definition, error)
        return None


def _read_policies(page: Iterable[Definition]) -> dict[str, Policy | None]:
    """Return every policy of a page, None for one that is deleted or cannot be read."""
    return {each.name: _read_policy(each) for each in page if each.kind == "policy"}


def _read_policy(definition: Definition) -> Policy | None:
    if definition.is_deleted:
        return None
    try:
        return read_policy(definition.name, definition.version, json.loads(definition.text))
    except (PolicyInvalid, ValueError) as error:
        _log_unreadable(definition, error)
        return None


def _log_unreadable(definition: Definition, error: Exception) -> None:
    """Report a definition that perhaps a newer release has written."""
    _log.error(
        f"{definition.kind}_unreadable",
        name=definition.name,
        version=definition.version,
        reason=getattr(error, "pointer", "not JSON"),
    )
