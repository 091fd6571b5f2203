"""Reading a key and the effective configuration, ahead of FastAPI: see app.web.fast_path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from app.access.model import Right
from app.cache.provenance import x_cache_header
from app.configs.api.schemas import EffectiveOut, KeyOut
from app.configs.documents.candidates import ReleaseArm
from app.configs.documents.effective import Effective
from app.configs.documents.memory import BoundedMemory
from app.configs.documents.overlays import OverlaidReader
from app.configs.documents.reader import DocumentReader
from app.configs.errors import BadName, KeyNotFound
from app.configs.model import BASE, SHARED, DocumentId, document_id
from app.configs.secrets import holds_secret, mask_secrets
from app.configs.services.answers import in_effective, tag_of
from app.configs.services.read_options import ReadOptions
from app.web.conditional import etag, matches
from app.web.fast_path import LONGEST_QUERY_KEPT, FastResponse, Requester
from app.web.freshness import Freshness
from pilothouse_core.names import is_instance_id

_QUERIES_KEPT = 10_000
_LEFT_TO_FASTAPI = frozenset("/[]\\")
_FRAGMENT_OVERHEAD = 1000  # bytes in addition to the body, roughly
_PARAMETERS = frozenset({"environment", "service_name", "user", "instance"})
_INSTANCE = b"instance="
_ANY_FORM = frozenset({b"*/*", b"application/json"})
_JSON = (b"content-type", b"application/json")
_VARY = (b"vary", b"Accept")
# The key, or "" for all; the query, without the instance; with fingerprints or without; the arm.
_Name = tuple[str, bytes, bool, str]
Encode = Callable[[Effective, str, str, bool], bytes | None]


@dataclass(slots=True)
class ConfigFastPath:
    """What both endpoints share: addresses by query string, encoded answers by version."""

    overlaid: OverlaidReader
    reader: DocumentReader
    fresh: Freshness
    always: tuple[tuple[bytes, bytes], ...]  # headers of every answer
    _fragments: "BoundedMemory[_Name, _Fragment]"
    _queries: "dict[bytes, _Address | None]" = field(default_factory=dict)

    @classmethod
    def over(
        cls, overlaid: OverlaidReader, fresh: Freshness, memory_bytes: int, *, tells_source: bool
    ) -> "ConfigFastPath":
        always = (x_cache_header({"hit-local"}),) if tells_source else ()
        reader = overlaid.layers.reader
        made = cls(overlaid, reader, fresh, always, BoundedMemory(memory_bytes))
        reader.follower.listeners.on_log_replaced(made._fragments.clear)
        return made

    async def forget_superseded(self) -> None:
        """Drop answers built from superseded versions."""
        await self._fragments.keep(lambda _, fragment: self.reader.is_current(fragment.layers))

    def address(self, query: bytes) -> "_Address | None":
        """Return what a query addresses; None where FastAPI has to look at it."""
        try:
            return self._queries[query]
        except KeyError:
            address = _address_of_query(query)
            if len(query) <= LONGEST_QUERY_KEPT:
                if len(self._queries) >= _QUERIES_KEPT:
                    self._queries.clear()
                self._queries[query] = address
            return address

    def _arm(self, address: "_Address") -> ReleaseArm | None:
        """Return the arm of an instance, which is computed again when a release has changed."""
        candidates = self.overlaid.candidates
        if address.instance is not None and address.generation != candidates.generation:
            generation = candidates.generation
            address.arm = candidates.arm(address.document, address.instance)
            address.generation = generation
        return address.arm

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
        fingerprints, is_named = False, _INSTANCE in query
        address, arm = None, None
        if requester.name is not None or is_named:
            address = self.address(query)
            if address is None:
                return None
            where = address.document.environment, address.document.service
            if not requester.may(Right.READ_CONFIGS, *where):
                return None
            fingerprints = requester.name is not None and requester.may(Right.REVEAL, *where)
            query, arm = address.query, self._arm(address)
        name = key, query, fingerprints, "" if arm is None else arm.label
        follower = self.reader.follower
        fragment = self._fragments.get(name)
        if fragment is None or fragment.generation != follower.generation:
            fragment = self._renew_fragment(name, fragment, encode, arm)
            if fragment is None:
                return None
        if fragment.revision > follower.revision:
            return None  # an own write, not followed yet: see revisions.wait_until_followed
        if address is not None and address.instance is not None:
            self._record_read(address, fragment, arm, requester)
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

    def _record_read(
        self,
        address: "_Address",
        fragment: "_Fragment",
        arm: ReleaseArm | None,
        requester: Requester,
    ) -> None:
        """Note what the service itself has read; not what others read in its name."""
        document = address.document
        may_report = requester.may(Right.REPORT_RELEASES, document.environment, document.service)
        if may_report and address.instance is not None:
            tag, revision = fragment.version_tag, fragment.revision
            self.overlaid.candidates.record_read(document, address.instance, tag, revision, arm)

    def _renew_fragment(
        self, name: _Name, old: "_Fragment | None", encode: Encode, arm: ReleaseArm | None
    ) -> "_Fragment | None":
        """Encode again only if what contributes has changed since the fragment was made."""
        key, query, fingerprints, _ = name
        address = self.address(query)
        if address is None:
            return None
        document = address.document
        # Read before the versions: a change in between makes the fragment look old, not new.
        generation = self.reader.follower.generation
        effective = self.overlaid.effective_in_memory(document, arm)
        if effective is None:
            return None
        if old is not None and (old.layers, old.revision) == (effective.layers, effective.revision):
            old.generation = generation
            return old
        form = ReadOptions(arm=arm).form_of()
        # A layer that only a candidate has is no version.
        versions = [named for named in effective.layers if named[1]]
        tag = tag_of(document, versions, form, fingerprints=fingerprints)
        body = encode(effective, key, tag, fingerprints)
        if body is None:
            return None
        fragment = _Fragment(
            generation, effective.layers, effective.revision, etag(tag).encode(), body, tag
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
    version_tag: str


@dataclass(slots=True)
class _Address:
    """What a query addresses; `query` is the same without the instance.

    `arm` is that of the instance, as of the `generation` of releases.
    """

    document: DocumentId
    query: bytes
    instance: str | None = None
    generation: int = -1
    arm: ReleaseArm | None = None


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


def _address_of_query(query: bytes) -> _Address | None:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
        parameters = dict(pairs)
        if len(parameters) != len(pairs) or not parameters.keys() <= _PARAMETERS:
            return None
        document = document_id(
            parameters.get("environment", BASE),
            parameters.get("service_name", SHARED),
            parameters.get("user"),
        )
        instance = parameters.pop("instance", None)
        if instance is None:
            return _Address(document, query)
        if not is_instance_id(instance):
            return None
        return _Address(document, urlencode(parameters).encode(), instance)
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
