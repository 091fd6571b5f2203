"""What an import of another system's flags makes, and what it could not say."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.flags import read_flag, read_segment

Condition = dict[str, Any]  # what `read_condition` reads

ALWAYS: Condition = {"all": []}
NEVER: Condition = {"any": []}


@dataclass(frozen=True, slots=True)
class Unexpressed:
    """Something of `flag` that has no equal here.

    `pointer` is its place (RFC 6901): in the document that was read, or in the flag to be written.
    """

    flag: str
    pointer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Definitions that `read_flag` and `read_segment` accept.

    A flag with anything in the report is left out: half a flag is worse than none.
    """

    flags: tuple[Mapping[str, Any], ...]
    segments: tuple[Mapping[str, Any], ...]
    report: tuple[Unexpressed, ...]


class Notes:
    """Collects what cannot be expressed, so that a report names all of it at once."""

    def __init__(self, flag: str) -> None:
        self.flag = flag
        self.found: list[Unexpressed] = []
        self._known: set[Unexpressed] = set()

    def add(self, place: Place, reason: str) -> None:
        note = Unexpressed(self.flag, place.pointer, reason)
        if note not in self._known:
            self._known.add(note)
            self.found.append(note)

    def refuse(self, place: Place, reason: str) -> Condition:
        """Note what stands at `place`; the condition returned only keeps its caller going."""
        self.add(place, reason)
        return NEVER

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Note a flaw in the document that is read, in its place."""
        try:
            yield
        except DefinitionError as error:
            self.add(Place(None, error.pointer), error.detail)


def checked_flag(definition: Mapping[str, Any], place: Place, notes: Notes) -> None:
    """Note what `read_flag` does not accept of a flag that was made from `place`."""
    try:
        read_flag(definition)
    except DefinitionError as error:
        notes.add(place, _of_definition(error))


def checked_segment(definition: Mapping[str, Any], place: Place, notes: Notes) -> None:
    try:
        read_segment(definition)
    except DefinitionError as error:
        notes.add(place, _of_definition(error))


def _of_definition(error: DefinitionError) -> str:
    return f"would become {error.pointer or 'a definition'}, which {error.detail}"


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Join conditions, without saying what goes without saying."""
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


def negated(condition: Condition) -> Condition:
    if condition == ALWAYS:
        return NEVER
    if condition == NEVER:
        return ALWAYS
    return condition["not"] if list(condition) == ["not"] else {"not": condition}


def holds_test(attribute: str, op: str, *values: Any, **modifiers: Any) -> Condition:
    condition: Condition = {"attribute": attribute, "op": op}
    if values:
        condition["values"] = list(values)
    return {**condition, **modifiers}


def exists(attribute: str) -> Condition:
    return holds_test(attribute, "exists")


def when_of(condition: Condition) -> Condition | None:
    """Return the `when` of a rule."""
    return None if condition == ALWAYS else condition
