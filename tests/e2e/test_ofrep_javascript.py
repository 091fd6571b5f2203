"""OpenFeature's own providers for JavaScript, of servers and of browsers, against the service."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.client import Service, body_of
from tests.e2e.conftest import embedded_service
from tests.e2e.events import listening
from tests.e2e.flags import OFREP, Flags
from tests.servers.node import node
from tests.servers.program import Event, Program
from tests.servers.service import ServiceProcess

STREAM = "/ofrep/v1/stream"
CHANGED, STALE = "PROVIDER_CONFIGURATION_CHANGED", "PROVIDER_STALE"
POLLING: dict[str, Any] = {"changeDetection": "polling", "pollInterval": 50}
# Whatever is heard within a test was heard by the stream, or not at all.
RARELY: dict[str, Any] = {"pollInterval": 60_000}


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


@pytest.fixture(scope="module")
def server_provider() -> Iterator[Program]:
    with node("server_provider.mjs") as program:
        yield program


@pytest.fixture
def web() -> Iterator["Web"]:
    with node("web_provider.mjs") as program:
        yield Web(program)


def start_provider(provider: Program, flags: Flags) -> Callable[..., Any]:
    """Point the provider at these flags; returns how to evaluate one."""
    provider.ask("start", url=flags.of.process.url, headers={"X-Environment": flags.environment})

    def evaluate(kind: str, flag: str, /, otherwise: Any, **context: Any) -> Any:
        return provider.ask("evaluate", type=kind, flag=flag, otherwise=otherwise, context=context)

    return evaluate


class Web:
    """The web provider in its program."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def start(self, flags: Flags, context: dict[str, Any] | None = None, **options: Any) -> None:
        self._program.ask(
            "start",
            url=flags.of.process.url,
            headers=[["X-Environment", flags.environment]],
            context=context or {"targetingKey": "ann"},
            **options,
        )

    def stop(self) -> None:
        self._program.ask("stop")

    def change_context(self, **context: Any) -> None:
        self._program.ask("context", context=context)

    def boolean(self, flag: str) -> Any:
        return self._program.ask("evaluate", type="Boolean", flag=flag, otherwise=False)

    def evaluate(self, kind: str, flag: str, otherwise: Any) -> Any:
        return self._program.ask("evaluate", type=kind, flag=flag, otherwise=otherwise)

    def status(self) -> Any:
        return self._program.ask("status")

    def hears(self, event: str) -> Event:
        return self._program.until(lambda told_of: told_of["event"] == event)[-1]

    def requests(self, path: str, **facts: Any) -> Event:
        """Return its next request to `path` with these facts."""
        wanted = {"event": "request", "path": path, **facts}
        return self._program.until(lambda told_of: told_of.items() >= wanted.items())[-1]


def test_values_of_every_type_arrive(flags: Flags, server_provider: Program) -> None:
    kinds: dict[str, tuple[str, Any, Any]] = {
        "string": ("String", "blue", ""),
        "integer": ("Number", 3, 0),
        "number": ("Number", 2.0, 0.5),
        "object": ("Object", {"size": [1, {"a": None}]}, {}),
    }
    flags.create("boolean", enabled=True)
    for kind, (_, value, _) in kinds.items():
        made = flags.create(kind, type=kind, variants={"one": value}, default_variant="one")
        assert made.status == 201, made.body
    evaluate = start_provider(server_provider, flags)

    switch = evaluate("Boolean", "boolean", otherwise=False)
    found = {kind: evaluate(method, kind, other) for kind, (method, _, other) in kinds.items()}

    assert (switch["value"], switch["variant"], switch["reason"]) == (True, "on", "STATIC")
    assert switch["flagMetadata"]["flagVersion"] == 1
    assert {kind: answer["value"] for kind, answer in found.items()} == {
        kind: value for kind, (_, value, _) in kinds.items()
    }
    assert {answer["reason"] for answer in found.values()} == {"STATIC"}


