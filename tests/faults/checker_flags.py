"""Reads what clients did to flags and were told, and what Postgres holds, and names every lie.

Every write has a comment of its own, and by it each version is traced to the write that made it.
What was not decided (no answer, or 503: Postgres may have committed unheard) may be there or not,
but not twice; what was acknowledged is there, and what was refused is not.
"""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
UNDECIDED = frozenset({None, 503, 504})
REFUSED = frozenset({404, 409, 412, 422})
NOT_YET = (503, "revision_not_reached")


@dataclass(frozen=True, slots=True)
class FlagTruth:
    """What is there once all is quiet: of one environment, by revision."""

    versions: Sequence[Row]
    """Each version: revision, kind, name, version, action, comment, description."""
    changes: Sequence[Row]
    """The log's rows of flags: revision, name, version, action, comment."""
    newest: Mapping[str, int]
    """By name the version that stands now; deleted flags are left out."""
    shown: Mapping[str, Mapping[str, int]]
    """By replica what its flag set holds."""


def check_flags(lines: Iterable[str], truth: FlagTruth) -> list[str]:
    """Return every violation, each as a sentence; none means that nothing was lost or made up."""
    return list(_Case(truth).violations(map(json.loads, lines)))


class _Case:
    def __init__(self, truth: FlagTruth) -> None:
        self.truth = truth
        self.made: defaultdict[str, list[Row]] = defaultdict(list)
        self.of: defaultdict[str, list[Row]] = defaultdict(list)
        for row in truth.versions:
            self.made[row["comment"]].append(row)
            self.of[row["name"]].append(row)

    def violations(self, deeds: Iterable[Row]) -> Iterator[str]:
        yield from self._log()
        yield from self._order()
        yield from self._replicas()
        answers_by_value: dict[str, list[Row]] = {}
        attempts: dict[int, str] = {}
        known: defaultdict[str, int] = defaultdict(int)
        for deed in deeds:
            match deed["did"]:
                case "asked":
                    answers_by_value.setdefault(deed["value"], [])
                    attempts[deed["attempt"]] = deed["value"]
                case "answered":
                    answers_by_value[attempts[deed["attempt"]]].append(deed)
                case "looked":
                    yield from self._look(deed, known)
        for value in self.made.keys() - answers_by_value.keys():
            yield f"{value} is there, and nobody asked for it"
        for value, answers in answers_by_value.items():
            yield from self._write(value, answers)

    def _log(self) -> Iterator[str]:
        """Each version has its row in the log, and each row its version."""
        members = ("revision", "name", "version", "action", "comment")
        versions = [tuple(row[name] for name in members) for row in self.truth.versions]
        logged = [tuple(row[name] for name in members) for row in self.truth.changes]
        for row in versions:
            if (times := logged.count(row)) != 1:
                yield f"version {row[2]} of {row[1]} is {times} times in the log"
        for row in logged:
            if row not in versions:
                yield f"the log tells version {row[2]} of {row[1]}, which is not there"

    def _order(self) -> Iterator[str]:
        for name, rows in self.of.items():
            numbers = [row["version"] for row in rows]
            if numbers != list(range(1, len(rows) + 1)):
                yield f"the versions of {name} are {numbers}"
            standing = rows[-1]["version"] if rows[-1]["action"] != "deleted" else None
            if self.truth.newest.get(name) != standing:
                yield f"{name} stands at {self.truth.newest.get(name)}, its last is {standing}"

    def _replicas(self) -> Iterator[str]:
        for replica, shown in self.truth.shown.items():
            if shown != self.truth.newest:
                wrong = sorted(dict(shown.items() ^ self.truth.newest.items()))
                yield f"{replica} shows {', '.join(wrong)} otherwise than Postgres"

    def _write(self, value: str, answers: Sequence[Row]) -> Iterator[str]:
        made = self.made[value]
        if len(made) > 1:
            yield f"{value} was written {len(made)} times"
        statuses = [answer["status"] for answer in answers]
        yes = [answer for answer in answers if answer["status"] in {200, 201, 204}]
        for answer in yes:
            if not made:
                yield f"{value} was answered {answer['status']} and is not there"
            elif answer["revision"] != made[0]["revision"]:
                yield f"{value} was told revision {answer['revision']}, not {made[0]['revision']}"
            elif answer["version"] not in {None, made[0]["version"]}:
                yield f"{value} was told version {answer['version']}, not {made[0]['version']}"
        if made and statuses and REFUSED.issuperset(statuses):
            yield f"{value} was answered {statuses} and is there"
        for status in statuses:
            if status not in UNDECIDED | REFUSED | {200, 201, 204}:
                yield f"{value} was answered {status}"

    def _look(self, look: Row, known: dict[str, int]) -> Iterator[str]:
        """Nobody sees the past of what they have seen, nor what was never so."""
        who = f"{look['client']} on {look['replica']}"
        if look["status"] is None or (look["status"], look["code"]) == NOT_YET:
            return
        if look["status"] not in {200, 404}:
            # A replica that has just started while Postgres is unavailable has nothing to show.
            if look["code"] != "flags_unavailable":
                yield f"{who} was answered {look['status']} {look['code']}"
            return
        name, revision = look["name"], look["revision"]
        if revision is not None:
            if revision < known[look["client"]]:
                yield f"{who} went back from revision {known[look['client']]} to {revision}"
            known[look["client"]] = max(known[look["client"]], revision)
        least = self._at(name, max(look["min_revision"], revision or 0))
        if look["status"] == 404:
            if least is not None and not self._is_deleted_after(name, least["version"]):
                yield f"{who} was shown no {name}, whose version {least['version']} stands"
            return
        if least is not None and look["version"] < least["version"]:
            yield f"{who} was shown version {look['version']} of {name}, not {least['version']}"
        rows = [row for row in self.of[name] if row["version"] == look["version"]]
        if [row["description"] for row in rows] != [look["description"]]:
            yield f"{who} was shown a version {look['version']} of {name} that never was"

    def _at(self, name: str, revision: int) -> Row | None:
        rows = self.of[name]
        behind = bisect_right(rows, revision, key=lambda row: int(row["revision"]))
        return rows[behind - 1] if behind else None

    def _is_deleted_after(self, name: str, version: int) -> bool:
        return any(
            row["action"] == "deleted" and row["version"] >= version for row in self.of[name]
        )
