"""The result of importing another system's flags, with a report of what was not converted."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.flags.reading import read_flag, read_segment

Condition = dict[str, Any]  # what `read_condition` reads

FlagdHash = Literal["v2", "v3"]
# What the daemons hash with: all that were released up to 0.16. Version 3 hashes CBOR.
DEFAULT_FLAGD_HASH: Final[FlagdHash] = "v2"

# Members of flagd's metadata that have a place of their own here; all else are tags `name=value`.
DESCRIBED: Final = frozenset(["description", "owner", "tags"])

ALWAYS: Condition = {"all": []}
NEVER: Condition = {"any": []}


@dataclass(frozen=True, slots=True)
class UnexpressedNote:
    """A part of `flag` that has no equivalent.

    `pointer` is its place (RFC 6901): in the document that was read, or in the flag to be written.
    """

    flag: str
    pointer: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportedFlags:
    """Definitions that `read_flag` and `read_segment` accept.

    A flag with anything in the report is left out: half a flag is worse than none.
    """

    flags: tuple[Mapping[str, Any], ...]
    segments: tuple[Mapping[str, Any], ...]
    report: tuple[UnexpressedNote, ...]
    archived: frozenset[str] | None = None  # flags; None: the format knows no such thing


class Notes:
    """Collects the parts that cannot be expressed, for one report."""

    def __init__(self, flag: str) -> None:
        self.flag = flag
        self.entries: list[UnexpressedNote] = []
        self._known: set[UnexpressedNote] = set()

    def add(self, place: Place, reason: str) -> None:
        note = UnexpressedNote(self.flag, place.pointer, reason)
        if note not in self._known:
            self._known.add(note)
            self.entries.append(note)

    def refuse(self, place: Place, reason: str) -> Condition:
        """Add a note about `place`; the returned condition is a placeholder for the caller."""
        self.add(place, reason)
        return NEVER

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Add a note for a DefinitionError in the block, with its place."""
        try:
            yield
        except DefinitionError as error:
            self.add(Place(None, error.pointer), error.detail)


def check_flag(definition: Mapping[str, Any], place: Place, notes: Notes) -> None:
    """Add a note if `read_flag` rejects a flag converted from `place`."""
    try:
        read_flag(definition)
    except DefinitionError as error:
        notes.add(place, _of_definition(error))


def check_segment(definition: Mapping[str, Any], place: Place, notes: Notes) -> None:
    try:
        read_segment(definition)
    except DefinitionError as error:
        notes.add(place, _of_definition(error))


def _of_definition(error: DefinitionError) -> str:
    return f"would become {error.pointer or 'a definition'}, which {error.detail}"


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Join conditions, without those that always hold."""
    flat: list[Condition] = []
    for condition in conditions:
        flat += condition["all"] if list(condition) == ["all"] else [condition]
    if NEVER in flat:
        return NEVER
    return flat[0] if len(flat) == 1 else {"all": flat}


def any_of(conditions: Sequence[Condition]) -> Condition:
    flat: list[Condition] = []
    for condition in conditions:
        flat += condition["any"] if list(condition) == ["any"] else [condition]
    if ALWAYS in flat:
        return ALWAYS
    return flat[0] if len(flat) == 1 else {"any": flat}


def negation_of(condition: Condition) -> Condition:
    if condition == ALWAYS:
        return NEVER
    if condition == NEVER:
        return ALWAYS
    return condition["not"] if list(condition) == ["not"] else {"not": condition}


def comparison_json(attribute: str, op: str, *values: Any, **modifiers: Any) -> Condition:
    condition: Condition = {"attribute": attribute, "op": op}
    if values:
        condition["values"] = list(values)
    return {**condition, **modifiers}


def exists(attribute: str) -> Condition:
    return comparison_json(attribute, "exists")


def when_of(condition: Condition) -> Condition | None:
    """Return the `when` of a rule."""
    return None if condition == ALWAYS else condition
