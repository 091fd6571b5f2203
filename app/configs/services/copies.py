"""Copies of layers; secrets are decrypted at the source and encrypted at the target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import Caller
from app.configs.documents.attempt import Write
from app.configs.documents.edits import PatchKeys
from app.configs.documents.members import checked_key
from app.configs.errors import CopyOntoItself, KeyNotFound
from app.configs.model import Body, DocumentId
from app.configs.secrets import holds_secret, readable_values
from app.configs.services.answers import with_values
from app.configs.services.reveal import RevealService
from app.configs.services.transfer import ImportResult, TransferService
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.trees import SECRET, Tree, contains_key, is_secret, node_at, set_in

_UNOPENED: dict[str, Any] = {SECRET: {"value": None}}  # of a dry run, which opens nothing


@dataclass(frozen=True, slots=True)
class CopyService:
    reveals: RevealService
    transfer: TransferService

    async def copy(
        self,
        source: DocumentId,
        wanted: Sequence[str] | None,
        write: Write,
        caller: Caller,
        *,
        allow_secrets: Callable[[], None],
        dry_run: bool,
    ) -> ImportResult:
        """Merge a layer, or the keys that are wanted of it, into the layer of `write`.

        `allow_secrets` is called where secrets are among them, before any is opened. What goes
        wrong is raised, and then nothing was written.
        """
        if source == write.document:
            raise CopyOntoItself(str(source))
        if not dry_run:
            earlier = await self.transfer.earlier_import(write)
            if earlier is not None:
                return earlier
        body = await self.transfer.reader.require_current(source, with_secrets=True)
        is_large = body.size > LARGE_TEXT
        tree = await run_apart(is_large, _select_tree, source, body, wanted)
        if holds_secret(tree):
            allow_secrets()
            if dry_run:
                sent = {
                    key: _UNOPENED for key, _, value in readable_values(tree) if is_secret(value)
                }
            else:
                opened = await self.reveals.decrypt_tree(source, body, tree, caller)
                sent = {key: {SECRET: {"value": value}} for key, value in opened.items()}
            tree = await run_apart(is_large, with_values, tree, sent, "")
        edit = await run_apart(is_large, PatchKeys, tree, keep_both=True)
        return await self.transfer.merge(replace(write, edit=edit), dry_run=dry_run)


def _select_tree(source: DocumentId, body: Body, wanted: Sequence[str] | None) -> Tree:
    """Return the tree to copy; raises KeyNotFound."""
    if wanted is None:
        return body.data
    tree: Tree = {}
    for key in map(checked_key, wanted):
        if not contains_key(body.data, key):
            raise KeyNotFound(key, str(source))
        set_in(tree, key, node_at(body.data, key))
    return tree
