"""The pairs of an environment and a service whose effective configurations exist."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from app.changes.follower import Follower
from app.configs.model import BASE, KIND, SHARED, DocumentId
from app.rules.judging.model import Pair

IsJudged = Callable[[str, str], bool]
"""Returns whether anything judges an environment and a service."""


def documents_in(follower: Follower) -> Iterator[DocumentId]:
    """Yield the documents of services and shared layers that exist."""
    for pointer in follower.pointers.values():
        entity = pointer.entity
        if entity.kind == KIND and not pointer.deleted and "/" not in entity.name:
            yield DocumentId(entity.environment, entity.name)


def pairs_of(
    documents: Iterable[DocumentId], changed: Iterable[DocumentId], is_judged: IsJudged
) -> list[Pair]:
    """Return every judged pair to which a changed document contributes, in order.

    `documents` are all that exist after the change. A pair exists if its environment has a
    document, and its service has one there or in `default`; it is judged where `is_judged` says so.
    The document of a user contributes to the configuration of that user alone.
    """
    services = _services_by_environment(documents)
    found = {
        pair
        for document in changed
        for pair in _contributes_to(document, services)
        if _exists(pair, services) and is_judged(pair.environment, pair.service)
    }
    return sorted(found, key=lambda pair: (pair.environment, pair.service, pair.user or ""))


def all_pairs(documents: Iterable[DocumentId], is_judged: IsJudged) -> list[Pair]:
    """Return every judged pair that exists, in order."""
    return pairs_of(documents, [DocumentId(BASE, SHARED)], is_judged)


def spans_pairs(document: DocumentId) -> bool:
    """Tell whether a document contributes to more than its own pair."""
    return document.user is None and (document.environment == BASE or document.service == SHARED)


def _services_by_environment(documents: Iterable[DocumentId]) -> Mapping[str, set[str]]:
    services: defaultdict[str, set[str]] = defaultdict(set)
    for document in documents:
        services[document.environment].add(document.service)
    return services


def _exists(pair: Pair, services: Mapping[str, set[str]]) -> bool:
    if pair.user is not None:
        return True
    present = services.get(pair.environment, set())
    if pair.environment != BASE and not present:
        return False
    return pair.service in present or pair.service in services.get(BASE, set())


def _contributes_to(document: DocumentId, services: Mapping[str, set[str]]) -> Iterator[Pair]:
    if document.user is not None:
        yield Pair(document.environment, document.service, document.user)
        return
    environments = {*services, BASE} if document.environment == BASE else {document.environment}
    for environment in environments:
        if document.service != SHARED:
            yield Pair(environment, document.service)
            continue
        for service in services.get(environment, set()) | services.get(BASE, set()) | {SHARED}:
            yield Pair(environment, service)
