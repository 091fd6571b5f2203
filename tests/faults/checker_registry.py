"""Checks of what was discovered while replicas and ZooKeeper came and went.

A history holds these lines; all times are seconds of one clock of the test:

- `registered` (service, id, epoch, at): the registration was acknowledged.
- `silenced` (service, id, at, bound): it died without a word, and has to be gone in time.
- `left` (service, id, began, at): its deregistration was sent and acknowledged.
- `beaten` (service, id, epoch, status, at): what a heartbeat was answered.
- `discovered` (replica, service, began, at, ids, stale, protected): one answer of one replica.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Self

SPREAD_SECONDS = 1.5  # until every replica knows of a registration or of its end
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class RowFact:
    service: str
    id: str
    epoch: int
    term: int
    state: str
    owner: str


@dataclass(frozen=True, slots=True)
class NodeFact:
    service: str
    name: str
    id: str
    tag: tuple[int, int] | None  # None: of somebody else than us
    session: int

    @classmethod
    def read(cls, service: str, name: str, data: bytes, session: int) -> Self:
        body = json.loads(data)
        tag = (body["epoch"], body["term"]) if "epoch" in body else None
        return cls(service, name, body["id"], tag, session)


def check_nodes(rows: Sequence[RowFact], nodes: Sequence[NodeFact]) -> list[str]:
    """Every registered row has one node, with its tag, of its owner's session, and nobody else."""
    found = []
    registered = {(row.service, row.id): row for row in rows if row.state == "registered"}
    ours = [node for node in nodes if node.tag is not None]
    counted = Counter((node.service, node.id) for node in ours)
    found += [f"{key} has {count} nodes" for key, count in counted.items() if count > 1]
    found += [f"{key} is registered without a node" for key in registered.keys() - counted]
    sessions: defaultdict[str, set[int]] = defaultdict(set)
    for node in ours:
        row = registered.get((node.service, node.id))
        if row is None:
            found.append(f"{node.service}/{node.id} has a node and is not registered")
        elif node.tag != (row.epoch, row.term):
            found.append(f"{node.service}/{node.id} is {row.epoch, row.term}, its node {node.tag}")
        else:
            sessions[row.owner].add(node.session)
    found += [
        f"{owner} keeps nodes of {len(of)} sessions"
        for owner, of in sessions.items()
        if len(of) > 1
    ]
    shared = Counter(session for of in sessions.values() for session in of)
    found += [f"session {one} is of {count} owners" for one, count in shared.items() if count > 1]
    return found


def check_quiet(before: Sequence[RowFact], after: Sequence[RowFact]) -> list[str]:
    """While every node stands and nobody registers, no row may move."""
    now = {(row.service, row.id): row for row in after}
    moved = [row for row in before if now.get((row.service, row.id)) != row]
    return [f"{row.service}/{row.id} was kept by {row.owner}, and has moved" for row in moved]


@dataclass(slots=True)
class _Life:
    """One registration: from when it must be discovered, and from when no more."""

    since: float
    epoch: int
    lives_until: float = inf
    gone_by: float = inf


@dataclass(slots=True)
class _Lives:
    of: defaultdict[tuple[str, str], list[_Life]] = field(default_factory=lambda: defaultdict(list))

    def put_down(self, line: Mapping[str, Any]) -> None:
        lives = self.of[line["service"], line["id"]]
        match line["did"]:
            case "registered":
                # One that replaces another has been discovered all the time.
                replaces = bool(lives) and lives[-1].gone_by == inf
                since = lives[-1].since if replaces else line["at"] + SPREAD_SECONDS
                if replaces:
                    lives.pop()
                lives.append(_Life(since, line["epoch"]))
            case "silenced":
                lives[-1].lives_until = line["at"]
                lives[-1].gone_by = line["at"] + line["bound"]
            case "left":
                lives[-1].lives_until = line["began"]
                lives[-1].gone_by = line["at"] + SPREAD_SECONDS


def check_history(lines: Sequence[str]) -> list[str]:
    """Return what must not have happened, in words; empty if all is well."""
    read = [json.loads(line) for line in lines]
    lives = _Lives()
    for line in read:
        if line["did"] in {"registered", "silenced", "left"}:
            lives.put_down(line)
    found = list(_refused_beats(read))
    for line in read:
        if line["did"] == "discovered":
            found += _flaws_of_discovery(line, lives)
    return found[:_SHOWN]


def _flaws_of_discovery(line: Mapping[str, Any], lives: _Lives) -> Iterator[str]:
    ids = set(line["ids"])
    where = f"on replica {line['replica']} at {line['at']:.2f}"
    for (service, id_), of in lives.of.items():
        if service != line["service"]:
            continue
        if id_ not in ids:
            if any(life.since < line["began"] and line["at"] < life.lives_until for life in of):
                yield f"{service}/{id_} lives and is missing {where}"
        elif not any(line["began"] < life.gone_by for life in of):
            late = line["began"] - max(life.gone_by for life in of)
            yield f"{service}/{id_} is still discovered {where}, {late:.2f} s too late"


def _refused_beats(read: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Find heartbeats of the newest registration there was that were not taken."""
    epochs: dict[tuple[str, str], int] = {}
    for line in read:
        if line["did"] == "discovered":
            continue
        key = line["service"], line["id"]
        if line["did"] == "registered":
            epochs[key] = line["epoch"]
        elif line["did"] in {"left", "silenced"}:
            epochs.pop(key, None)
        elif line["did"] == "beaten":
            newest = epochs.get(key)
            if newest == line["epoch"] and line["status"] in {404, 409}:
                status_text = f"its heartbeat was answered {line['status']}"
                yield f"{key[0]}/{key[1]} lives as {newest}, {status_text}"
            if newest is not None and line["epoch"] < newest and line["status"] == 200:
                yield f"{key[0]}/{key[1]} is {newest}, a heartbeat of {line['epoch']} was taken"