def test_why_there_is_no_value_arrives(flags: Flags, server_provider: Program) -> None:
    flags.create("text", type="string", variants={"a": "b"}, default_variant="a")
    flags.create("ramp", rollout_percentage=50)
    evaluate = start_provider(server_provider, flags)

    unknown = evaluate("Boolean", "team/no such", otherwise=True, targetingKey="ann")
    mismatch = evaluate("Boolean", "text", otherwise=True, targetingKey="ann")
    keyless = evaluate("Boolean", "ramp", otherwise=True)

    assert (unknown["value"], unknown["errorCode"]) == (True, "FLAG_NOT_FOUND")
    assert (mismatch["value"], mismatch["errorCode"]) == (True, "TYPE_MISMATCH")
    assert (keyless["value"], keyless["errorCode"]) == (True, "TARGETING_KEY_MISSING")


def test_what_is_disabled_says_so_and_may_leave_the_value_to_the_caller(
    flags: Flags, server_provider: Program
) -> None:
    flags.create("off", enabled=False)
    flags.create("mute", enabled=False, off_variant=None)
    evaluate = start_provider(server_provider, flags)

    off = evaluate("Boolean", "off", otherwise=True, targetingKey="ann")
    mute = evaluate("Boolean", "mute", otherwise=True, targetingKey="ann")

    assert (off["value"], off["variant"], off["reason"]) == (False, "off", "DISABLED")
    assert mute["value"] is True


def test_the_context_of_each_evaluation_decides(flags: Flags, server_provider: Program) -> None:
    when = {"attribute": "account.plan", "op": "eq", "values": ["pro"]}
    rules = [{"id": "pro", "when": when, "serve": {"variant": "on"}}]
    flags.create("a", rules=rules, default_variant="off")
    evaluate = start_provider(server_provider, flags)

    had, had_not = (
        evaluate("Boolean", "a", otherwise=False, targetingKey="ann", account={"plan": plan})
        for plan in ("pro", "free")
    )

    assert (had["value"], had["reason"]) == (True, "TARGETING_MATCH")
    assert had["flagMetadata"]["ruleId"] == "pro"
    assert (had_not["value"], had_not["reason"]) == (False, "DEFAULT")


def test_a_browser_evaluates_from_one_answer(flags: Flags, web: Web) -> None:
    flags.create("on", enabled=True)
    flags.create("mute", enabled=False, off_variant=None)
    flags.create("size", type="integer", variants={"s": 7}, default_variant="s")
    web.start(flags, **POLLING)

    assert web.status() == "READY"
    assert web.requests(OFREP)["status"] == 200
    assert web.boolean("on")["value"] is True
    assert web.evaluate("Number", "size", 0)["value"] == 7
    assert web.boolean("size")["errorCode"] == "TYPE_MISMATCH"
    assert web.boolean("gone")["errorCode"] == "FLAG_NOT_FOUND"
    mute = web.evaluate("Boolean", "mute", otherwise=True)
    assert (mute["value"], mute["reason"]) == (True, "DISABLED")


def test_one_flag_that_needs_a_key_harms_no_other(flags: Flags, web: Web) -> None:
    flags.create("on", enabled=True)
    flags.create("ramp", rollout_percentage=50)
    web.start(flags, {"plan": "pro"}, **POLLING)

    assert web.boolean("on")["value"] is True
    assert web.boolean("ramp")["errorCode"] == "TARGETING_KEY_MISSING"


def test_polling_costs_no_evaluation_until_something_changes(flags: Flags, web: Web) -> None:
    flags.create("a", enabled=True)
    flags.create("other", enabled=True)
    web.start(flags, **POLLING)
    first = web.requests(OFREP)
    again = web.requests(OFREP)

    body_of(flags.edit("PATCH", "a", enabled=False))
    changed = web.hears(CHANGED)

    assert (again["status"], again["ifNoneMatch"]) == (304, first["etag"])
    assert changed["flags"] == ["a"]
    assert (web.boolean("a")["value"], web.boolean("other")["value"]) == (False, True)
    web.requests(OFREP, status=304)


def test_the_stream_makes_a_browser_evaluate_at_once(flags: Flags, web: Web) -> None:
    flags.create("a", enabled=True)
    web.start(flags, **RARELY)
    # What a stream begins with closes the gap between the first evaluation and itself.
    web.requests(OFREP, status=304)

    changed = flags.edit("PATCH", "a", enabled=False)
    refetch = web.requests(OFREP, status=200)
    heard = web.hears(CHANGED)

    assert refetch["query"]["flagConfigEtag"] == f"r{changed.headers['X-Revision']}"
    assert heard["flags"] == ["a"]
    assert web.boolean("a")["value"] is False


