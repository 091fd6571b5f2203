"""Import and export: files of other programs in, files for other programs out."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.changes.model import Idempotency
from app.configs.edits import merge_in, tree_of
from app.configs.errors import CredentialInPlainValue, KeyConflict
from app.configs.formats import Format, parse, render
from app.configs.model import Body, DocumentId, Finding, Stamp, document_id
from app.configs.reading import Reader
from app.configs.secrets import MASK, ToSeal, masked, masked_diff
from app.configs.writing import Outcome, Write, Writer, count_refused
from app.errors import PilothouseError
from pilothouse_core.credentials import Rule
from pilothouse_core.diff import Diff, diff
from pilothouse_core.trees import SECRET, KeysConflict, Tree, graft, leaves

Status = Literal["created", "updated", "unchanged", "failed"]
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "yaml": "application/yaml",
    "properties": "text/x-java-properties",
    "dotenv": "text/x-dotenv",
}
_NOTHING = Body(0, Stamp("", "created", "", "", ""), "", "")


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one document of an import."""

    document: DocumentId
    status: Status
    version: int
    revision: int
    changes: Diff
    error: PilothouseError | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferService:
    reader: Reader
    writer: Writer

    async def imported(
        self,
        target: DocumentId,
        text: str,
        form: Format,
        template: Write,
        *,
        dry_run: bool,
        allow: Callable[[DocumentId], None],
    ) -> Sequence[Imported]:
        """Merge a file into its layers: each document at once, one document after the other.

        `template` says who writes and why. Everything that is wrong with the file itself is
        raised before anything is written, and so is what `allow` raises for a document that it
        names; what then fails is told per document, and raised if nothing at all was written.
        """
        trees = documents_of(parse(text, form), target)
        for document in trees:
            allow(document)
        if dry_run:
            return await _all(self._planned(document, tree) for document, tree in trees.items())
        writes = {
            document: replace(
                template,
                document=document,
                edit=merge_in(tree),
                idempotency=_of_document(template.idempotency, document),
            )
            for document, tree in trees.items()
        }
        try:
            plans = await _all(
                self._begun(write, trees[document]) for document, write in writes.items()
            )
        except CredentialInPlainValue as error:
            count_refused(error)
            raise
        found = [await self._written(plan, writes[plan.document]) for plan in plans]
        failures = [imported.error for imported in found if imported.error is not None]
        if failures and not any(imported.revision for imported in found):
            raise failures[0]  # nothing was written: the whole import has failed
        return found

    async def _begun(self, write: Write, tree: Tree) -> Imported:
        return await self._replayed(write) or await self._planned(write.document, tree)

    async def _replayed(self, write: Write) -> Imported | None:
        """Return what the same request did before; raises IdempotencyKeyReused."""
        outcome = await self.writer.replayed(write)
        return None if outcome is None else await self._done(write.document, outcome)

    async def _planned(self, document: DocumentId, tree: Tree) -> Imported:
        body = await self.reader.current(document, whole=True)
        draft = merge_in(tree)(document, body)
        if draft.data is None:
            return _unchanged(document, body)
        draft = self.writer.plain_values.judged(document, body, draft)
        assert draft.data is not None
        status: Status = "updated" if draft.action == "updated" else "created"
        before = body.data if body is not None else {}
        changes = _shown(diff(before, draft.data))
        version = (body.version if body else 0) + 1
        return Imported(document, status, version, 0, changes, findings=draft.findings)

    async def _written(self, plan: Imported, write: Write) -> Imported:
        if plan.status == "unchanged" or plan.revision:
            return plan
        try:
            outcome = await self.writer.write(write)
        except PilothouseError as error:
            return replace(plan, status="failed", version=0, error=error, findings=())
        return await self._done(write.document, outcome)

    async def _done(self, document: DocumentId, outcome: Outcome) -> Imported:
        """Tell what was written, which others may have made other than what was planned."""
        body = outcome.body
        if body is None or not outcome.changed:
            return _unchanged(document, body)
        before = await self.reader.last_readable(document, body.version - 1, whole=True)
        changes = masked_diff(before or _NOTHING, body, await self.reader.known(document))
        status: Status = "created" if body.change.action == "created" else "updated"
        revision, findings = outcome.revision, outcome.findings
        return Imported(document, status, body.version, revision, changes, findings=findings)

    async def exported(self, document: DocumentId, form: Format) -> tuple[str, Body]:
        """Render one layer; secrets are masked, which an import takes as `keep it`."""
        body = await self.reader.existing(document)
        return rendered(masked(body.data, fingerprints=False) if body.data else {}, form), body


async def _all(plans: Iterable[Awaitable[Imported]]) -> list[Imported]:
    """Await each; raises one CredentialInPlainValue for all documents."""
    found: list[Imported] = []
    refused: list[tuple[str, str, Rule, str]] = []
    for plan in plans:
        try:
            found.append(await plan)
        except CredentialInPlainValue as error:
            refused.extend(error.found)
    if refused:
        raise CredentialInPlainValue(refused)
    return found


def rendered(data: Mapping[str, Any], form: Format) -> str:
    return render(data, form)


def documents_of(sections: Sequence[Any], target: DocumentId) -> dict[DocumentId, Tree]:
    """Sort a file's sections by the environment they are for; the later one wins.

    Raises BadName, BadKey and KeyConflict.
    """
    trees: dict[DocumentId, Tree] = {}
    for section in sections:
        for environment in section.profiles or (target.environment,):
            document = document_id(environment, target.service, target.user)
            _lay(trees.setdefault(document, {}), tree_of(section.data))
    return trees


def _lay(tree: Tree, addition: Tree) -> None:
    for key, value in leaves(addition):
        try:
            graft(tree, key, value)
        except KeysConflict as error:
            raise KeyConflict(error.outer, error.inner) from None


def _unchanged(document: DocumentId, body: Body | None) -> Imported:
    version = body.version if body is not None else 0
    return Imported(document, "unchanged", version, 0, Diff({}, {}, {}))


def _of_document(idempotency: Idempotency | None, document: DocumentId) -> Idempotency | None:
    if idempotency is None:
        return None
    return replace(idempotency, key=f"{idempotency.key}:{document.path}")


def _shown(found: Diff) -> Diff:
    return Diff(
        added={key: _leaf(value) for key, value in found.added.items()},
        removed={key: _leaf(value) for key, value in found.removed.items()},
        changed={key: (_leaf(old), _leaf(new)) for key, (old, new) in found.changed.items()},
    )


def _leaf(value: Any) -> Any:
    return {SECRET: MASK} if isinstance(value, ToSeal) else masked(value, fingerprints=False)


def chosen_form(accept: str) -> Format | None:
    """Return the format a client prefers, JSON where it has no preference, None for none."""
    best: Format | None = None
    best_quality = 0.0
    for part in accept.split(",")[:50]:
        media, _, parameters = part.partition(";")
        form = _form_of(media.strip().lower())
        quality = _quality(parameters)
        if form is not None and quality > best_quality:
            best, best_quality = form, quality
    return best


def _form_of(media: str) -> Format | None:
    if media in {"", "*/*", "application/*"}:
        return "json"
    bare = media.replace("/x-", "/")
    for form, known in MEDIA_TYPES.items():
        if bare.partition("/")[2] == known.replace("/x-", "/").partition("/")[2]:
            return form
    return {"text/*": "yaml", "text/properties": "properties"}.get(bare)  # type: ignore[return-value]


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
