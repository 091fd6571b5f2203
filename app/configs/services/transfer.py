"""Import and export of configuration files."""

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from collections.abc import (
    Set as AbstractSet,
)
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from app.changes.model import Idempotency
from app.configs.documents.attempt import Notice, Outcome, Write
from app.configs.documents.edits import PatchKeys
from app.configs.documents.members import sent_tree
from app.configs.documents.reader import DocumentReader
from app.configs.documents.writer import DocumentWriter, count_refused_credentials
from app.configs.errors import CredentialInPlainValue, KeyTwice
from app.configs.formats import BadFile, Format, Section, parse, render
from app.configs.model import BASE, Body, DocumentId, Draft, Stamp, document_id
from app.configs.secrets import mask_secrets, masked_diff, without_secrets
from app.configs.services.previews import PreviewService, contributes_to, draft_diff
from app.errors import PilothouseError
from app.rules.judging.model import Pair, Problem
from app.workers import LARGE_TEXT, is_large_request, run_apart
from pilothouse_core.credentials import CredentialRule
from pilothouse_core.diff import Diff
from pilothouse_core.trees import (
    OWN_VALUE,
    Tree,
    child_key,
    contains_key,
    is_section,
    leaves,
    merge_into,
    set_in,
    truncated_text,
    value_at,
)

Status = Literal["created", "updated", "unchanged", "failed"]
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "yaml": "application/yaml",
    "properties": "text/x-java-properties",
    "dotenv": "text/x-dotenv",
}
_NAMED_KEYS = 5
_MOST_NOTES = 100
_NOTHING = Body(0, Stamp("", "created", "", "", ""), "", "")


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of one document of an import."""

    document: DocumentId
    status: Status
    version: int
    revision: int
    changes: Diff
    error: PilothouseError | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The results of an import by document, and notes on omitted sections."""

    documents: Sequence[ImportResult]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class TransferService:
    reader: DocumentReader
    writer: DocumentWriter
    previews: PreviewService

    async def import_file(  # noqa: PLR0913 - what an import is asked for
        self,
        target: DocumentId,
        text: str,
        form: Format,
        template: Write,
        *,
        dry_run: bool,
        allow: Callable[[DocumentId], None],
        types: bool = False,
    ) -> ImportReport:
        """Merge a file into its layers: each document at once, one document after the other.

        `template` says who writes and why. Everything that is wrong with the file itself is
        raised before anything is written, and so is what `allow` raises for a document that it
        names; later failures are reported per document, and raised if nothing at all was written.
        """
        is_large = is_large_request()
        sections = await run_apart(is_large, parse, text, form, types=types)
        trees = await run_apart(is_large, documents_of, sections, target)
        notes = notes_of(sections)
        for document in trees:
            allow(document)
        writes = {
            document: replace(
                template,
                document=document,
                edit=await run_apart(is_large, PatchKeys, tree, keep_both=True),
                idempotency=_of_document(template.idempotency, document),
            )
            for document, tree in trees.items()
        }
        try:
            plans = await self._plan_all(writes.values(), repeats=not dry_run)
        except CredentialInPlainValue as error:
            if not dry_run:
                count_refused_credentials(error)
            raise
        if dry_run:
            return ImportReport(plans, notes)
        outcomes = [await self._carry_out(plan, writes[plan.document]) for plan in plans]
        failures = [imported.error for imported in outcomes if imported.error is not None]
        if failures and not any(imported.revision for imported in outcomes):
            raise failures[0]  # nothing was written: the whole import failed
        return ImportReport(outcomes, notes)

    async def _plan_all(self, writes: Iterable[Write], *, repeats: bool) -> list[ImportResult]:
        """Plan all writes, and judge what they make of every configuration together.

        `repeats`: what the same request wrote before is not planned again. Raises one
        CredentialInPlainValue for all documents, and SchemaViolated.
        """
        results: list[ImportResult] = []
        drafts: dict[DocumentId, Draft] = {}
        refused: list[tuple[str, str, CredentialRule]] = []
        may_read: Callable[[Pair], bool] = lambda _: False  # noqa: E731 - replaced by each write's
        for write in writes:
            may_read = write.may_read
            earlier = await self.earlier_import(write) if repeats else None
            if earlier is not None:
                results.append(earlier)
                continue
            try:
                base, draft = await self.previews.drafter.draft(write)
            except CredentialInPlainValue as error:
                refused.extend(error.found)
                continue
            if draft.data is not None:
                drafts[write.document] = draft
            results.append(await self._plan_result(write.document, base, draft))
        if refused:
            raise CredentialInPlainValue(refused)
        warnings = await self.previews.check(drafts, may_read)
        return [_with_warnings(result, warnings) for result in results]

    async def _plan_result(
        self, document: DocumentId, base: Body | None, draft: Draft
    ) -> ImportResult:
        if draft.data is None:
            return _unchanged_result(document, base)
        is_large = is_large_request() or (base is not None and base.size > LARGE_TEXT)
        changes = await run_apart(is_large, draft_diff, base, draft)
        status: Status = "updated" if draft.action == "updated" else "created"
        version = (base.version if base else 0) + 1
        return ImportResult(document, status, version, 0, changes, notices=draft.findings)

    async def earlier_import(self, write: Write) -> ImportResult | None:
        """Return what the same request did before; raises IdempotencyKeyReused."""
        outcome = await self.writer.repeats.earlier_outcome(write)
        return None if outcome is None else await self._result_of(write.document, outcome)

    async def _carry_out(self, plan: ImportResult, write: Write) -> ImportResult:
        if plan.status == "unchanged" or plan.revision:
            return plan
        try:
            outcome = await self.writer.write(write)
        except PilothouseError as error:
            return replace(plan, status="failed", version=0, error=error, notices=())
        return await self._result_of(write.document, outcome)

    async def _result_of(self, document: DocumentId, outcome: Outcome) -> ImportResult:
        """Return what was written; concurrent writes may have made it differ from the plan."""
        body = outcome.body
        if body is None or not outcome.changed:
            return _unchanged_result(document, body)
        before = await self.reader.last_readable(document, body.version - 1, with_secrets=True)
        known = await self.reader.current_or_last_readable(document)
        is_large = body.size > LARGE_TEXT
        changes = await run_apart(is_large, masked_diff, before or _NOTHING, body, known)
        status: Status = "created" if body.change.action == "created" else "updated"
        revision, notices = outcome.revision, outcome.notices
        return ImportResult(document, status, body.version, revision, changes, notices=notices)

    async def merge(self, write: Write, *, dry_run: bool) -> ImportResult:
        """Carry out one write, or only say what it would change; whatever goes wrong is raised."""
        try:
            [plan] = await self._plan_all([write], repeats=False)
        except CredentialInPlainValue as error:
            if not dry_run:
                count_refused_credentials(error)
            raise
        if dry_run:
            return plan
        outcome = await self._carry_out(plan, write)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def export_layer(
        self, document: DocumentId, form: Format, *, leaves_out: bool = False, types: bool = False
    ) -> tuple[str, Body]:
        """Render one layer; secrets are left out or masked, which an import takes as `keep it`."""
        body = await self.reader.require_current(document)
        visible = without_secrets if leaves_out else _mask
        is_large = body.size > LARGE_TEXT
        text = await run_apart(is_large, lambda: render(visible(body.data), form, types=types))
        return text, body


