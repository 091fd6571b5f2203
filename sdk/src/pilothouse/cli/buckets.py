"""Sentences that say how many buckets of a flag a change moves."""

from collections.abc import Iterator, Mapping
from typing import Any


def bucket_sentences(buckets: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield a sentence for the flag, and for each of its rules that serves otherwise.

    None, also from a service that does not say it, yields nothing.
    """
    if buckets is None:
        return
    yield _sentence(buckets)
    for rule in buckets["rules"]:
        yield f"rule {rule['rule_id']}: {_sentence(rule)}"


def _sentence(moves: Mapping[str, Any]) -> str:
    about = "" if moves["exact"] else "about "
    counts = f"{about}{moves['moved']} of {moves['total']} buckets move"
    parts = [
        f"{_name(move['from'])} -> {_name(move['to'])}: {move['buckets']}"
        for move in moves["moves"]
    ]
    return f"{counts} ({', '.join(parts)})" if parts else counts


def _name(variant: str | None) -> str:
    return "the caller's default" if variant is None else variant
