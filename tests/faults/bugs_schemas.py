"""Seeded bugs: how writes must not be judged, done, so that the checker can show its teeth.

Each is a rule of docs/protocols.md E left out; none is in the service.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from app.changes.errors import RelatedIntentOpen
from app.changes.log.port import Intents
from app.changes.model import Guard, Intent
from app.configs.documents.document_judge import DocumentJudge
from app.configs.documents.intent_recorder import IntentRecorder
from app.rules.definitions.model import Definition, DefinitionCommit
from app.rules.definitions.port import DefinitionStore
from app.wiring import Backends

SCHEMA_BUGS = (
    "judges_without_a_guard",
    "guards_its_own_document",
    "guards_ahead",
    "defines_over_intents",
    "judges_before_it_follows",
)
_FAR_AHEAD = 2**62


def planted_in_judging(bug: str, backends: Backends) -> Backends:
    match bug:
        case "judges_without_a_guard":
            intents = cast("Intents", _Unguarded(backends.changes.intents))
            return replace(backends, changes=replace(backends.changes, intents=intents))
        case "guards_its_own_document":
            DocumentJudge.guard = _guard_alone  # type: ignore[method-assign]
        case "guards_ahead":
            DocumentJudge.guard = _guard_ahead  # type: ignore[method-assign]
        case "judges_before_it_follows":
            IntentRecorder._wait_for_earlier = _wait_only  # type: ignore[method-assign]  # noqa: SLF001
        case _:
            store = cast("DefinitionStore", _Careless(backends.definitions))
            return replace(backends, definitions=store)
    return backends


class _Unguarded:
    """Begins whatever has happened since the judgement."""

    def __init__(self, intents: Intents) -> None:
        self._intents = intents

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intents, name)

    async def begin(self, intent: Intent, _: Guard | None = None) -> Intent:
        return await self._intents.begin(intent)


def _guard_alone(self: object, document: object, revision: int) -> Guard:
    return Guard(revision, covers_related=False)


def _guard_ahead(self: object, document: object, revision: int) -> Guard:
    return Guard(_FAR_AHEAD, covers_related=True)


async def _wait_only(self: Any, attempt: Any, intent_id: str) -> None:
    """Wait until no earlier related intent is under way, without following what they wrote."""
    while (await self.intents.earlier_related(intent_id)).count:
        pass


class _Careless:
    """Commits schemas whatever intents are open."""

    def __init__(self, store: DefinitionStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commit: DefinitionCommit) -> Sequence[Definition]:
        try:
            return await self._store.commit(commit)
        except RelatedIntentOpen:
            return await self._store.commit(replace(commit, judged_at=None))
