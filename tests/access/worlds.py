"""Two services that differ only in what some callers may not read, and what those are told."""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from tests.access.matrix import ASKS, CALLERS, PLACES, Ask
from tests.servers.service import SERVE, ServiceProcess

ADMIN = "administrator-of-two-worlds-and-of-nothing-else"
REQUIRED = {
    "PILOTHOUSE_ACCESS": "required",
    "PILOTHOUSE_ADMIN_TOKEN": ADMIN,
    "PILOTHOUSE_TOKEN_PEPPER": "pepper-of-two-worlds-and-of-nothing-else",
    "UNKNOWN_CALLER_LIMIT": "0",
}
# Each is scoped to the environment `staging` and the service `shop`.
SCOPED = ("service", "client", "viewer", "revealer", "editor", "publisher", "administrator")
SHOP = "environment=staging&service_name=shop"
# Names of what is hidden, and of what never is there.
_NAMES = ("bank", "atm", "vault", "shop")
_USERS = ("ana", "bob")
_SPANS = ("/api/v1/config", "/api/v1/feature-flags", "/api/v1/segments")
# A stream is read apart, a token is new each time, and the audit is asked by kind (see below).
_ASKED_APART = ("/stream", "/tokens", "/audit")
_HEX = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_OF_THIS_RUN = re.compile(
    rb'ticket=[\w.-]+|"milliseconds":[\d.]+|"cache_hit_ratio":[\d.]+|127\.0\.0\.1:\d+|"stale":\w+'
)
# Denied attempts are written a little later, so that rows have other numbers in each run.
_OF_AUDIT = re.compile(rb'"seq":\d+|"next":"[\w-]+"')
# On a busy machine the log may be silent for a moment, which is said in one world alone.
_UNCOMPARED = frozenset({"date", "x-request-id", "x-stale"})
_UNCOMPARED_APART = _UNCOMPARED | {"etag", "content-length"}

Message = tuple[str, str, Any]  # method, path and body
Answer = tuple[int, Sequence[tuple[str, str]], bytes]


class Question(NamedTuple):
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = {}


