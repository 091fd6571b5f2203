"""Reads what clients did and were told, and what is true in the end, and names every lie and loss.

It knows nothing of how the service works: values are traced through the versions in the store and
through the change log. Each written value is unique, and each write changes one key.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Data: TypeAlias = Mapping[str, Any]
Place: TypeAlias = tuple[str, int]  # a document and one of its versions

DECISIONS = frozenset({409, 412})  # these say of the write, not only of the attempt: it is not
REFUSALS = DECISIONS | {503}
STATUSES = REFUSALS | {200, 201, 504, None}


@dataclass(frozen=True, slots=True)
class Truth:
    """What the store and the service say once all has settled."""

    versions: Mapping[str, Mapping[int, str | None]]
    """By document the text of each version; None where the store has it and does not show it."""
    changes: Sequence[Mapping[str, Any]]
    """What GET /api/v1/changes lists, in its order."""
    current: Mapping[str, Mapping[str, Any] | None]
    """By document what GET answers (version and config_data); None for 404."""
    outcomes: Mapping[str, Mapping[str, Any]]
    """By intent what GET /api/v1/writes/{intent} answers."""


@dataclass(frozen=True, slots=True)
class _Version:
    change: str
    deleted: bool
    data: Data


@dataclass(slots=True)
class _Attempt:
    order: int  # of its answer among all lines
    told: Mapping[str, Any]


@dataclass(slots=True)
class _Write:
    """One write with all attempts at it."""

    value: str
    document: str
    key: str
    expected: int | None
    attempts: dict[int, _Attempt | None] = field(default_factory=dict)

    @property
    def answered_attempts(self) -> list[_Attempt]:
        return [attempt for attempt in self.attempts.values() if attempt is not None]

    @property
    def successful_attempts(self) -> list[_Attempt]:
        return [one for one in self.answered_attempts if one.told["status"] in {200, 201}]

    @property
    def is_refused(self) -> bool:
        """Whether nothing may have been written after all that was said."""
        statuses = [
            attempt.told["status"] if attempt else None for attempt in self.attempts.values()
        ]
        return all(status in REFUSALS for status in statuses) or statuses[-1] in DECISIONS


def check(lines: Iterable[str], truth: Truth) -> list[str]:
    """Return every violation, each as a sentence; none means that nothing was lost or made up."""
    return list(_Case(lines, truth).violations())


class _Case:
    def __init__(self, lines: Iterable[str], truth: Truth) -> None:
        self.truth = truth
        self.writes: dict[str, _Write] = {}
        self.edits: dict[Place, Mapping[str, Any]] = {}  # made in the store itself
        self.hidden: dict[Place, str] = {}  # deleted in the store itself, with the text they had
        self._read_lines(lines)
        self.versions = {
            document: {
                number: _parse_version(text or self.hidden.get((document, number)))
                for number, text in sorted(found.items())
            }
            for document, found in truth.versions.items()
        }
        self.changed = {
            (document, number): _changed_keys(self._data(document, number - 1), version.data)
            for document, found in self.versions.items()
            for number, version in found.items()
            if version is not None
        }
        self.places: defaultdict[str, list[Place]] = defaultdict(list)
        for place, changed in self.changed.items():
            for value in (changed or {}).values():
                if value is not None:
                    self.places[str(value)].append(place)
        self.rows: defaultdict[Place, list[Mapping[str, Any]]] = defaultdict(list)
        for row in truth.changes:
            self.rows[document_of(row), row["version"]].append(row)

    def _read_lines(self, lines: Iterable[str]) -> None:
        by_attempt: dict[int, _Write] = {}
        for order, line in enumerate(lines):
            deed = json.loads(line)
            match deed.pop("did"):
                case "asked":
                    write = self.writes.setdefault(
                        deed["value"],
                        _Write(deed["value"], deed["document"], deed["key"], deed["expected"]),
                    )
                    write.attempts[deed["attempt"]] = None
                    by_attempt[deed["attempt"]] = write
                case "answered":
                    number = deed.pop("attempt")
                    by_attempt[number].attempts[number] = _Attempt(order, deed)
                case "edited":
                    self.edits[deed["document"], deed["version"]] = deed
                case "hidden":
                    self.hidden[deed["document"], deed["version"]] = deed["text"]
                case "looked":
                    pass  # what was read on the way is for `freshness` to judge
                case other:
                    raise ValueError(f"no deed is called {other!r}")

    def _data(self, document: str, number: int) -> Data | None:
        """Return what a version holds, None where nobody can tell."""
        if number == 0:
            return {}
        version = self.versions[document].get(number)
        return None if version is None else version.data

    def violations(self) -> Iterator[str]:
        yield from self._versions()
        yield from self._log()
        yield from self._order()
        yield from self._reads()
        for write in self.writes.values():
            yield from self._once(write)
            yield from self._flaws_of_success(write)
            yield from self._flaws_of_refusal(write)
            yield from self._unknown(write)

    # --- the store ---
    def _versions(self) -> Iterator[str]:
        for document, found in self.versions.items():
            for number, version in found.items():
                where = f"version {number} of {document}"
                if version is None:
                    yield f"{where} cannot be read"
                elif not version.deleted:
                    yield from self._authorship(document, number, where)

    def _authorship(self, document: str, number: int, where: str) -> Iterator[str]:
        """Each version is one write of one client, or one edit, and keeps what was there."""
        changed = self.changed[document, number]
        if changed is None:
            return
        edit = self.edits.get((document, number))
        values = [str(value) for value in changed.values()]
        for key, value in changed.items():
            write = self.writes.get(str(value))
            if value is None:
                yield f"{where} loses {key!r}"
            elif edit is None and (write is None or (write.document, write.key) != (document, key)):
                yield f"{where} holds {value!r} at {key!r}, which nobody wrote there"
        if len(values) > 1:
            yield f"{where} changes more than one key: {sorted(changed)}"
        elif not values:
            yield f"{where} changes nothing"

    # --- the log ---
    def _log(self) -> Iterator[str]:
        for document, found in self.versions.items():
            for number, version in found.items():
                rows = self.rows.get((document, number), [])
                if len(rows) != 1:
                    times = "not" if not rows else f"{len(rows)} times"
                    yield f"version {number} of {document} is {times} in the log"
                for row in rows:
                    yield from self._attribution(document, number, version, row)
        for (document, number), rows in self.rows.items():
            if number not in self.versions.get(document, {}):
                yield (
                    f"revision {rows[0]['revision']} tells of version {number} of {document}, "
                    "which is not in the store"
                )

    def _attribution(
        self, document: str, number: int, version: _Version | None, row: Mapping[str, Any]
    ) -> Iterator[str]:
        if version is None or (document, number) in self.hidden:
            return  # the service cannot tell any more whose it was
        if not version.deleted and (document, number) not in self.edits:
            if row["action"] == "external":
                yield f"version {number} of {document} is ours and logged as external"
            elif row["id"] != version.change:
                yield f"version {number} of {document} is logged under another change's id"
            if changed := self.changed[document, number]:
                value = str(next(iter(changed.values())))
                if row["comment"] != value:
                    comment = row["comment"]
                    yield f"version {number} of {document} is logged as the write {comment!r}"
        elif row["action"] != "external":
            yield f"version {number} of {document} is foreign and logged as {row['action']}"

    def _order(self) -> Iterator[str]:
        last = 0
        logged: Counter[str] = Counter()
        for row in self.truth.changes:
            if row["revision"] <= last:
                yield f"revision {row['revision']} follows revision {last}"
            last = row["revision"]
            document = document_of(row)
            if row["version"] != logged[document] + 1:
                yield (
                    f"the log tells version {row['version']} of {document} "
                    f"after version {logged[document]}"
                )
            logged[document] = row["version"]
        for change, times in Counter(row["id"] for row in self.truth.changes).items():
            if times > 1:
                yield f"change {change} is in the log {times} times"

    # --- what is read ---
    def _reads(self) -> Iterator[str]:
        for document, found in self.versions.items():
            number = max(found)
            version = found[number]
            shown = self.truth.current.get(document)
            if version is None or version.deleted or (document, number) in self.hidden:
                if shown is not None:
                    yield f"{document} is deleted and can be read"
            elif shown is None:
                yield f"{document} cannot be read"
            elif shown["version"] != number or _leaves(shown["config_data"]) != version.data:
                seen = shown["version"]
                yield f"{document} is read as version {seen}, version {number} is stored"

    # --- what clients were told ---
    def _once(self, write: _Write) -> Iterator[str]:
        places = self.places.get(write.value, [])
        if len(places) > 1:
            yield f"{write.value} was written {len(places)} times: {places}"
        for attempt in write.answered_attempts:
            if attempt.told["status"] not in STATUSES:
                yield f"{write.value} was answered {attempt.told['status']}"

    def _flaws_of_success(self, write: _Write) -> Iterator[str]:
        for attempt in write.successful_attempts:
            answer = attempt.told
            place = write.document, answer["version"]
            status = (
                f"{write.value} was answered {answer['status']} with version {answer['version']}"
            )
            if place not in self.places.get(write.value, []):
                yield f"{status}, which does not hold it"
            if write.expected is not None and answer["version"] != write.expected + 1:
                yield f"{status} although it had to follow version {write.expected}"
            revisions = [row["revision"] for row in self.rows.get(place, [])]
            if revisions and answer["revision"] not in revisions:
                yield f"{status} and revision {answer['revision']}, logged as {revisions[0]}"

    def _flaws_of_refusal(self, write: _Write) -> Iterator[str]:
        if write.is_refused and write.value in self.places:
            statuses = {one.told["status"] for one in write.answered_attempts} & REFUSALS
            yield f"{write.value} was answered {sorted(statuses)} and is in the store"
        acknowledged = min((one.order for one in write.successful_attempts), default=None)
        for attempt in write.answered_attempts:
            denied = attempt.told["status"] in REFUSALS
            if denied and acknowledged is not None and attempt.order > acknowledged:
                yield f"{write.value} was answered {attempt.told['status']} after it was written"

    def _unknown(self, write: _Write) -> Iterator[str]:
        for attempt in write.answered_attempts:
            if attempt.told["status"] != 504:
                continue
            outcome = self.truth.outcomes.get(attempt.told["intent"])
            if outcome is None:
                yield f"{write.value} was answered 504 and its outcome is not to be had"
                continue
            places = self.places.get(write.value, [])
            state = f"{write.value} was answered 504, its outcome is {outcome['state']}"
            if outcome["state"] == "applied":
                if (write.document, outcome["version"]) not in places:
                    yield f"{state} and version {outcome['version']} does not hold it"
            elif self._holds(write.document, attempt.told["intent"]):
                yield f"{state} and it is in the store"

    def _holds(self, document: str, intent: str) -> bool:
        """Whether a version was stored under the intent (an edit may carry it on)."""
        return any(
            version is not None
            and version.change == intent
            and (document, number) not in self.edits
            for number, version in self.versions.get(document, {}).items()
        )


def document_of(row: Mapping[str, Any]) -> str:
    folder = "users" if "/" in row["name"] else "layers"
    return f"{folder}/{row['environment']}/{row['name']}"


def _parse_version(text: str | None) -> _Version | None:
    if text is None:
        return None
    found = json.loads(text)
    return _Version(str(found["change"]["id"]), bool(found["deleted"]), _leaves(found["data"]))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _changed_keys(before: Data | None, after: Data) -> dict[str, Any] | None:
    """Return the keys that differ with their new values, None where it cannot be told."""
    if before is None:
        return None
    keys = before.keys() | after.keys()
    return {key: after.get(key) for key in sorted(keys) if before.get(key) != after.get(key)}
