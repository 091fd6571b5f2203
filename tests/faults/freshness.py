"""Reads what clients were shown, and names every answer that was too old or was never true.

Like `checker` it knows nothing of how the service works. The change log tells which version a
document had at which revision, and the store what each version holds.
"""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.faults.checker import Truth, document_of

NOT_YET = (503, "revision_not_reached")  # said to who asked for a revision: better than older


def stale(lines: Iterable[str], truth: Truth) -> list[str]:
    """Return every violation, each as a sentence; none means that nobody was shown the past."""
    return list(_Looks(truth).violations(lines))


class _Looks:
    def __init__(self, truth: Truth) -> None:
        self._data = {
            (document, number): json.loads(text)["data"]
            for document, found in truth.versions.items()
            for number, text in found.items()
            if text is not None
        }
        self._newest = {document: max(found) for document, found in truth.versions.items()}
        self._logged: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in truth.changes:
            self._logged[document_of(row)].append((row["revision"], row["version"]))
        self._known: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._writers: dict[int, tuple[str, str]] = {}

    def violations(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            deed = json.loads(line)
            match deed["did"]:
                case "asked":
                    self._writers[deed["attempt"]] = deed["key"], deed["document"]
                case "answered" if deed["version"] is not None:
                    self._knows(self._writers[deed["attempt"]], deed["version"])
                case "looked":
                    yield from self._look(deed)

    def _knows(self, place: tuple[str, str], version: int) -> None:
        self._known[place] = max(self._known[place], version)

    def _look(self, look: Mapping[str, Any]) -> Iterator[str]:
        who = f"{look['client']} on replica {look['replica']}"
        document, version, wanted = look["document"], look["version"], look["min_revision"]
        if look["status"] != 200:
            if wanted is None or (look["status"], look["code"]) != NOT_YET:
                yield f"{who} was answered {look['status']} {look['code']} for {document}"
            return
        shown = f"{who} was shown version {version} of {document}"
        known = self._known[look["client"], document]
        if version < known:
            yield f"{shown} after version {known}"
        self._knows((look["client"], document), version)
        yield from self._revision(look, shown)
        if look["data"] != self._data.get((document, version)):
            yield f"{shown} and it holds something else"
        if look["settled"] and version != self._newest[document]:
            yield f"{shown} when all was quiet, version {self._newest[document]} is stored"

    def _revision(self, look: Mapping[str, Any], shown: str) -> Iterator[str]:
        document, version = look["document"], look["version"]
        claimed, wanted = look["revision"], look["min_revision"] or 0
        if claimed < wanted:
            yield f"{shown} at revision {claimed}, revision {wanted} was asked for"
        if version < (least := self._version_at(document, wanted)):
            yield f"{shown}, revision {wanted} was asked for and has version {least}"
        if version < (least := self._version_at(document, claimed)):
            yield f"{shown} as of revision {claimed}, which has version {least}"

    def _version_at(self, document: str, revision: int) -> int:
        logged = self._logged[document]
        behind = bisect_right(logged, revision, key=lambda row: row[0])
        return logged[behind - 1][1] if behind else 0