def _with_warnings(result: ImportResult, warnings: Iterable[Problem]) -> ImportResult:
    """Return a result with the warnings of the configurations that its document contributes to."""
    own = tuple(each for each in warnings if contributes_to(result.document, each.pair))
    return replace(result, notices=(*result.notices, *own)) if own else result


def _mask(data: Tree) -> Tree:
    shown: Tree = mask_secrets(data, fingerprints=False) if data else {}
    return shown


def render_tree(data: Mapping[str, Any], form: Format, *, types: bool = False) -> str:
    return render(data, form, types=types)


def documents_of(sections: Sequence[Any], target: DocumentId) -> dict[DocumentId, Tree]:
    """Sort a file's sections by the environment they are for; the later one wins.

    Raises BadName, BadKey and BadFile.
    """
    trees: dict[DocumentId, Tree] = {}
    for section in sections:
        if section.left_out and not section.profiles:
            continue
        tree = _tree_of_file(section.data)
        if not section.profiles and target.environment == BASE:
            _overrule(trees, tree)
        for environment in section.profiles or (target.environment,):
            document = document_id(environment, target.service, target.user)
            merge_into(trees.setdefault(document, {}), tree, keep_both=True)
    _keep_values_of_sections(trees.values())
    return trees


def _overrule(trees: Mapping[DocumentId, Tree], plain: Tree) -> None:
    """Let a plain section win over those for profiles before it, as in Spring: say it in each."""
    for tree in trees.values():
        for key, value in leaves(plain):
            if contains_key(tree, key) and not is_section(value_at(tree, key)):
                set_in(tree, key, value, keep_both=True)


def notes_of(sections: Sequence[Section]) -> list[str]:
    """Say which sections of a file were left out, wholly or for some, and why."""
    notes = []
    for number, section in enumerate(sections, 1):
        if section.left_out:
            keys = ", ".join(islice(map(truncated_text, section.data), _NAMED_KEYS))
            where = f"imported for {', '.join(section.profiles)} only" if section.profiles else ""
            outcome = where or f"left out, with what it sets ({keys})"
            notes.append(f"section {number}: {outcome}: {section.left_out}")
    return notes[:_MOST_NOTES]


def _keep_values_of_sections(trees: Collection[Tree]) -> None:
    """Mark the value of a key that is a section in another layer of the file: Spring has both."""
    if len(trees) > 1:
        sections = {key for tree in trees for key in _sections(tree)}
        for tree in trees:
            _mark_values(tree, "", sections)


def _sections(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if is_section(value):
            key = child_key(prefix, name)
            yield key
            yield from _sections(value, key)


def _mark_values(tree: Tree, prefix: str, sections: AbstractSet[str]) -> None:
    for name, value in tree.items():
        key = child_key(prefix, name)
        if is_section(value):
            _mark_values(value, key, sections)
        elif name != OWN_VALUE and key in sections and value != {}:
            tree[name] = {OWN_VALUE: value}


def _tree_of_file(members: Mapping[str, Any]) -> Tree:
    try:
        return sent_tree(members, keep_both=True)
    except KeyTwice as error:
        raise BadFile(str(error)) from None


def _unchanged_result(document: DocumentId, body: Body | None) -> ImportResult:
    version = body.version if body is not None else 0
    return ImportResult(document, "unchanged", version, 0, Diff({}, {}, {}))


def _of_document(idempotency: Idempotency | None, document: DocumentId) -> Idempotency | None:
    if idempotency is None:
        return None
    return replace(idempotency, key=f"{idempotency.key}:{document.path}")


def preferred_format(accept: str) -> Format | None:
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
