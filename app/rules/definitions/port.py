"""The port: storage of schemas, templates and policies with all their versions.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_definition_store.py`. Every
method is one transaction, committed before it returns, and raises `DefinitionsUnavailable` within
its deadline.
"""

from collections.abc import Sequence
from typing import Protocol

from app.rules.definitions.model import Definition, DefinitionCommit, Kind


class DefinitionStore(Protocol):
    async def commit(self, commit: DefinitionCommit) -> Sequence[Definition]:
        """Write every edit as the next version, each with its change and its row in the audit.

        A deleted definition that is created again continues its versions. Raises
        DefinitionMoved(kind, name, version) if the current version of one is not the edit's `base`.

        Raises PoliciesMoved if a policy was changed after `policies_at`; nothing was written.

        With `judged_at`, under the lock that `Intents.begin` takes with a guard (docs/protocols.md
        E), raises GuardMoved(revision) if a document that contributes to a configuration in
        `judged` was changed after it, and RelatedIntentOpen if an intent of such a document is
        open. Then nothing was written.
        """
        ...

    async def definitions_after(self, after: int, limit: int) -> Sequence[Definition]:
        """Return the newest version of every definition changed after this revision, ascending.

        Deleted ones too; at most `limit`, to be asked again after the last.
        """
        ...

    async def history(
        self, kind: Kind, name: str, limit: int, before: int | None = None
    ) -> Sequence[Definition]:
        """Return the versions of one definition below version `before`, newest first."""
        ...
