"""The use cases of configuration by key."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.configs.documents.attempt import Outcome
from app.configs.documents.effective import Effective
from app.configs.documents.members import checked_key
from app.configs.documents.overlays import OverlaidReader
from app.configs.documents.reader import DocumentReader
from app.configs.errors import KeyNotFound
from app.configs.model import Body, DocumentId, layers_of
from app.configs.secrets import (
    mask_history,
)
from app.configs.services.answers import (
    KeyAnswer,
    in_effective,
    in_layer,
    layer_tag_of,
    tag_of,
    with_values,
)
from app.configs.services.defaults import defaults_layers, with_defaults
from app.configs.services.read_options import (
    AS_STORED,
    ReadOptions,
    key_in,
    relax_names,
    resolve_values,
    with_placeholders,
)
from app.rules.catalog import DefinitionCatalog
from app.workers import LARGE_TEXT, Slices, in_slices, run_apart
from pilothouse_core.keys import is_below
from pilothouse_core.placeholders import Resolution, RevealedSecret
from pilothouse_core.trees import (
    contains_key,
    leaves,
)

_ALL = 2**31


@dataclass(frozen=True, slots=True)
class KeyService:
    reader: DocumentReader
    overlaid: OverlaidReader
    catalog: DefinitionCatalog

    def tag(
        self,
        document: DocumentId,
        form: str = "json",
        own: int | None = None,
        *,
        fingerprints: bool = False,
        options: ReadOptions = AS_STORED,
    ) -> str:
        """Tag the effective configuration; `own` overrides the addressed layer's version.

        Raises DefinitionsUnavailable if the options need schemas that have not been read yet.
        """
        pointers = ((layer, self.reader.pointer(layer)) for layer in layers_of(document))
        pairs = [
            (layer, pointer.version)
            for layer, pointer in pointers
            if pointer and not pointer.deleted
        ]
        if own is not None:
            pairs = [(layer, own if layer == document else version) for layer, version in pairs]
        if options.defaults:
            mounted = self.catalog.schemas_of(document.environment, document.service)
            defaults = defaults_layers(document, mounted)
            pairs = [*((layer, layer.version) for layer, _ in defaults), *pairs]
        return tag_of(document, pairs, options.form_of(form), fingerprints=fingerprints)

    def layer_tag(self, document: DocumentId, *, fingerprints: bool = False) -> str:
        pointer = self.reader.pointer(document)
        version = pointer.version if pointer is not None else 0
        return layer_tag_of(version, fingerprints=fingerprints)

    def newest(self, document: DocumentId, *, resolve: bool = True) -> int:
        """Return the revision of the newest change that contributes to an answer."""
        return self.overlaid.layers.newest(document) if resolve else self._revision(document)

    async def effective(
        self, document: DocumentId, *, with_secrets: bool = False, options: ReadOptions = AS_STORED
    ) -> Effective:
        effective = await self.overlaid.effective(document, options.arm, with_secrets=with_secrets)
        if options.defaults:
            mounted = self.catalog.schemas_of(document.environment, document.service)
            effective = await run_apart(
                effective.size > LARGE_TEXT, with_defaults, effective, mounted
            )
        if options.relaxed_names and effective.layers:
            effective = await run_apart(effective.size > LARGE_TEXT, relax_names, effective)
        return effective

    async def get(
        self,
        document: DocumentId,
        key: str,
        *,
        resolve: bool,
        with_secrets: bool = False,
        options: ReadOptions = AS_STORED,
    ) -> KeyAnswer:
        """Answer the effective value, or with `resolve=False` the addressed layer's own.

        Only a `with_secrets` answer has fingerprints; see `DocumentReader`.
        """
        key = checked_key(key)
        if resolve:
            tag = self.tag(document, fingerprints=with_secrets, options=options)
            effective = await self.effective(document, with_secrets=with_secrets, options=options)
            answer = in_effective(effective, key_in(effective, key, options), tag)
            if not options.resolve_placeholders:
                return answer
            resolution = await self.resolve(effective, options, answer.key)
            return with_placeholders(effective, answer, resolution)
        body = await self.reader.current(document, with_secrets=with_secrets)
        if body is None:
            raise KeyNotFound(key, str(document))
        tag = layer_tag_of(body.version, fingerprints=with_secrets)
        return in_layer(document, body, key, tag=tag, revision=self._revision(document))

    async def resolve(
        self,
        effective: Effective,
        options: ReadOptions,
        key: str = "",
        opened: Mapping[str, Any] | None = None,
    ) -> Resolution:
        """Resolve the placeholders of a key or of all; secrets are as they are, or `opened`.

        Raises PlaceholderCycle and PlaceholderLimit.
        """

        def work() -> Resolution:
            data = effective.merged.data
            if opened:
                data = with_values(data, {k: RevealedSecret(v) for k, v in opened.items()}, "")
            return resolve_values(effective, data, options, key)

        return await run_apart(effective.size > LARGE_TEXT, work)

    async def get_version(self, document: DocumentId, key: str, version: int) -> KeyAnswer:
        """Answer what the addressed layer said in one version, masked as history is."""
        key = checked_key(key)
        body = await self.reader.undeleted_version(document, version)
        current = await self.reader.current_or_last_readable(document)
        return self.answer_of_version(document, body, current, key)

    def answer_of_version(
        self, document: DocumentId, body: Body, current: Body, key: str
    ) -> KeyAnswer:
        """Answer what `body` said of a key, masked by what is a secret in `current`."""
        visible = replace(body, data=mask_history(body, current, fingerprints=False))
        tag, revision = str(body.version), self._revision(document)
        return in_layer(document, visible, key, tag=tag, revision=revision)

    def _revision(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.revision if pointer is not None else 0

    async def list_keys(  # noqa: PLR0913 - what a list is asked for
        self,
        document: DocumentId,
        wanted: Sequence[str],
        prefix: str,
        *,
        resolve: bool,
        with_secrets: bool = False,
        after: str = "",
        limit: int = _ALL,
    ) -> Sequence[KeyAnswer]:
        """Answer the leaves below `prefix`, or the keys of `wanted` that exist, by name.

        Only those behind `after`, and the first `limit` of them.
        """
        wanted = [checked_key(key) for key in wanted]
        prefix = checked_key(prefix) if prefix else ""
        effective = await self.effective_or_layer(
            document, resolve=resolve, with_secrets=with_secrets
        )
        tag = self.tag(document) if resolve else self.layer_tag(document)
        is_large = effective.size > LARGE_TEXT
        chosen = await run_apart(is_large, _select_keys, effective, wanted, prefix, after)
        return await in_slices(chosen[:limit], lambda key: in_effective(effective, key, tag))

    async def list_keys_of_layers(
        self,
        layers: Sequence[DocumentId],
        wanted: Sequence[str],
        prefix: str,
        *,
        with_secrets: Callable[[DocumentId], bool],
        after: str = "",
        limit: int = _ALL,
    ) -> Sequence[KeyAnswer]:
        """Answer the same of several layers, each by itself, one after the other.

        `after` is a key of the first of them.
        """
        wanted = [checked_key(key) for key in wanted]
        prefix = checked_key(prefix) if prefix else ""
        answers: list[KeyAnswer] = []
        slices = Slices()
        for place, layer in enumerate(layers):
            await slices.rest()
            alone = await self.overlaid.layers.last_good_layer(
                layer, with_secrets=with_secrets(layer)
            )
            begin = "" if place else after
            is_large = alone.size > LARGE_TEXT
            chosen = await run_apart(is_large, _select_keys, alone, wanted, prefix, begin)
            tag = self.layer_tag(layer)
            answers += [in_effective(alone, key, tag) for key in chosen[: limit - len(answers)]]
            if len(answers) >= limit:
                break
        return answers

    async def effective_or_layer(
        self, document: DocumentId, *, resolve: bool, with_secrets: bool
    ) -> Effective:
        read = self.overlaid.layers.effective if resolve else self.overlaid.layers.layer_only
        return await read(document, with_secrets=with_secrets)

    async def bulk(
        self, items: Sequence[tuple[DocumentId, str]], *, with_secrets: bool = False
    ) -> tuple[list[KeyAnswer], list[tuple[DocumentId, str]]]:
        """Answer many effective values; returns the answers and what is missing."""
        answers: list[KeyAnswer] = []
        missing: list[tuple[DocumentId, str]] = []
        slices = Slices()
        for document, key in items:
            await slices.rest()
            try:
                answers.append(
                    await self.get(document, key, resolve=True, with_secrets=with_secrets)
                )
            except KeyNotFound:
                missing.append((document, key))
        return answers, missing

    async def written_key(
        self, document: DocumentId, key: str, outcome: Outcome, *, fingerprints: bool = False
    ) -> KeyAnswer:
        """Answer a key as the write left it in its layer."""
        body = outcome.body
        if body is None:
            raise KeyNotFound(key, str(document))
        tag = self.tag(document, own=body.version, fingerprints=fingerprints)
        return in_layer(document, body, key, tag=tag, revision=outcome.revision)


def _select_keys(
    effective: Effective, wanted: Sequence[str], prefix: str, after: str
) -> Sequence[str]:
    data = effective.merged.data
    names: Iterable[str] = wanted or (key for key, _ in leaves(data))
    chosen = {
        key
        for key in names
        if key > after and contains_key(data, key) and (key == prefix or is_below(key, prefix))
    }
    return sorted(chosen)