@dataclass
class World:
    service: ServiceProcess
    tokens: dict[str, str] = field(default_factory=dict)
    ids: dict[bytes, bytes] = field(default_factory=dict)

    def call(self, token: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        named["Authorization"] = f"Bearer {token}"
        return self.service.request(method, path, body, headers=named, timeout=20)

    def write(self, message: Message) -> None:
        """Write as the administrator; it has to make exactly one revision."""
        answer = self.call(ADMIN, *message)
        assert answer.status in {200, 201, 204}, (message, answer.status, answer.body)
        self._wait_until_followed(answer.headers)

    def _wait_until_followed(self, headers: HTTPMessage) -> None:
        """Let no later answer differ by how quickly a replica follows its own writes."""
        if (revision := headers.get("X-Revision")) is not None:
            self.call(ADMIN, "GET", f"/api/v1/changes?limit=1&min_revision={revision}")

    def revision(self) -> int:
        return int(self.call(ADMIN, "GET", "/api/v1/changes?limit=1").headers["X-Revision"])

    def mint(self, caller: str) -> None:
        body = {"name": caller, **(CALLERS[caller] or {})}
        made = self.call(ADMIN, "POST", "/api/v1/tokens", body).json()
        self.tokens[caller] = made["token"]
        self.ids[made["id"].encode()] = f"id of {caller}".encode()

    def ask(self, caller: str, question: Question) -> Answer:
        """Return all that a caller is told, without what differs from run to run."""
        named = {name.replace("-", "_"): text for name, text in question.headers.items()}
        found = self.call(
            self.tokens[caller], question.method, question.path, question.body, **named
        )
        if question.method != "GET":
            self._wait_until_followed(found.headers)
        # Whose tags depend on a ticket, and on when an instance was registered.
        is_apart = question.path.startswith(("/ofrep", "/api/v1/registry"))
        headers = sorted(
            (name.lower(), text)
            for name, text in found.headers.items()
            if name.lower() not in (_UNCOMPARED_APART if is_apart else _UNCOMPARED)
        )
        length = len(found.body)
        body = self._plain(found.body)
        if question.path.startswith("/api/v1/audit"):
            body = _OF_AUDIT.sub(lambda match: match[0].partition(b":")[0], body)
        if length != len(body):
            headers = [header for header in headers if header[0] != "content-length"]
        return found.status, headers, body

    def stream_since(self, caller: str, query: str, after: int, until: int) -> bytes:
        """Return what a stream tells somebody who was away since a revision."""
        target = urlsplit(self.service.url)
        connection = HTTPConnection(target.hostname or "", target.port, timeout=20)
        headers = {"Authorization": f"Bearer {self.tokens[caller]}", "Last-Event-ID": str(after)}
        try:
            connection.request("GET", f"/api/v1/stream?{query}", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                return b"%d " % answer.status + self._plain(answer.read())
            lines: list[bytes] = []
            while lines[-2:] != [b"id: %d\n" % until, b"\n"]:
                lines.append(answer.readline())
            return self._plain(b"".join(lines))
        finally:
            connection.close()

    def _plain(self, body: bytes) -> bytes:
        for token_id, name in self.ids.items():
            body = body.replace(token_id, name)
        for pattern in (_MOMENT, _HEX, _OF_THIS_RUN):
            body = pattern.sub(b"~", body)
        return body


@contextmanager
def two_worlds(argv: Sequence[str] = SERVE) -> Iterator[tuple[World, World]]:
    with ExitStack() as stack:
        first, second = (
            World(stack.enter_context(ServiceProcess(REQUIRED, tuple(argv)))) for _ in range(2)
        )
        for world in (first, second):
            for caller in SCOPED:
                world.mint(caller)
            for message in visible(0):
                world.write(message)
        yield first, second


def visible(number: int) -> list[Message]:
    """Return changes that all who are scoped may see, but for clients."""
    shop = {"set": {"port": number, "name": f"shop-{number}"}}
    flag = {"name": f"f{number}", "environment": "staging"}
    return [
        ("PATCH", f"/api/v1/config?{SHOP}", shop),
        ("PATCH", "/api/v1/config?environment=default&service_name=_shared", shop),
        ("POST", "/api/v1/feature-flags", flag),
        ("POST", "/api/v1/segments", {"name": f"s{number}", "environment": "staging"}),
    ]


def invisible_change(draw: random.Random, number: int) -> Message:
    """Draw a change that nobody who is scoped may see; `number` makes it differ from all others."""
    service, name = draw.choice(_NAMES[:3]), draw.choice(_NAMES)
    change = {"set": {f"k{draw.randrange(3)}": number}}
    production = f"environment=production&service_name={name}"
    return draw.choice(
        [
            ("PATCH", f"/api/v1/config?{production}", change),
            ("PATCH", f"/api/v1/config?{production}&user={draw.choice(_USERS)}", change),
            ("PATCH", f"/api/v1/config?environment=staging&service_name={service}", change),
            ("PATCH", f"/api/v1/config?environment=default&service_name={service}", change),
            (
                "POST",
                "/api/v1/feature-flags",
                {"name": f"{name}-{number}", "environment": "production"},
            ),
            ("POST", "/api/v1/segments", {"name": f"{name}-{number}", "environment": "production"}),
        ]
    )


def questions(draw: random.Random, revision: int) -> Iterable[Question]:
    """Draw what may be asked: every route about every place, and lists by every filter."""
    askable = [ask for ask in ASKS if ask.needs != "anybody"]
    known = [ask for ask in askable if not any(part in ask.route for part in _ASKED_APART)]
    for ask in draw.sample(known, 25):
        yield _question(ask, *draw.choice(list(PLACES.values())))
    for _ in range(25):
        yield _list_question(draw, revision)


def _question(ask: Ask, environment: str, service: str) -> Question:
    headers = {
        name: text.format(environment=environment) for name, text in (ask.headers or {}).items()
    }
    body = None if ask.body is None else ask.body(environment, service)
    return Question(ask.route.split()[0], ask.path(environment, service), body, headers)


def _list_question(draw: random.Random, revision: int) -> Question:
    environments = (None, "staging", "production", "default", "ghost")
    kinds = (None, "config", "flag", "segment", "instance", "token", "ghost")
    entities = (None, *_NAMES, "_shared", "bank/ana", "shop/bob", "ghost")
    query: dict[str, Any] = {"limit": draw.choice((1, 2, 3, 1000))}
    environment, entity = draw.choice(environments), draw.choice(entities)
    path = draw.choice(
        ("/api/v1/changes", "/api/v1/changes", "/api/v1/audit", "/api/configs", "/stats", *_SPANS)
    )
    match path:
        case "/api/v1/config" | "/api/v1/feature-flags" | "/api/v1/segments":
            environment = draw.choice((None, None, "*", "*", environment))
        case "/api/v1/changes":
            since = draw.choice((0, 0, max(0, revision - 3), revision))
            query |= {"kind": draw.choice(kinds), "entity": entity, "since": since}
        case "/api/v1/audit":
            environment, entity = draw.choice((("staging", "shop"), (environment, entity)))
            query |= {"kind": draw.choice(kinds[1:]), "name": entity}  # no denied attempts
            query |= {"action": draw.choice((None, "created", "updated"))}
    query["environment"] = environment
    query_text = urlencode({name: value for name, value in query.items() if value is not None})
    return Question("GET", f"{path}?{query_text}" if path != "/stats" else path)
