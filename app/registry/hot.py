"""Discovery and balancing, ahead of FastAPI: see app.web.hot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import parse_qsl

from app.access.model import Right
from app.changes.follower import Follower
from app.registry.answers import discovery_answer, url_answer
from app.registry.balancing import Strategy
from app.registry.errors import BadServiceName, KeyMissing, NoInstance
from app.registry.service import RegistryService
from app.web.conditional import etag, matches
from app.web.freshness import Freshness
from app.web.hot import LONGEST_QUERY_KEPT, Asking, HotAnswer

_QUERIES_KEPT = 10_000
_DISCOVER = frozenset({"zone", "tag", "version"})
_URL = frozenset({"strategy", "key", "zone"})
_STRATEGIES: frozenset[str] = frozenset(get_args(Strategy))
_JSON = (b"content-type", b"application/json")
_Query = Mapping[str, str] | None


@dataclass(slots=True)
class HotRegistry:
    """What both endpoints share: they answer only while nothing is in doubt."""

    registry: RegistryService
    follower: Follower
    fresh: Freshness
    _queries: dict[tuple[frozenset[str], bytes], _Query] = field(default_factory=dict)

    @property
    def is_certain(self) -> bool:
        registry = self.registry
        return (
            not registry.is_stale
            and self.fresh.stale_seconds() is None
            # An own write, not followed yet: see app.changes.revisions.reflected.
            and registry.view.revision <= self.follower.revision
        )

    def query(self, known: frozenset[str], text: bytes) -> _Query:
        """Return the parameters; None where FastAPI has to look at them."""
        try:
            return self._queries[known, text]
        except KeyError:
            found = _parsed(known, text)
            if len(text) <= LONGEST_QUERY_KEPT:
                if len(self._queries) >= _QUERIES_KEPT:
                    self._queries.clear()
                self._queries[known, text] = found
            return found

    def revision(self) -> tuple[bytes, bytes]:
        return b"x-revision", b"%d" % self.follower.revision


def _parsed(known: frozenset[str], text: bytes) -> _Query:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        return None
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= known or "\0" in "".join(found.values()):
        return None
    return found


@dataclass(frozen=True, slots=True)
class HotDiscover:
    """GET /api/v1/registry/discover/{service}"""

    hot: HotRegistry
    route: str = "/api/v1/registry/discover/{service}"
    prefix: str = "/api/v1/registry/discover/"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], asking: Asking
    ) -> HotAnswer | None:
        asked = self.hot.query(_DISCOVER, query)
        if asked is None or b"prefer" in headers or not self.hot.is_certain:
            return None
        if not asking.may(Right.DISCOVER):
            return None
        try:
            service = self.hot.registry.service(parameter)
        except BadServiceName:
            return None
        protection = self.hot.registry.view.protection
        body, digest = discovery_answer(
            service,
            asked.get("zone"),
            asked.get("tag"),
            asked.get("version"),
            stale=False,
            protected=protection.covers(parameter),
        )
        tag = etag(digest)
        told = [self.hot.revision(), (b"etag", tag.encode())]
        known = headers.get(b"if-none-match")
        if known is not None and matches(known.decode("latin-1"), tag):
            return HotAnswer(304, told, b"")
        return HotAnswer(200, [*told, (b"content-length", b"%d" % len(body)), _JSON], body)


@dataclass(frozen=True, slots=True)
class HotUrl:
    """GET /api/v1/registry/services/{service}/url"""

    hot: HotRegistry
    route: str = "/api/v1/registry/services/{service}/url"
    prefix: str = "/api/v1/registry/services/"

    def answer(
        self,
        parameter: str,
        query: bytes,
        headers: Mapping[bytes, bytes],  # noqa: ARG002 - none of them matters here
        asking: Asking,
    ) -> HotAnswer | None:
        name, _, rest = parameter.partition("/")
        asked = self.hot.query(_URL, query)
        if rest != "url" or asked is None or not self.hot.is_certain:
            return None
        strategy = asked.get("strategy", "round_robin")
        if strategy not in _STRATEGIES or not asking.may(Right.DISCOVER):
            return None
        registry = self.hot.registry
        try:
            choice = registry.choose(name, strategy, asked.get("zone"), asked.get("key"))  # type: ignore[arg-type]
        except (BadServiceName, KeyMissing, NoInstance):
            return None
        protected = registry.view.protection.covers(name)
        body = url_answer(choice, strategy, stale=False, protected=protected)
        length = (b"content-length", b"%d" % len(body))
        return HotAnswer(200, [self.hot.revision(), length, _JSON], body)
