"""Facts about removed keys, bounded in size; the oldest are dropped first. Pure."""

from collections.abc import Mapping

from app.configs.model import KeyFact, fact_size

REMOVALS_ROOM = 32 * 1024  # bytes, in addition to the limit of a document
DROPPED = ""  # no key is called so
_LARGEST_DROPPED = 1024  # bytes of the fact that replaces all dropped ones


def removals_size(facts: Mapping[str, KeyFact]) -> int:
    """Return the bytes that the facts of removed keys take in the stored text."""
    return sum(fact_size(key, fact) for key, fact in facts.items() if fact.removed)


def limit_removals(facts: Mapping[str, KeyFact], room: int = REMOVALS_ROOM) -> dict[str, KeyFact]:
    """Return facts of which those of removed keys take `room` bytes at most.

    Dropped first are the oldest of keys that never were secrets, then those of former secrets. One
    fact under `DROPPED` replaces all of them: since when removals are known, and up to which
    version any of those keys was a secret. What any key had up to then is masked.
    """
    kept = dict(facts)
    size = removals_size(facts)
    if size <= room:
        return kept
    dropped = [kept.pop(DROPPED)] if DROPPED in kept else []
    size += _LARGEST_DROPPED - sum(fact_size(DROPPED, fact) for fact in dropped)
    removed = (item for item in kept.items() if item[1].removed)
    for key, fact in sorted(removed, key=_rank):
        if size <= room:
            break
        size -= fact_size(key, fact)
        dropped.append(kept.pop(key))
    newest = max(dropped, key=lambda fact: fact.version)
    until = max(map(_secret_until, dropped))
    kept[DROPPED] = KeyFact(
        newest.version, newest.actor, newest.at, removed=True, secret_until=until
    )
    return kept


def _rank(item: tuple[str, KeyFact]) -> tuple[int, int, str]:
    """Former secrets come last; of them, those that were secrets for the shortest time come first.

    For the sake of a later one, more versions of all other keys would be masked.
    """
    key, fact = item
    return _secret_until(fact), fact.version, key


def _secret_until(fact: KeyFact) -> int:
    """Return up to which version a key, or something in the list that it was, was a secret."""
    return max((fact.secret_until, *fact.places_until.values()))
