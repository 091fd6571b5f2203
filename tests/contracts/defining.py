"""What the tests of a store of definitions commit into it."""

from collections.abc import Sequence

from app.changes.model import Action
from app.rules.definitions.model import DefinitionCommit, DefinitionEdit, Kind, Scope

EVERYWHERE = Scope(("*",), ("*",))


def edit(
    name: str = "billing",
    base: int = 0,
    text: str = "{}",
    *,
    kind: Kind = "schema",
    action: Action = "updated",
    scopes: Sequence[Scope] = (EVERYWHERE,),
) -> DefinitionEdit:
    return DefinitionEdit(kind, name, base, text, action, scopes)


def deletion(name: str = "billing", base: int = 1) -> DefinitionEdit:
    return edit(name, base, "", action="deleted", scopes=())


def commit(
    *edits: DefinitionEdit, judged_at: int | None = None, judged: Sequence[Scope] = ()
) -> DefinitionCommit:
    return DefinitionCommit(
        edits, "ana", "because", "request-1", "192.0.2.1", judged_at=judged_at, judged=judged
    )
