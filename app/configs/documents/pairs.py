"""The pairs of an environment and a service whose effective configurations exist."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from app.changes.follower import Follower
from app.changes.model import Pointer
from app.configs.model import BASE, KIND, SHARED, DocumentId
from app.rules.judging.model import Pair

Services = Mapping[str, AbstractSet[str]]
"""The names of the services, `_shared` too, that have a document, by environment."""

IsJudged = Callable[[str, str], bool]
"""Returns whether anything judges an environment and a service."""


class PresentDocuments:
    """The documents of services and shared layers that exist: names of services by environment.

    Kept up to date with each pointer. Among thousands, also of schemas and flags, it would take
    milliseconds to look for them again with every shared write.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._services: dict[str, set[str]] = {}
        self._read_all()
        follower.listeners.on_pointer(self._note)
        follower.listeners.on_log_replaced(self._read_all)

    @property
    def services(self) -> Services:
        return self._services

    def services_after(self, changes: Mapping[DocumentId, bool]) -> Services:
        """Return the services once these documents exist, or no longer do."""
        services = dict(self._services)
        for document, exists in changes.items():
            if document.user is None:
                services[document.environment] = set(services.get(document.environment, ()))
                _set_presence(services, document.environment, document.service, exists=exists)
        return services

    def _read_all(self) -> None:
        self._services.clear()
        for pointer in self._follower.pointers.values():
            self._note(pointer)

    def _note(self, pointer: Pointer) -> None:
        entity = pointer.entity
        if entity.kind == KIND and "/" not in entity.name:
            exists = not pointer.deleted
            _set_presence(self._services, entity.environment, entity.name, exists=exists)


def _set_presence(
    services: dict[str, set[str]], environment: str, service: str, *, exists: bool
) -> None:
    present = services.setdefault(environment, set())
    if exists:
        present.add(service)
        return
    present.discard(service)
    if not present:
        del services[environment]


def pairs_of(services: Services, changed: Iterable[DocumentId], is_judged: IsJudged) -> list[Pair]:
    """Return every judged pair to which a changed document contributes, in order.

    `services` are all that have a document after the change. A pair exists if its environment has a
    document, and its service has one there or in `default`; it is judged where `is_judged` says so.
    The document of a user contributes to the configuration of that user alone.
    """
    pairs = {
        pair
        for document in changed
        for pair in _contributes_to(document, services)
        if _exists(pair, services) and is_judged(pair.environment, pair.service)
    }
    return sorted(pairs, key=lambda pair: (pair.environment, pair.service, pair.user or ""))


def all_pairs(services: Services, is_judged: IsJudged) -> list[Pair]:
    """Return every judged pair that exists, in order."""
    return pairs_of(services, [DocumentId(BASE, SHARED)], is_judged)


def _exists(pair: Pair, services: Services) -> bool:
    if pair.user is not None:
        return True
    present = services.get(pair.environment, frozenset())
    if pair.environment != BASE and not present:
        return False
    return pair.service in present or pair.service in services.get(BASE, frozenset())


def _contributes_to(document: DocumentId, services: Services) -> Iterator[Pair]:
    if document.user is not None:
        yield Pair(document.environment, document.service, document.user)
        return
    environments = {*services, BASE} if document.environment == BASE else {document.environment}
    for environment in environments:
        if document.service != SHARED:
            yield Pair(environment, document.service)
            continue
        for service in (
            services.get(environment, frozenset()) | services.get(BASE, frozenset()) | {SHARED}
        ):
            yield Pair(environment, service)
