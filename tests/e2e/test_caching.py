"""What caches are told, and that one tag never stands for two contents."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import body_of
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

OPENAPI = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
ARGV = (sys.executable, "-m", "tests.e2e.doors")
ADMIN = "the-first-token-of-an-administrator"
SITE = "https://console.example"
OPEN_TO_ALL = {"/live", "/ready", "/health", "/metrics"}
STREAMS = {"/api/v1/stream", "/ofrep/v1/stream"}
WHERE = "environment=staging&service_name=shop"
KEY, PLAIN, SECTION = (f"/api/v1/config/{key}?{WHERE}" for key in ("db.pin", "db.host", "db"))
EFFECTIVE, DOCUMENT = f"/api/v1/effective?{WHERE}", "/api/configs/shop?environment=staging"
TAGGED = (KEY, PLAIN, SECTION, f"{KEY}&resolve=false", EFFECTIVE, DOCUMENT, f"{DOCUMENT}&version=1")


_SCOPE = {"environments": ["staging"], "services": ["shop"]}
_CLASSES: dict[str, dict[str, Any]] = {
    "reader": {"class": "operator", "roles": ["viewer"]},
    "other reader": {"class": "service"},
    "revealer": {"class": "operator", "roles": ["viewer", "secrets:reveal"]},
}


class Callers:
    """A service with `db.pin`, a secret, and callers with and without the right to reveal it."""

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        self.tokens = {
            name: body_of(self.send("admin", "POST", "/api/v1/tokens", body), 201)["token"]
            for name, members in _CLASSES.items()
            for body in [{"name": "one", **_SCOPE, **members}]
        }

    def send(
        self,
        name: str,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        token = ADMIN if name == "admin" else self.tokens[name]
        shown = {"Authorization": f"Bearer {token}", **(headers or {})}
        return self.process.request(method, path, body, headers=shown)

    def get(self, name: str, path: str, **headers: str) -> Answer:
        stated = {header.replace("_", "-"): value for header, value in headers.items()}
        return self.send(name, "GET", path, headers=stated)


@pytest.fixture(scope="module")
def callers() -> Iterator[Callers]:
    settings = {
        "PILOTHOUSE_ACCESS": "required",
        "PILOTHOUSE_ADMIN_TOKEN": ADMIN,
        "CORS_ORIGINS": SITE,
    }
    with ServiceProcess(settings, ARGV) as process:
        found = Callers(process)
        data = {"db": {"host": "db1", "pin": {"$secret": {"value": "1234"}}}}
        body_of(found.send("admin", "POST", DOCUMENT, {"config_data": data}), 201)
        flag = {"name": "beta", "environment": "staging"}
        body_of(found.send("admin", "POST", "/api/v1/feature-flags", flag), 201)
        instance = {"service_name": "shop", "service_url": "http://10.0.0.7:1", "ttl_seconds": 600}
        body_of(found.send("admin", "POST", "/api/v1/registry/register", instance), 201)
        yield found


def is_hot(answer: Answer) -> bool:
    return "X-Door" not in answer.headers


def names(answer: Answer) -> set[str]:
    return {name.strip() for name in (answer.headers["Vary"] or "").split(",")} - {""}


def demand_private(answer: Answer) -> None:
    """Fail unless no shared cache may keep an answer, and no other caller gets it from one."""
    [directive] = answer.headers.get_all("Cache-Control") or ["nothing"]
    assert directive in {"private", "no-store"}
    if directive == "private":
        assert {"Authorization", "X-API-Key", "Origin"} <= names(answer)
        assert len(answer.headers.get_all("Vary") or ()) == 1


def _operations() -> Iterator[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = json.loads(OPENAPI.read_text())["paths"]
    for path, operations in paths.items():
        if path not in OPEN_TO_ALL | STREAMS:
            for method in operations:
                yield method.upper(), re.sub(r"\{\w+\}", "shop", path)


@pytest.mark.parametrize(("method", "path"), list(_operations()))
def test_whatever_a_known_caller_is_answered_is_for_them_alone(
    callers: Callers, method: str, path: str
) -> None:
    body: dict[str, Any] | None = None if method == "GET" else {}

    for caller in ("admin", "reader"):
        demand_private(callers.send(caller, method, path, body))
    demand_private(callers.send("reader", method, path, body, {"Origin": SITE}))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", PLAIN, None),
        ("GET", EFFECTIVE, None),
        ("GET", "/api/v1/registry/discover/shop", None),
        ("GET", "/api/v1/registry/services/shop/url", None),
        ("POST", "/api/v1/feature-flags/evaluate", {"flag_name": "beta", "environment": "staging"}),
        ("POST", "/api/v1/feature-flags/evaluate/batch", {"environment": "staging"}),
        ("POST", "/ofrep/v1/evaluate/flags", {}),
        ("POST", "/ofrep/v1/evaluate/flags/beta", {}),
    ],
)
def test_both_doors_tell_caches_the_same(
    callers: Callers, method: str, path: str, body: Any
) -> None:
    def answer_to(path: str, tag: str | None = None) -> Answer:
        headers = {} if tag is None else {"If-None-Match": tag}
        return callers.send("reader", method, path, body, headers)

    answer_to(path)  # the first read is never hot: it fills the memory
    door = f"{path}{'&' if '?' in path else '?'}min_revision=0"
    ahead, behind = answer_to(path), answer_to(door)
    tag = ahead.headers["ETag"]
    unchanged = [] if tag is None else [answer_to(path, tag), answer_to(door, tag)]

    assert (is_hot(ahead), is_hot(behind)) == (True, False)
    for answer in (ahead, behind, *unchanged):
        assert answer.headers["Cache-Control"] == "private"
        assert names(answer) == names(ahead)
        demand_private(answer)
    if tag is not None and method == "GET":
        assert [answer.status for answer in unchanged] == [304, 304]


def test_what_a_revealed_or_new_secret_was_told_with_is_kept_nowhere(callers: Callers) -> None:
    assert callers.get("revealer", f"{KEY}&reveal=true").headers["Cache-Control"] == "no-store"
    assert callers.get("revealer", f"{EFFECTIVE}&reveal=true").headers["Cache-Control"] == (
        "no-store"
    )


def test_where_nobody_is_known_an_answer_is_for_all() -> None:
    with ServiceProcess({}, ARGV) as service:
        body_of(service.request("POST", "/api/v1/config", {"key": "a", "value": 1}), 201)
        for _ in range(2):  # behind the hot door, and at it
            answer = service.request("GET", "/api/v1/config/a", headers={"X-API-Key": "x"})

    assert is_hot(answer)
    assert answer.headers["Cache-Control"] is None
    assert answer.headers["Vary"] is None


def test_one_tag_stands_for_one_content_whoever_asks_at_whichever_door(callers: Callers) -> None:
    bodies: dict[tuple[str, str], set[bytes]] = {}
    hot: set[tuple[str, str]] = set()
    for _ in range(3):  # what is remembered differs after each caller
        for caller in ("reader", "revealer", "other reader", "admin"):
            for path in TAGGED:
                for target in (path, f"{path}&min_revision=0"):
                    answer = callers.get(caller, target)
                    assert answer.status == 200
                    bodies.setdefault((path, answer.headers["ETag"]), set()).add(answer.body)
                    if is_hot(answer):
                        hot.add((caller, path))

    assert {key: len(found) for key, found in bodies.items()} == dict.fromkeys(bodies, 1)
    assert {("reader", KEY), ("revealer", KEY), ("revealer", EFFECTIVE)} <= hot


@pytest.mark.parametrize("path", [KEY, SECTION, EFFECTIVE, DOCUMENT, f"{KEY}&resolve=false"])
def test_fingerprints_are_shown_to_who_may_reveal_under_a_tag_of_their_own(
    callers: Callers, path: str
) -> None:
    for target in (path, path, f"{path}&min_revision=0"):
        without, shown = callers.get("reader", target), callers.get("revealer", target)

        assert "fingerprint" in shown.body.decode()
        assert "fingerprint" not in without.body.decode()
        tags = {"reader": without.headers["ETag"], "revealer": shown.headers["ETag"]}
        assert tags["reader"] != tags["revealer"]
        for caller in tags:
            for whose, tag in tags.items():
                status = callers.get(caller, target, If_None_Match=tag).status
                assert status == (304 if caller == whose else 200)


def test_a_tag_with_fingerprints_guards_a_write_and_is_waited_with(callers: Callers) -> None:
    where = "environment=staging&service_name=guarded"
    body = {"class": "admin", "name": "all", "roles": ["secrets:reveal"]}
    scope = {"environments": ["*"], "services": ["*"]}
    made = body_of(callers.send("admin", "POST", "/api/v1/tokens", {**body, **scope}), 201)
    callers.tokens["owner"] = made["token"]
    key = {"key": "pin", "value": "1", "is_encrypted": True}
    names = {"environment": "staging", "service_name": "guarded"}
    created = callers.send("owner", "POST", "/api/v1/config", {**key, **names})
    path = f"/api/v1/config/pin?{where}"

    read = callers.get("owner", path)
    held = callers.get("owner", path, If_None_Match=read.headers["ETag"], Prefer="wait=1")
    document = callers.get("owner", "/api/configs/guarded?environment=staging")
    answers = [
        callers.send("owner", "PUT", path, {"value": str(number)}, {"If-Match": tag})
        for number, tag in enumerate(
            [read.headers["ETag"], read.headers["ETag"], document.headers["ETag"]]
        )
    ]

    assert created.headers["ETag"] == read.headers["ETag"]
    assert held.status == 304
    assert [answer.status for answer in answers] == [200, 412, 412]
    whole = callers.get("owner", "/api/configs/guarded?environment=staging").headers["ETag"]
    rolled = "/api/configs/guarded/rollback?environment=staging"
    again = callers.send("owner", "POST", rolled, {"version": 1}, {"If-Match": whole})
    assert again.status == 200