def test_changes_of_other_environments_are_not_heard(flags: Flags, web: Web) -> None:
    flags.create("a", enabled=True)
    other = Flags(flags.of)
    web.start(flags, **RARELY)
    web.requests(OFREP, status=304)

    other.create("a")
    changed = flags.edit("PATCH", "a", enabled=False)
    refetch = web.requests(OFREP)

    assert refetch["query"]["flagConfigEtag"] == f"r{changed.headers['X-Revision']}"


def test_another_context_is_another_answer(flags: Flags, web: Web) -> None:
    when = {"attribute": "plan", "op": "eq", "values": ["pro"]}
    rules = [{"id": "pro", "when": when, "serve": {"variant": "on"}}]
    flags.create("a", rules=rules, default_variant="off")
    web.start(flags, {"targetingKey": "bob", "plan": "free"}, **RARELY)
    first = web.requests(OFREP)

    values = [web.boolean("a")["value"]]
    web.change_context(targetingKey="bob", plan="pro")
    # The provider shows what it has stored for this user, until it is answered.
    same_key = web.requests(OFREP, status=200)
    web.hears(CHANGED)
    values.append(web.boolean("a")["value"])
    web.change_context(targetingKey="eve", plan="free")
    values.append(web.boolean("a")["value"])

    assert values == [False, True, False]
    # The tag of another context is shown, and must not be taken for this one's.
    assert same_key["ifNoneMatch"] == first["etag"] != same_key["etag"]
    assert web.status() == "READY"


def test_a_change_on_one_replica_reaches_a_browser_at_another(real: Service, web: Web) -> None:
    here = Flags(real)
    here.create("a")
    with ServiceProcess(real.settings) as process:
        there = Flags(Service(process, real.backend, real.settings))
        there.environment = here.environment
        web.start(there, **RARELY)
        web.requests(OFREP, status=304)
        for enabled in (True, False, True):
            body_of(here.edit("PATCH", "a", enabled=enabled))
            web.hears(CHANGED)

            assert web.boolean("a")["value"] is enabled


def test_where_no_stream_is_left_a_browser_polls(web: Web) -> None:
    with embedded_service({"STREAM_LIMIT": "1"}) as service:
        flags = Flags(service)
        flags.create("a", enabled=True)
        with listening(service.process.url, path=STREAM) as only:
            only.first_revision()
            web.start(flags, pollInterval=50)
            web.requests(STREAM, status=503)
            web.requests(OFREP, status=304)
            body_of(flags.edit("PATCH", "a", enabled=False))
            web.hears(CHANGED)

            assert web.boolean("a")["value"] is False


@pytest.mark.slow
def test_a_browser_outlives_the_service_and_catches_up(web: Web) -> None:
    with embedded_service({}) as service:
        flags = Flags(service)
        flags.create("a", enabled=True)
        web.start(flags, **RARELY)
        web.requests(OFREP, status=304)

        service.process.kill()
        web.hears(STALE)
        during = (web.status(), web.boolean("a")["value"])
        service.process.restart()
        # Before the stream is back, so that only what it missed can tell of this.
        body_of(flags.edit("PATCH", "a", enabled=False))
        resumed = web.requests(STREAM, status=200)
        web.hears(CHANGED)

        assert during == ("STALE", True)
        assert resumed["lastEventId"] is not None
        assert web.boolean("a")["value"] is False
        web.change_context(targetingKey="bob")
        assert web.status() == "READY"


def test_a_browser_begins_with_what_it_has_stored(web: Web) -> None:
    with embedded_service({}) as service:
        flags = Flags(service)
        flags.create("a", enabled=True)
        web.start(flags, **POLLING)
        first = web.requests(OFREP, status=200)
        web.stop()

        web.start(flags, **RARELY)
        again = web.requests(OFREP)
        web.stop()
        service.process.kill()
        web.start(flags, **RARELY)
        stale = web.hears(STALE)
        alone = web.boolean("a")

    assert (again["status"], again["ifNoneMatch"]) == (304, first["etag"])
    assert stale["message"]
    assert (alone["value"], alone["reason"]) == (True, "CACHED")
