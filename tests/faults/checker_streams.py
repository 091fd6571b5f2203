"""Reads what clients of the stream saw, and names whatever went back or was kept from them.

A client may be told of less than happened: of several changes to one document the latest is
enough. It may read more than it was told of. So there are four rules, for each client across all
replicas that it heard: ids ascend; the versions that it is told of ascend, document by document;
what it reads is not older than what it was told of; and what it saw last is what is true.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def check_streams(lines: Iterable[str], final: Mapping[str, int]) -> list[str]:
    """Return every violation; `final` tells the last version of each document."""
    clients: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in lines:
        deed = json.loads(line)
        clients[deed["client"]].append(deed)
    return [
        violation
        for name, deeds in clients.items()
        for violation in _Client(name).violations(deeds, final)
    ]


class _Client:
    def __init__(self, name: str) -> None:
        self._name = name
        self._last = 0  # of the ids
        self._told: defaultdict[str, int] = defaultdict(int)
        self._seen: defaultdict[str, int] = defaultdict(int)

    def violations(
        self, deeds: Iterable[Mapping[str, Any]], final: Mapping[str, int]
    ) -> Iterator[str]:
        for deed in deeds:
            match deed["did"]:
                case "connected":
                    pass
                case "opened" | "reset":
                    yield from self._goes_on(deed["id"], self._last)
                case "told":
                    yield from self._goes_on(deed["id"], self._last + 1)
                    yield from self._is_told(deed["name"], deed["version"])
                case "read":
                    yield from self._reads(deed["name"], deed["version"])
                case other:
                    raise ValueError(f"no deed is called {other!r}")
        for name, version in final.items():
            if self._seen[name] != version:
                seen = self._seen[name]
                yield f"{self._name} saw version {seen} of {name} last, version {version} is true"

    def _goes_on(self, revision: int, least: int) -> Iterator[str]:
        if revision < least:
            yield f"{self._name} is told of revision {revision} after {self._last}"
        self._last = max(self._last, revision)

    def _is_told(self, name: str, version: int) -> Iterator[str]:
        if version <= self._told[name]:
            yield f"{self._name} is told of version {version} of {name} after {self._told[name]}"
        self._told[name] = max(self._told[name], version)
        self._seen[name] = max(self._seen[name], version)

    def _reads(self, name: str, version: int) -> Iterator[str]:
        if version < self._told[name]:
            announced = self._told[name]
            yield f"{self._name} reads version {version} of {name} and was told of {announced}"
        self._seen[name] = max(self._seen[name], version)
