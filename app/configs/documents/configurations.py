"""The configurations that exist, as schemas judge them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.changes.follower import catch_up_to
from app.configs.documents.effective import EffectiveReader
from app.configs.documents.pairs import all_pairs, pairs_of
from app.configs.model import SHARED, DocumentId
from app.rules.judging.model import Case, Pair
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.layers import merged_data
from pilothouse_core.trees import Tree


@dataclass(frozen=True, slots=True)
class StoredConfigurations:
    """Implements `app.rules.judging.configurations.Configurations` over this replica's view."""

    effective: EffectiveReader

    @property
    def revision(self) -> int:
        return self.effective.reader.follower.revision

    def pairs(self, is_judged: Callable[[str, str], bool]) -> Sequence[Pair]:
        return all_pairs(self.effective.present.services, is_judged)

    def affected_pairs(
        self, documents: Iterable[tuple[str, str]], is_judged: Callable[[str, str], bool]
    ) -> Sequence[Pair]:
        services = self.effective.present.services
        changed = {_document_of(environment, name) for environment, name in documents}
        # With the first document of an environment, services that have one in `default` have a
        # configuration there as well.
        new = {
            DocumentId(environment, SHARED)
            for environment in {document.environment for document in changed} & services.keys()
            if all(DocumentId(environment, service) in changed for service in services[environment])
        }
        return pairs_of(services, changed | new, is_judged)

    def newest_change(self, pair: Pair) -> int:
        return self.effective.newest(_document(pair))

    async def case(self, pair: Pair) -> Case:
        document = _document(pair)
        remembered = self.effective.effective_in_memory(document)
        if remembered is not None:
            tree = remembered.merged.data
        else:  # not remembered: what is judged would take the place of what is read
            bodies = (await self.effective.bodies([document])).values()
            is_large = sum(body.size for body in bodies) > LARGE_TEXT
            tree = await run_apart(is_large, merged_data, [body.data for body in bodies])
        return Case(pair, tree, tree)

    def layers(self, is_reached: Callable[[str, str], bool]) -> Iterator[Pair]:
        for environment, services in sorted(self.effective.present.services.items()):
            for service in sorted(services):
                if is_reached(environment, service):
                    yield Pair(environment, service)

    async def layer(self, document: Pair) -> Tree:
        return (await self.effective.last_good_layer(_document(document))).merged.data

    async def catch_up(self) -> None:
        await self.effective.reader.follower.catch_up()

    async def follow(self, revision: int) -> None:
        await catch_up_to(self.effective.reader.follower, revision)


def _document_of(environment: str, name: str) -> DocumentId:
    service, _, user = name.partition("/")
    return DocumentId(environment, service, user or None)


def _document(pair: Pair) -> DocumentId:
    return DocumentId(pair.environment, pair.service, pair.user)
