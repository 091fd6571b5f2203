"""Reading a key and the effective configuration, ahead of FastAPI: see app.web.fast_path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from app.access.model import Right
from app.cache.provenance import x_cache_header
from app.configs.api.schemas import EffectiveOut, KeyOut
from app.configs.documents.effective import Effective, EffectiveReader
from app.configs.documents.memory import BoundedMemory
from app.configs.documents.reader import DocumentReader
from app.configs.errors import BadName, KeyNotFound
from app.configs.model import BASE, SHARED, DocumentId, document_id
from app.configs.secrets import holds_secret, mask_secrets
from app.configs.services.answers import in_effective, tag_of
from app.web.conditional import etag, matches
from app.web.fast_path import LONGEST_QUERY_KEPT, FastResponse, Requester
from app.web.freshness import Freshness

_QUERIES_KEPT = 10_000
_LEFT_TO_FASTAPI = frozenset("/[]\\")
_FRAGMENT_OVERHEAD = 1000  # bytes in addition to the body, roughly
_PARAMETERS = frozenset({"environment", "service_name", "user"})
_ANY_FORM = frozenset({b"*/*", b"application/json"})
_JSON = (b"content-type", b"application/json")
_VARY = (b"vary", b"Accept")
_Name = tuple[str, bytes, bool]  # the key, or "" for all; the query; with fingerprints or without
Encode = Callable[[Effective, str, str, bool], bytes | None]


@dataclass(slots=True)
class ConfigFastPath:
    """What both endpoints share: addresses by query string, encoded answers by version."""

    layers: EffectiveReader
    reader: DocumentReader
    fresh: Freshness
    always: tuple[tuple[bytes, bytes], ...]  # headers of every answer
    _fragments: "BoundedMemory[_Name, _Fragment]"
    _queries: dict[bytes, DocumentId | None] = field(default_factory=dict)

    @classmethod
    def over(
        cls, layers: EffectiveReader, fresh: Freshness, memory_bytes: int, *, tells_source: bool
    ) -> "ConfigFastPath":
        always = (x_cache_header({"hit-local"}),) if tells_source else ()
        reader = layers.reader
        made = cls(layers, reader, fresh, always, BoundedMemory(memory_bytes))
        reader.follower.listeners.on_log_replaced(made._fragments.clear)
        return made

    async def forget_superseded(self) -> None:
        """Drop answers built from superseded versions."""
        await self._fragments.keep(lambda _, fragment: self.reader.is_current(fragment.layers))

    def document(self, query: bytes) -> DocumentId | None:
        """Return the addressed layer; None where FastAPI has to look at the query."""
        try:
            return self._queries[query]
        except KeyError:
            layer = _document_of_query(query)
            if len(query) <= LONGEST_QUERY_KEPT:
                if len(self._queries) >= _QUERIES_KEPT:
                    self._queries.clear()
                self._queries[query] = layer
            return layer

    def answer(
        self,
        key: str,
        query: bytes,
        encode: Encode,
        requester: Requester,
        known: bytes | None,
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> FastResponse | None:
        """Answer a key ("" for all) and query string from its encoded fragment."""
        fingerprints = False
        if requester.name is not None:
            document = self.document(query)
            if document is None:
                return None
            where = document.environment, document.service
            if not requester.may(Right.READ_CONFIGS, *where):
                return None
            fingerprints = requester.may(Right.REVEAL, *where)
        name = key, query, fingerprints
        follower = self.reader.follower
        fragment = self._fragments.get(name)
        if fragment is None or fragment.generation != follower.generation:
            fragment = self._renew_fragment(name, fragment, encode)
            if fragment is None:
                return None
        if fragment.revision > follower.revision:
            return None  # an own write, not followed yet: see revisions.wait_until_followed
        headers = [
            (b"etag", fragment.tag),
            (b"x-revision", b"%d" % follower.revision),
            *extra,
            *self.always,
        ]
        stale = self.fresh.stale_seconds()
        if stale is not None:
            headers.append((b"x-stale", b"%d" % stale))
        if known is not None and matches(known.decode("latin-1"), fragment.tag.decode()):
            return FastResponse(304, headers, b"")
        headers.append((b"content-length", b"%d" % len(fragment.body)))
        headers.append(_JSON)
        return FastResponse(200, headers, fragment.body)

    def _renew_fragment(
        self, name: _Name, old: "_Fragment | None", encode: Encode
    ) -> "_Fragment | None":
        """Encode again only if what contributes has changed since the fragment was made."""
        key, query, fingerprints = name
        document = self.document(query)
        if document is None:
            return None
        # Read before the versions: a change in between makes the fragment look old, not new.
        generation = self.reader.follower.generation
        effective = self.layers.effective_in_memory(document)
        if effective is None:
            return None
        if old is not None and (old.layers, old.revision) == (effective.layers, effective.revision):
            old.generation = generation
            return old
        tag = tag_of(document, effective.layers, fingerprints=fingerprints)
        body = encode(effective, key, tag, fingerprints)
        if body is None:
            return None
        fragment = _Fragment(
            generation, effective.layers, effective.revision, etag(tag).encode(), body
        )
        self._fragments.put(name, fragment, len(body) + _FRAGMENT_OVERHEAD)
        return fragment


@dataclass(slots=True)
class _Fragment:
    """An encoded answer, the versions it was made from and when that was last looked at."""

    generation: int
    layers: tuple[tuple[DocumentId, int], ...]
    revision: int
    tag: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class FastKey:
    """GET /api/v1/config/{key}"""

    configs: ConfigFastPath
    route: str = "/api/v1/config/{key}"
    prefix: str = "/api/v1/config/"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], requester: Requester
    ) -> FastResponse | None:
        # A key in brackets has several spellings.
        if not parameter or not _LEFT_TO_FASTAPI.isdisjoint(parameter) or b"prefer" in headers:
            return None
        try:
            known = headers.get(b"if-none-match")
            return self.configs.answer(parameter, query, _encoded_key, requester, known)
        except KeyNotFound:
            return None


@dataclass(frozen=True, slots=True)
class FastEffective:
    """GET /api/v1/effective"""

    configs: ConfigFastPath
    route: str = "/api/v1/effective"
    prefix: str = "/api/v1/effective"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], requester: Requester
    ) -> FastResponse | None:
        if parameter or b"prefer" in headers:
            return None
        if headers.get(b"accept", b"*/*") not in _ANY_FORM:
            return None
        known = headers.get(b"if-none-match")
        return self.configs.answer("", query, _encoded_effective, requester, known, (_VARY,))


def _document_of_query(query: bytes) -> DocumentId | None:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
        parameters = dict(pairs)
        if len(parameters) != len(pairs) or not parameters.keys() <= _PARAMETERS:
            return None
        return document_id(
            parameters.get("environment", BASE),
            parameters.get("service_name", SHARED),
            parameters.get("user"),
        )
    except (ValueError, BadName):
        return None


def _encoded_key(
    effective: Effective,
    key: str,
    tag: str,
    fingerprints: bool,  # noqa: FBT001 - an Encode
) -> bytes | None:
    answer = in_effective(effective, key, tag)
    if fingerprints and _lacks_fingerprints(effective, answer.value):
        return None
    return (
        KeyOut.of(answer, mask_secrets(answer.value, fingerprints=fingerprints))
        .model_dump_json()
        .encode()
    )


def _encoded_effective(
    effective: Effective,
    _: str,
    __: str,
    fingerprints: bool,  # noqa: FBT001 - an Encode
) -> bytes | None:
    data = effective.merged.data if effective.layers else {}
    if fingerprints and _lacks_fingerprints(effective, data):
        return None
    return (
        EffectiveOut.of(effective, mask_secrets(data, fingerprints=fingerprints))
        .model_dump_json()
        .encode()
    )


def _lacks_fingerprints(effective: Effective, value: object) -> bool:
    """Tell whether secrets were left out of what is remembered: only the store has them."""
    return effective.without_secrets and holds_secret(value)
