"""The use of templates by documents: planned, written, found and shown."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from app.configs.documents.attempt import Write
from app.configs.documents.edits import ApplyTemplate, FormerRendering
from app.configs.documents.reader import DocumentReader
from app.configs.errors import DocumentLost, DocumentMalformed, WriteConflict
from app.configs.model import Body, DocumentId, TemplateUse
from app.configs.secrets import MASK, holds_secret
from app.configs.services.transfer import ImportResult, TransferService
from app.rules.errors import SecretInTemplate, TemplateNotApplicable, TemplateNotFound
from app.rules.services.templates import TemplateService
from app.rules.templates.reading import Template
from app.rules.templates.rendering import refuse_secret_places, render_template
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.merging import changed_keys, merge_three_ways
from pilothouse_core.trees import SECRET, Tree, leaves, value_at

SecretKeys = Callable[[DocumentId, Tree], Sequence[str]]
"""Return the keys of a rendering for a document that are secret by a schema."""
_AT_ONCE: Final = 16  # documents that are read
_ATTEMPTS: Final = 10  # of a use that other uses of the template overtake


@dataclass(frozen=True, slots=True)
class TemplateUsed:
    """The result of a use: the write, and keys in which the document differs, by hand."""

    written: ImportResult
    version: int  # of the template
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundUse:
    """A document that uses a template.

    `differing`: keys of the rendering that the document lacks or has with another value.
    `parameters`: masked where they have become part of a secret.
    """

    document: DocumentId
    version: int
    use: TemplateUse
    parameters: Mapping[str, Any]
    differing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundDocuments:
    """The version of a template that each document uses, in the order of documents.

    `unreadable` counts the documents that cannot be read.
    """

    versions: Mapping[DocumentId, int]
    unreadable: int


class UsingDocuments:
    """Which documents use which templates: read once for each version of a document."""

    def __init__(self, reader: DocumentReader) -> None:
        self._reader = reader
        self._known: dict[DocumentId, tuple[int, Mapping[str, int]]] = {}
        self._reading = asyncio.Lock()

    async def find(self, template: str) -> FoundDocuments:
        """Return the documents that use a template now."""
        async with self._reading:
            present = [each for each in self._reader.documents() if each.user is None]
            self._known = {each: self._known[each] for each in present if each in self._known}
            stale = [each for each in present if self._version(each) != self._known_version(each)]
            for begin in range(0, len(stale), _AT_ONCE):
                await asyncio.gather(*map(self._read, stale[begin : begin + _AT_ONCE]))
            known = {each: self._known[each][1] for each in present if each in self._known}
            versions = {each: used[template] for each, used in known.items() if template in used}
            return FoundDocuments(versions, len(present) - len(known))

    def _version(self, document: DocumentId) -> int:
        pointer = self._reader.pointer(document)
        return 0 if pointer is None else pointer.version

    def _known_version(self, document: DocumentId) -> int | None:
        known = self._known.get(document)
        return None if known is None else known[0]

    async def _read(self, document: DocumentId) -> None:
        self._known.pop(document, None)
        try:
            body = await self._reader.current(document)
        except (DocumentLost, DocumentMalformed):
            return
        if body is not None:
            used = {name: use.version for name, use in body.templates.items()}
            self._known[document] = body.version, used


@dataclass(frozen=True, slots=True)
class TemplateUses:
    """Uses of templates. `secret_keys`: see SecretKeys."""

    reader: DocumentReader
    templates: TemplateService
    transfer: TransferService
    using: UsingDocuments
    secret_keys: SecretKeys

    async def use(
        self, name: str, parameters: Mapping[str, Any], write: Write, *, dry_run: bool
    ) -> TemplateUsed:
        """Merge the current version of a template into the document of `write`.

        With `dry_run`, only say what that would change. Raises TemplateNotFound,
        TemplateNotApplicable, ParametersInvalid, SecretInTemplate, and what a write raises.
        """
        if not dry_run:
            earlier = await self.transfer.earlier_import(write)
            if earlier is not None:
                return await self._earlier_use(name, earlier)
        version = (await self.templates.newest_current(name)).version
        return await self.apply(name, version, parameters, write, dry_run=dry_run)

    async def apply(
        self,
        name: str,
        version: int,
        parameters: Mapping[str, Any] | None,
        write: Write,
        *,
        dry_run: bool,
    ) -> TemplateUsed:
        """The same with a version of the template; None: with the parameters of the last use."""
        for attempt in range(1, _ATTEMPTS + 1):
            edit, kept = await self._plan(name, version, parameters, write.document)
            try:
                written = await self.transfer.merge(replace(write, edit=edit), dry_run=dry_run)
            except WriteConflict:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return TemplateUsed(written, version, kept)
        raise WriteConflict(str(write.document))

    async def _plan(
        self, name: str, version: int, parameters: Mapping[str, Any] | None, document: DocumentId
    ) -> tuple[ApplyTemplate, tuple[str, ...]]:
        """Return the edit for the current version of a document, and the keys that it keeps."""
        template = await self.templates.ready_version(name, version)
        if not template.applies_in(document.environment, document.service):
            raise TemplateNotApplicable(name, str(document))
        body = await self.reader.current(document)
        used = None if body is None or body.deleted else body.templates.get(name)
        if parameters is None and used is None:  # not any more
            raise WriteConflict(str(document))
        given = used.parameters if parameters is None and used is not None else parameters or {}
        is_large = body is not None and body.size > LARGE_TEXT
        tree = await run_apart(is_large, render_template, template, given)
        refuse_secret_places(tree, self.secret_keys(document, tree))
        use = TemplateUse(version, dict(given), template.at)
        if used is None or body is None:
            return ApplyTemplate(name, use, tree), ()
        former = await self._former_rendering(name, used)
        merged = await run_apart(is_large, merge_three_ways, former, body.data, tree)
        if parameters is None:
            old = await self.templates.ready_version(name, used.version)
            hidden = _parameters_of_secrets(old, former, body)
            _refuse_hidden_parameters(template, changed_keys(tree, body.data), merged.kept, hidden)
        return ApplyTemplate(name, use, tree, FormerRendering(used, former)), merged.kept

    async def _former_rendering(self, name: str, used: TemplateUse) -> Tree:
        template = await self.templates.ready_version(name, used.version)
        return render_template(template, used.parameters)

    async def _earlier_use(self, name: str, earlier: ImportResult) -> TemplateUsed:
        """Return what the same request did before."""
        body = await self.reader.version(earlier.document, earlier.version)
        use = body.templates[name]
        tree = await self._former_rendering(name, use)
        return TemplateUsed(earlier, use.version, changed_keys(tree, body.data))

    async def find(self, name: str) -> FoundDocuments:
        """Return the documents that use a template; raises TemplateNotFound."""
        if self.templates.newest(name) is None:
            raise TemplateNotFound(name, (each.name for each in self.templates.list_current()))
        return await self.using.find(name)

    async def show(self, name: str, document: DocumentId) -> FoundUse | None:
        """Return how a document uses a template, None if it does not any more."""
        body = await self.reader.current(document)
        use = None if body is None or body.deleted else body.templates.get(name)
        if body is None or use is None:
            return None
        template = await self.templates.ready_version(name, use.version)
        return await run_apart(body.size > LARGE_TEXT, _found_use, document, body, use, template)


def _found_use(document: DocumentId, body: Body, use: TemplateUse, template: Template) -> FoundUse:
    tree = render_template(template, use.parameters)
    secret = _parameters_of_secrets(template, tree, body)
    shown = {
        name: {SECRET: MASK} if name in secret else value for name, value in use.parameters.items()
    }
    return FoundUse(document, body.version, use, shown, changed_keys(tree, body.data))


def _parameters_of_secrets(template: Template, tree: Tree, body: Body) -> frozenset[str]:
    """Return the parameters from which keys got values that are or were secrets."""
    parameters: Iterable[frozenset[str]] = (
        template.parameters_at(key)
        for key, _ in leaves(tree)
        if holds_secret(value_at(body.data, key)) or _was_secret(body, key)
    )
    return frozenset().union(*parameters)


def _refuse_hidden_parameters(
    template: Template, written: Iterable[str], kept: Collection[str], hidden: frozenset[str]
) -> None:
    """Raise SecretInTemplate if an upgrade would plainly write what has become a secret since."""
    for key in written if hidden else ():
        if key not in kept and template.parameters_at(key) & hidden:
            raise SecretInTemplate(key)


def _was_secret(body: Body, key: str) -> bool:
    fact = body.keys.get(key)
    return fact is not None and bool(fact.secret_until or fact.places_until)
