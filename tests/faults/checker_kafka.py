"""Compares what a consumer of the topic heard with the log, and names every difference.

Promised is: at least once, and in order for each key. So an event may come again, with whatever
came after it; what counts is where a revision is heard for the first time. A consumer that passes
over revisions not higher than the last one of the key must have handled every change of that key
in the end: nothing is missing, and no first time comes after that of a later revision.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Facts: TypeAlias = Mapping[str, Any]

_TOLD = ("kind", "environment", "name", "version", "action", "deleted")


def check_events(lines: Iterable[str], rows: Iterable[Facts]) -> list[str]:
    """Return every violation; `rows` are those of the table `changes`."""
    heard = [json.loads(line) for line in lines]
    logged = {row["revision"]: row for row in rows}
    by_key: defaultdict[str, list[Facts]] = defaultdict(list)
    for one in heard:
        by_key[one["key"]].append(one)
    found = [*_missing(heard, logged), *_made_up(heard, logged)]
    for key, events in by_key.items():
        found += [*_keys_in_many_partitions(key, events), *_revisions_out_of_order(key, events)]
    return found


def _missing(heard: Sequence[Facts], logged: Mapping[int, Facts]) -> Iterator[str]:
    published = {one["revision"] for one in heard}
    for revision, row in logged.items():
        if revision not in published:
            yield f"revision {revision} of {_key(row)} is not heard of"


def _made_up(heard: Sequence[Facts], logged: Mapping[int, Facts]) -> Iterator[str]:
    for one in heard:
        revision = one["revision"]
        what = f"revision {revision} of {one['key']}"
        row = logged.get(revision)
        if row is None:
            yield f"{what} is heard of and not in the log"
            continue
        facts = {
            "key": one["key"],
            "revision": one["event"]["data"]["revision"],
            "id": one["event"]["id"],
            **{name: one["event"]["data"][name] for name in _TOLD},
        }
        true = {"key": _key(row), **row}
        for name, value in facts.items():
            if value != true[name]:
                yield f"{what} is heard of with the {name} {value!r}, logged is {true[name]!r}"


def _keys_in_many_partitions(key: str, events: Sequence[Facts]) -> Iterator[str]:
    partitions = sorted({one["partition"] for one in events})
    if len(partitions) > 1:
        yield f"{key} is heard of in the partitions {partitions}"


def _revisions_out_of_order(key: str, events: Sequence[Facts]) -> Iterator[str]:
    last = 0
    earlier: set[int] = set()
    for one in events:
        revision = one["revision"]
        if revision < last and revision not in earlier:
            yield f"revision {revision} of {key} is heard of for the first time after {last}"
        earlier.add(revision)
        last = max(last, revision)


def _key(row: Facts) -> str:
    return f"{row['kind']}:{row['environment']}/{row['name']}"
