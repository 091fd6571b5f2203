"""Evaluations ahead of FastAPI: see app.web.hot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from starlette.datastructures import URL

from app.access.model import Right
from app.changes.follower import Follower
from app.flags import ofrep
from app.flags.evaluating import Evaluator
from app.flags.ofrep import Refused, Stream, Told
from app.flags.router_evaluation import BATCH, EVALUATE
from app.flags.schemas import BASE
from app.flags.sets import Environment
from app.web import quick_json
from app.web.freshness import Freshness
from app.web.hot import Asking, HotAnswer, HotPost, Posted
from pilothouse_core.strict_json import BadJson

_OFREP = "/ofrep/v1/evaluate/flags"
_MEMBERS_OF_ONE = frozenset({"flag_name", "user_id", "environment", "context"})
_MEMBERS_OF_MANY = frozenset({"flag_names", "user_id", "environment", "context"})
_MOST_NAMES = 1000
_USERS = (str, int, type(None))
_JSON = b"application/json"
_IS_JSON = (b"content-type", _JSON)


@dataclass(frozen=True, slots=True)
class HotFlags:
    """What the endpoints share."""

    evaluator: Evaluator
    follower: Follower
    fresh: Freshness
    tickets: Callable[[Any, str], str | None]

    def environment(self, name: Any, asking: Asking) -> Environment | None:
        """Return an environment that answers can be made from as it is known here."""
        if not asking.may(Right.EVALUATE, name):
            return None
        found = self.evaluator.sets.environments.get(name)
        # An own write that is not followed yet: see app.changes.revisions.reflected.
        return None if found is None or found.revision > self.follower.revision else found

    def answer(self, told: Told) -> HotAnswer:
        headers = [(b"x-revision", b"%d" % self.follower.revision)]
        if told.tag is not None:
            headers.append((b"etag", told.tag.encode()))
        stale = self.fresh.stale_seconds()
        if stale is not None:
            headers.append((b"x-stale", b"%d" % stale))
        if told.status != 304:  # noqa: PLR2004
            headers.append((b"content-length", b"%d" % len(told.body)))
            headers.append(_IS_JSON)
        return HotAnswer(told.status, headers, told.body)


@dataclass(frozen=True, slots=True)
class HotEvaluate:
    """POST /api/v1/feature-flags/evaluate"""

    flags: HotFlags
    route: str = EVALUATE

    def answer(self, _: bytes, posted: Posted) -> HotAnswer | None:
        body = _body(posted, _MEMBERS_OF_ONE)
        if body is None or type(body.get("flag_name")) is not str:
            return None
        environment = body.get("environment", BASE)
        if self.flags.environment(environment, posted.asking) is None:
            return None
        told = self.flags.evaluator.one(
            environment, body["flag_name"], body.get("user_id"), body.get("context", {})
        )
        return None if told is None else self.flags.answer(Told(200, told))


@dataclass(frozen=True, slots=True)
class HotBatch:
    """POST /api/v1/feature-flags/evaluate/batch"""

    flags: HotFlags
    route: str = BATCH

    def answer(self, _: bytes, posted: Posted) -> HotAnswer | None:
        body = _body(posted, _MEMBERS_OF_MANY)
        if body is None or not _are_names(body.get("flag_names")):
            return None
        environment = body.get("environment", BASE)
        if self.flags.environment(environment, posted.asking) is None:
            return None
        told = self.flags.evaluator.many(
            environment, body.get("flag_names"), body.get("user_id"), body.get("context", {})
        )
        return self.flags.answer(Told(200, told))


@dataclass(frozen=True, slots=True)
class HotOfrep:
    """POST /ofrep/v1/evaluate/flags/{key}"""

    flags: HotFlags
    route: str = _OFREP + "/{key}"

    def answer(self, parameter: bytes, posted: Posted) -> HotAnswer | None:
        environment, key = _environment(posted), parameter.decode("latin-1")
        found = self.flags.environment(environment, posted.asking)
        if found is None or key not in found.flags.flags:
            return None
        try:
            told = ofrep.one(self.flags.evaluator, environment, key, posted.body)
        except Refused:
            return None
        return self.flags.answer(told)


@dataclass(frozen=True, slots=True)
class HotOfrepAll:
    """POST /ofrep/v1/evaluate/flags"""

    flags: HotFlags
    route: str = _OFREP

    def answer(self, _: bytes, posted: Posted) -> HotAnswer | None:
        environment = _environment(posted)
        if self.flags.environment(environment, posted.asking) is None:
            return None
        known = posted.headers.get(b"if-none-match")
        ticket = self.flags.tickets(posted.asking, environment)
        host = posted.headers.get(b"host")
        stream = _stream(posted.scheme, posted.server, host, environment, ticket)
        try:
            told = ofrep.every(
                self.flags.evaluator,
                environment,
                posted.body,
                None if known is None else known.decode("latin-1"),
                stream,
            )
        except Refused:
            return None
        return self.flags.answer(told)


def hot_posts(flags: HotFlags) -> Mapping[bytes, HotPost]:
    """Return the endpoints by their paths, as app.web.hot looks for them."""
    return {
        EVALUATE.encode(): HotEvaluate(flags),
        BATCH.encode(): HotBatch(flags),
        _OFREP.encode(): HotOfrepAll(flags),
        _OFREP.encode() + b"/": HotOfrep(flags),
    }


def _body(posted: Posted, members: frozenset[str]) -> dict[str, Any] | None:
    """Return a body that holds some of these members and means what FastAPI would read in it."""
    if posted.headers.get(b"content-type") != _JSON:
        return None
    try:
        body = quick_json.loads(posted.body)
    except BadJson:
        return None
    if type(body) is not dict or not body.keys() <= members:
        return None
    is_known = type(body.get("user_id")) in _USERS and type(body.get("context", {})) is dict
    return body if is_known and type(body.get("environment", BASE)) is str else None


def _are_names(names: Any) -> bool:
    if names is None:
        return True
    return type(names) is list and len(names) <= _MOST_NAMES and all(type(n) is str for n in names)


def _environment(posted: Posted) -> str:
    stated = posted.headers.get(b"x-environment")
    return (posted.asking.home or BASE) if stated is None else stated.decode("latin-1")


@lru_cache(maxsize=1000)
def _stream(
    scheme: str,
    server: tuple[str, int | None] | None,
    host: bytes | None,
    environment: str,
    ticket: str | None,
) -> Stream:
    """Tell where changes can be heard of, by the address that FastAPI would find out."""
    headers = [] if host is None else [(b"host", host)]
    url = URL(scope={"scheme": scheme, "server": server, "path": "/", "headers": headers})
    return ofrep.stream_of(url.scheme, url.netloc, environment, ticket)
