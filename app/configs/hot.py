"""Reading a key and the effective configuration, ahead of FastAPI: see app.web.hot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from app.access.model import Right
from app.cache.provenance import header
from app.configs.answers import in_effective, tag_of
from app.configs.errors import BadName, KeyNotFound
from app.configs.model import BASE, SHARED, DocumentId, document_id
from app.configs.reading import BoundedMemory, Effective, Reader
from app.configs.schemas import EffectiveOut, KeyOut
from app.configs.secrets import masked
from app.web.conditional import etag, matches
from app.web.freshness import Freshness
from app.web.hot import LONGEST_QUERY_KEPT, Asking, HotAnswer

_QUERIES_KEPT = 10_000
_FRAGMENT_OVERHEAD = 1000  # bytes beside the body, roughly
_PARAMETERS = frozenset({"environment", "service_name", "user"})
_ANY_FORM = frozenset({b"*/*", b"application/json"})
_JSON = (b"content-type", b"application/json")
_VARY = (b"vary", b"Accept")
Encode = Callable[[Effective, str, str], bytes]


@dataclass(slots=True)
class HotConfigs:
    """What both endpoints share: addresses by query string, encoded answers by version."""

    reader: Reader
    fresh: Freshness
    always: tuple[tuple[bytes, bytes], ...]  # headers of every answer
    _fragments: "BoundedMemory[tuple[str, bytes], _Fragment]"
    _queries: dict[bytes, DocumentId | None] = field(default_factory=dict)

    @classmethod
    def over(
        cls, reader: Reader, fresh: Freshness, memory_bytes: int, *, tells_source: bool
    ) -> "HotConfigs":
        always = (header({"hit-local"}),) if tells_source else ()
        made = cls(reader, fresh, always, BoundedMemory(memory_bytes))
        reader.follower.doubt(made._fragments.clear)
        return made

    def document(self, query: bytes) -> DocumentId | None:
        """Return the addressed layer; None where FastAPI has to look at the query."""
        try:
            return self._queries[query]
        except KeyError:
            found = _addressed(query)
            if len(query) <= LONGEST_QUERY_KEPT:
                if len(self._queries) >= _QUERIES_KEPT:
                    self._queries.clear()
                self._queries[query] = found
            return found

    def answer(
        self,
        name: tuple[str, bytes],
        encode: Encode,
        asking: Asking,
        known: bytes | None,
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> HotAnswer | None:
        """Answer `name` (a key, "" for all, and the query string) from its encoded fragment."""
        if asking.name is not None:
            document = self.document(name[1])
            if document is None or not asking.may(
                Right.READ_CONFIGS, document.environment, document.service
            ):
                return None
        follower = self.reader.follower
        fragment = self._fragments.get(name)
        if fragment is None or fragment.generation != follower.generation:
            fragment = self._renewed(name, fragment, encode)
            if fragment is None:
                return None
        if fragment.revision > follower.revision:
            return None  # an own write, not followed yet: see app.changes.revisions.reflected
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
            return HotAnswer(304, headers, b"")
        headers.append((b"content-length", b"%d" % len(fragment.body)))
        headers.append(_JSON)
        return HotAnswer(200, headers, fragment.body)

    def _renewed(
        self, name: tuple[str, bytes], old: "_Fragment | None", encode: Encode
    ) -> "_Fragment | None":
        """Encode again only if what contributes has changed since the fragment was made."""
        document = self.document(name[1])
        if document is None:
            return None
        # Read before the versions: a change in between makes the fragment look old, not new.
        generation = self.reader.follower.generation
        effective = self.reader.remembered(document)
        if effective is None:
            return None
        if old is not None and (old.layers, old.revision) == (effective.layers, effective.revision):
            old.generation = generation
            return old
        tag = tag_of(document, effective.layers)
        body = encode(effective, name[0], tag)
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
class HotKey:
    """GET /api/v1/config/{key}"""

    configs: HotConfigs
    route: str = "/api/v1/config/{key}"
    prefix: str = "/api/v1/config/"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], asking: Asking
    ) -> HotAnswer | None:
        if not parameter or "/" in parameter or b"prefer" in headers:
            return None
        try:
            known = headers.get(b"if-none-match")
            return self.configs.answer((parameter, query), _encoded_key, asking, known)
        except KeyNotFound:
            return None


@dataclass(frozen=True, slots=True)
class HotEffective:
    """GET /api/v1/effective"""

    configs: HotConfigs
    route: str = "/api/v1/effective"
    prefix: str = "/api/v1/effective"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], asking: Asking
    ) -> HotAnswer | None:
        if parameter or b"prefer" in headers:
            return None
        if headers.get(b"accept", b"*/*") not in _ANY_FORM:
            return None
        known = headers.get(b"if-none-match")
        return self.configs.answer(("", query), _encoded_effective, asking, known, (_VARY,))


def _addressed(query: bytes) -> DocumentId | None:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
        found = dict(pairs)
        if len(found) != len(pairs) or not found.keys() <= _PARAMETERS:
            return None
        return document_id(
            found.get("environment", BASE), found.get("service_name", SHARED), found.get("user")
        )
    except (ValueError, BadName):
        return None


def _encoded_key(effective: Effective, key: str, tag: str) -> bytes:
    answer = in_effective(effective, key, tag)
    return KeyOut.of(answer, masked(answer.value, fingerprints=False)).model_dump_json().encode()


def _encoded_effective(effective: Effective, _: str, __: str) -> bytes:
    data = masked(effective.merged.data, fingerprints=False) if effective.layers else {}
    return EffectiveOut.of(effective, data).model_dump_json().encode()
