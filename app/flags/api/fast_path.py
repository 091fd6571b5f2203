"""Evaluations ahead of FastAPI: see app.web.fast_path."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from starlette.datastructures import URL

from app.access.model import Right
from app.changes.follower import Follower
from app.flags.api import ofrep
from app.flags.api.ofrep import OfrepError, OfrepResponse, StreamAddress
from app.flags.api.router_evaluation import BATCH, EVALUATE
from app.flags.api.schemas import BASE
from app.flags.cache import EnvironmentFlags
from app.flags.evaluation.evaluator import FlagEvaluator
from app.web import fast_json as quick_json
from app.web.fast_path import FastPost, FastResponse, PostRequest, Requester
from app.web.freshness import Freshness
from pilothouse_core.strict_json import BadJson

_OFREP = "/ofrep/v1/evaluate/flags"
_MEMBERS_OF_ONE = frozenset({"flag_name", "user_id", "environment", "context"})
_MEMBERS_OF_MANY = frozenset({"flag_names", "user_id", "environment", "context"})
_MOST_NAMES = 1000
_USERS = (str, int, type(None))
_JSON = b"application/json"
# What OpenFeature's clients send; whatever else may be JSON is FastAPI's to judge.
_OFREP_TYPES = frozenset({_JSON, b"application/json; charset=utf-8", None})
_IS_JSON = (b"content-type", _JSON)


@dataclass(frozen=True, slots=True)
class FlagFastPath:
    """What the fast endpoints share."""

    evaluator: FlagEvaluator
    follower: Follower
    fresh: Freshness
    tickets: Callable[[Any, str], str | None]

    def environment(self, name: Any, requester: Requester) -> EnvironmentFlags | None:
        """Return an environment if this replica can answer from its current state."""
        if not requester.may(Right.EVALUATE, name):
            return None
        flag_set = self.evaluator.sets.environments.get(name)
        # An own write that is not followed yet: see revisions.wait_until_followed.
        return None if flag_set is None or flag_set.revision > self.follower.revision else flag_set

    def is_short(self, name: Any, flags: Sequence[str] | None, posted: PostRequest) -> bool:
        """Whether this replica can answer from its current state, in a short time."""
        flag_set = self.environment(name, posted.requester)
        return flag_set is not None and self.evaluator.is_short(flag_set, flags, len(posted.body))

    def answer(self, response: OfrepResponse) -> FastResponse:
        headers = [(b"x-revision", b"%d" % self.follower.revision)]
        if response.tag is not None:
            headers.append((b"etag", response.tag.encode()))
        stale = self.fresh.stale_seconds()
        if stale is not None:
            headers.append((b"x-stale", b"%d" % stale))
        if response.status != 304:  # noqa: PLR2004
            headers.append((b"content-length", b"%d" % len(response.body)))
            headers.append(_IS_JSON)
        return FastResponse(response.status, headers, response.body)


@dataclass(frozen=True, slots=True)
class FastEvaluate:
    """POST /api/v1/feature-flags/evaluate"""

    flags: FlagFastPath
    route: str = EVALUATE

    def answer(self, _: bytes, posted: PostRequest) -> FastResponse | None:
        body = _body(posted, _MEMBERS_OF_ONE)
        if body is None or type(body.get("flag_name")) is not str:
            return None
        environment, flag = body.get("environment", BASE), body["flag_name"]
        flag_set = self.flags.environment(environment, posted.requester)
        if flag_set is None or not flag_set.is_short(flag, len(posted.body)):
            return None
        evaluation = self.flags.evaluator.evaluate_flag(
            environment, flag, body.get("user_id"), body.get("context", {}), len(posted.body)
        )
        return None if evaluation is None else self.flags.answer(OfrepResponse(200, evaluation))


@dataclass(frozen=True, slots=True)
class FastBatch:
    """POST /api/v1/feature-flags/evaluate/batch"""

    flags: FlagFastPath
    route: str = BATCH

    def answer(self, _: bytes, posted: PostRequest) -> FastResponse | None:
        body = _body(posted, _MEMBERS_OF_MANY)
        if body is None or not _are_names(body.get("flag_names")):
            return None
        environment, flags = body.get("environment", BASE), body.get("flag_names")
        if not self.flags.is_short(environment, flags, posted):
            return None
        evaluations = self.flags.evaluator.evaluate_batch(
            environment, flags, body.get("user_id"), body.get("context", {}), len(posted.body)
        )
        return self.flags.answer(OfrepResponse(200, evaluations))


@dataclass(frozen=True, slots=True)
class FastOfrep:
    """POST /ofrep/v1/evaluate/flags/{key}"""

    flags: FlagFastPath
    route: str = _OFREP + "/{key}"

    def answer(self, parameter: bytes, posted: PostRequest) -> FastResponse | None:
        if posted.headers.get(b"content-type") not in _OFREP_TYPES:
            return None
        environment, key = _stated_environment(posted), parameter.decode("latin-1")
        flag_set = self.flags.environment(environment, posted.requester)
        if flag_set is None or key not in flag_set.flags.flags:
            return None
        if not flag_set.is_short(key, len(posted.body)):
            return None
        try:
            response = ofrep.evaluate_one(self.flags.evaluator, environment, key, posted.body)
        except OfrepError:
            return None
        return self.flags.answer(response)


@dataclass(frozen=True, slots=True)
class FastOfrepAll:
    """POST /ofrep/v1/evaluate/flags"""

    flags: FlagFastPath
    route: str = _OFREP

    def answer(self, _: bytes, posted: PostRequest) -> FastResponse | None:
        if posted.headers.get(b"content-type") not in _OFREP_TYPES:
            return None
        environment = _stated_environment(posted)
        if not self.flags.is_short(environment, None, posted):
            return None
        known = posted.headers.get(b"if-none-match")
        ticket = self.flags.tickets(posted.requester, environment)
        host = posted.headers.get(b"host")
        stream = _stream(posted.scheme, posted.server, host, environment, ticket)
        try:
            response = ofrep.evaluate_every(
                self.flags.evaluator,
                environment,
                posted.body,
                None if known is None else known.decode("latin-1"),
                stream,
            )
        except OfrepError:
            return None
        return self.flags.answer(response)


def fast_posts(flags: FlagFastPath) -> Mapping[bytes, FastPost]:
    """Return the endpoints by their paths, as app.web.fast_path looks for them."""
    return {
        EVALUATE.encode(): FastEvaluate(flags),
        BATCH.encode(): FastBatch(flags),
        _OFREP.encode(): FastOfrepAll(flags),
        _OFREP.encode() + b"/": FastOfrep(flags),
    }


def _body(posted: PostRequest, members: frozenset[str]) -> dict[str, Any] | None:
    """Return a body with only these members, if FastAPI would read the same from it."""
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


def _stated_environment(posted: PostRequest) -> str:
    stated = posted.headers.get(b"x-environment")
    return (
        (posted.requester.only_environment or BASE) if stated is None else stated.decode("latin-1")
    )


@lru_cache(maxsize=1000)
def _stream(
    scheme: str,
    server: tuple[str, int | None] | None,
    host: bytes | None,
    environment: str,
    ticket: str | None,
) -> StreamAddress:
    """Return the address of the event stream, from the URL that FastAPI would compute."""
    headers = [] if host is None else [(b"host", host)]
    url = URL(scope={"scheme": scheme, "server": server, "path": "/", "headers": headers})
    return ofrep.stream_address(url.scheme, url.netloc, environment, ticket)
