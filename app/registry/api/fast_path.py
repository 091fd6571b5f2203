"""Fast path of discovery and load balancing, ahead of FastAPI: see app.web.fast_path."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import parse_qsl

from app.access.model import Right
from app.changes.follower import Follower
from app.registry.api.responses import InstanceFilter, discovery_response, url_response
from app.registry.balancing import Strategy
from app.registry.errors import BadServiceName, KeyMissing, NoInstance
from app.registry.service import RegistryService, is_addressable
from app.web.conditional import etag, matches
from app.web.fast_path import LONGEST_QUERY_KEPT, FastResponse, Requester
from app.web.freshness import Freshness
from pilothouse_core.names import is_name

_QUERIES_KEPT = 10_000
_DISCOVER = frozenset({"zone", "tag", "version", "environment"})
_URL = frozenset({"strategy", "key", "zone", "environment"})
_STRATEGIES: frozenset[str] = frozenset(get_args(Strategy))
_JSON = (b"content-type", b"application/json")
_Query = Mapping[str, str] | None


@dataclass(slots=True)
class RegistryFastPath:
    """State of both endpoints, which respond only while the view is current."""

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
            # A write of this replica that is not followed yet: see revisions.wait_until_followed.
            and registry.view.revision <= self.follower.revision
        )

    def query(self, known: frozenset[str], text: bytes) -> _Query:
        """Return the parameters; None if FastAPI has to handle them."""
        try:
            return self._queries[known, text]
        except KeyError:
            parsed = _parse_query(known, text)
            if len(text) <= LONGEST_QUERY_KEPT:
                if len(self._queries) >= _QUERIES_KEPT:
                    self._queries.clear()
                self._queries[known, text] = parsed
            return parsed

    def revision(self) -> tuple[bytes, bytes]:
        return b"x-revision", b"%d" % self.follower.revision


def _parse_query(known: frozenset[str], text: bytes) -> _Query:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        return None
    query = dict(pairs)
    if len(query) != len(pairs) or not query.keys() <= known or "\0" in "".join(query.values()):
        return None
    if not is_name(query.get("environment", "default")):
        return None
    return query


@dataclass(frozen=True, slots=True)
class FastDiscover:
    """GET /api/v1/registry/discover/{service}"""

    fast_path: RegistryFastPath
    route: str = "/api/v1/registry/discover/{service}"
    prefix: str = "/api/v1/registry/discover/"

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], requester: Requester
    ) -> FastResponse | None:
        parameters = self.fast_path.query(_DISCOVER, query)
        if parameters is None or b"prefer" in headers or not self.fast_path.is_certain:
            return None
        if not requester.may(Right.DISCOVER) or not is_addressable(parameter):
            return None
        try:
            service = self.fast_path.registry.service(parameter)
        except BadServiceName:
            return None
        protection = self.fast_path.registry.view.protection
        body, digest = discovery_response(
            service,
            InstanceFilter(**parameters),
            stale=False,
            protected=protection.covers(parameter),
        )
        tag = etag(digest)
        response_headers = [self.fast_path.revision(), (b"etag", tag.encode())]
        known = headers.get(b"if-none-match")
        if known is not None and matches(known.decode("latin-1"), tag):
            return FastResponse(304, response_headers, b"")
        return FastResponse(
            200, [*response_headers, (b"content-length", b"%d" % len(body)), _JSON], body
        )


@dataclass(frozen=True, slots=True)
class FastUrl:
    """GET /api/v1/registry/services/{service}/url"""

    fast_path: RegistryFastPath
    route: str = "/api/v1/registry/services/{service}/url"
    prefix: str = "/api/v1/registry/services/"

    def answer(
        self,
        parameter: str,
        query: bytes,
        headers: Mapping[bytes, bytes],  # noqa: ARG002 - not used here
        requester: Requester,
    ) -> FastResponse | None:
        name, _, rest = parameter.rpartition("/")
        parameters = self.fast_path.query(_URL, query)
        if (
            rest != "url"
            or not is_addressable(name)
            or parameters is None
            or not self.fast_path.is_certain
        ):
            return None
        strategy = parameters.get("strategy", "round_robin")
        if strategy not in _STRATEGIES or not requester.may(Right.DISCOVER):
            return None
        registry = self.fast_path.registry
        try:
            choice = registry.choose(
                name,
                strategy,  # type: ignore[arg-type]
                parameters.get("zone"),
                parameters.get("key"),
                parameters.get("environment"),
            )
        except (BadServiceName, KeyMissing, NoInstance):
            return None
        protected = registry.view.protection.covers(name)
        body = url_response(choice, strategy, stale=False, protected=protected)
        length = (b"content-length", b"%d" % len(body))
        return FastResponse(200, [self.fast_path.revision(), length, _JSON], body)
