"""The flag set that is held: what is taken over from an answer, and what stays as it was. Pure.

A flag that this release cannot read harms no other: its last good definition stays. Where there is
none, or where a flag needs what cannot be read, the caller's default is better than an answer that
may be wrong: such flags are broken.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pilothouse.errors import BadAnswer
from pilothouse_core.conditions.model import segments_in
from pilothouse_core.evaluation import EMPTY, ERROR, Evaluation, Evaluator, FlagSet
from pilothouse_core.flags.model import Flag, Segment, segment_references
from pilothouse_core.flags.reading import read_flag, read_segment

PARSE_ERROR: Final = "PARSE_ERROR"
Kind = Literal["flag", "segment"]
Key = tuple[Kind, str]
Definition = Mapping[str, Any]
Source = Literal["service", "snapshot", "defaults"]
_AT_A_TIME = 8  # definitions: well below a millisecond
_REMEMBERED = 5  # reasons in a message
_READERS: Mapping[Kind, Callable[[Any], Any]] = {"flag": read_flag, "segment": read_segment}


@dataclass(frozen=True)
class FlagState:
    """An immutable state of a flag set; a new one replaces it.

    `revision` is that of the newest change in it, `version` the service's ETag ("" for none).
    `definitions` are those in use, as the service sent them, with their versions.
    `unreadable` has reasons by name, and `broken` the flags that return PARSE_ERROR. Without
    `is_read` flags are read when they are first asked for.
    """

    flags: FlagSet = EMPTY
    source: Source = "defaults"
    revision: int = 0
    version: str = ""
    definitions: Mapping[Key, Definition] = field(default_factory=dict)
    needs: Mapping[Key, frozenset[Key]] = field(default_factory=dict)
    unreadable: Mapping[Key, str] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    is_read: bool = True

    @property
    def error(self) -> BadAnswer | None:
        """Why a part of the newest answer could not be used, if so."""
        if not self.unreadable:
            return None
        reasons = [f"{kind} {name} ({why})" for (kind, name), why in self.unreadable.items()]
        more = ", ..." if len(reasons) > _REMEMBERED else ""
        return BadAnswer(
            f"{len(reasons)} definitions cannot be read and keep their earlier state: "
            f"{', '.join(reasons[:_REMEMBERED])}{more}"
        )

    def flag_set(self) -> FlagSet:
        """Return the set in which broken flags return PARSE_ERROR."""
        if not self.broken:
            return self.flags
        compiled = self.flags.flags
        decides = {name: flag.evaluate for name, flag in compiled.items()}
        decides |= {name: broken_flag(name) for name in self.broken}
        return FlagSet(compiled, self.flags.segments, self.flags.segment_definitions, decides)

    def with_flags_read(self) -> "FlagState":
        """Return the same state with every flag read."""
        if self.is_read:
            return self
        return apply_update(FlagState(), self.to_body(), self.source, self.version)

    def to_body(self) -> dict[str, Any]:
        """Return the state as JSON, which `apply_update` reads."""
        kinds: dict[Kind, list[Definition]] = {"flag": [], "segment": []}
        for (kind, _), definition in self.definitions.items():
            kinds[kind].append(definition)
        return {
            "revision": self.revision,
            "flags": kinds["flag"],
            "segments": kinds["segment"],
        }


def broken_flag(name: str) -> Evaluator:
    """Return the evaluator of a flag that cannot be read."""
    answer = Evaluation(name, 0, None, None, ERROR, error_code=PARSE_ERROR)
    return lambda _context, _now, _flags: answer


def apply_update(
    before: FlagState, body: Mapping[str, Any], source: Source, version: str
) -> FlagState:
    """Return the state after an answer; only changed definitions are read and compiled.

    Raises BadAnswer if it is not a flag set.
    """
    revision = body.get("revision")
    entries: list[tuple[Kind, Any]] = []
    for kind, member in (("segment", "segments"), ("flag", "flags")):
        definitions = body.get(member)
        if type(revision) is not int or not isinstance(definitions, list):
            raise BadAnswer("an answer without `flags`, `segments` and `revision`: no flag set")
        entries += [(kind, definition) for definition in definitions]  # type: ignore[misc]
    return _Update(before.with_flags_read()).apply(entries, source, revision, version)  # type: ignore[arg-type]


class _Update:
    """Applies one answer to a state."""

    def __init__(self, before: FlagState) -> None:
        self._before = before
        self._definitions: dict[Key, Definition] = {}
        self._needs: dict[Key, frozenset[Key]] = {}
        self._unreadable: dict[Key, str] = {}
        self._read: dict[Key, Any] = {}

    def apply(
        self, entries: Iterable[tuple[Kind, Any]], source: Source, revision: int, version: str
    ) -> FlagState:
        for number, (kind, definition) in enumerate(entries):
            self._take(kind, definition, number)
            if number % _AT_A_TIME == 0:
                time.sleep(0)  # lets threads that evaluate flags run first
        before = self._before
        gone = [key for key in before.definitions if key not in self._definitions]
        changed: list[tuple[Key, Any]] = [*self._read.items(), *((key, None) for key in gone)]
        flags = before.flags.with_changes(
            [(name, flag, self._version(name)) for (kind, name), flag in changed if kind == "flag"],
            [(name, segment) for (kind, name), segment in changed if kind == "segment"],
        )
        return FlagState(
            flags,
            source,
            revision,
            version,
            self._definitions,
            self._needs,
            self._unreadable,
            self._broken_flags(),
        )

    def _version(self, name: str) -> int:
        definition = self._definitions.get(("flag", name), {})
        return int(definition.get("version", 0))

    def _take(self, kind: Kind, definition: Any, number: int) -> None:
        if not _is_named(definition):
            self._unreadable[kind, f"#{number}"] = "without name and version"
            return
        key = (kind, definition["name"])
        if self._before.definitions.get(key) == definition:
            self._keep(key)
            return
        try:
            entity = read(kind, definition)
            needs = frozenset(_needs(entity))
        except Exception as error:  # noqa: BLE001 - of a newer release, or of none: this one stays
            self._unreadable[key] = f"{getattr(error, 'pointer', '')}: {type(error).__name__}"
            self._keep(key)
        else:
            self._definitions[key], self._needs[key], self._read[key] = definition, needs, entity

    def _keep(self, key: Key) -> None:
        if key in self._before.definitions:
            self._definitions[key] = self._before.definitions[key]
            self._needs[key] = self._before.needs[key]

    def _broken_flags(self) -> frozenset[str]:
        """Return the flags that were never readable, and all that need an absent definition."""
        there = self._definitions.keys()
        missing = {key for key in self._unreadable if key not in there}
        missing |= {key for needed in self._needs.values() for key in needed if key not in there}
        if not missing:
            return frozenset()
        return frozenset(name for kind, name in reaching(self._needs, missing) if kind == "flag")


def read(kind: Kind, definition: Definition) -> Any:
    """Read one definition as the service sends it; may raise any exception."""
    return _READERS[kind]({name: value for name, value in definition.items() if name != "version"})


def _is_named(definition: Any) -> bool:
    if not isinstance(definition, dict):
        return False
    return type(definition.get("name")) is str and type(definition.get("version")) is int


def _needs(read: Flag | Segment) -> Iterator[Key]:
    if isinstance(read, Segment):
        for name in segments_in(read.when):
            yield "segment", name
        return
    for name, _ in segment_references(read):
        yield "segment", name
    for prerequisite in read.prerequisites:
        yield "flag", prerequisite.flag


def reaching(needs: Mapping[Key, frozenset[Key]], start: Iterable[Key]) -> set[Key]:
    """Return `start` and all that need one of them, directly or not."""
    users: defaultdict[Key, list[Key]] = defaultdict(list)
    for key, needed in needs.items():
        for one in needed:
            users[one].append(key)
    keys, open_keys = set(start), list(start)
    while open_keys:
        fresh = [key for key in users[open_keys.pop()] if key not in keys]
        keys.update(fresh)
        open_keys += fresh
    return keys


def changed_between(before: FlagState, after: FlagState) -> frozenset[str]:
    """Return the flags whose results may differ: they or their dependencies changed."""
    changed = {
        key
        for key in {**before.definitions, **after.definitions}
        if before.definitions.get(key) is not after.definitions.get(key)
    }
    needs = {**before.needs, **after.needs}
    keys = reaching(needs, changed) if changed else set()
    names = {name for kind, name in keys if kind == "flag"}
    return frozenset(names | (before.broken ^ after.broken))
