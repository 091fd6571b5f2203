"""While Vault or Postgres is unavailable reads go on, writes are refused in time, and all heals."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from time import monotonic

import pytest

from tests.faults.history import Told
from tests.faults.stage import Stage
from tests.servers.answer import Answer
from tests.servers.deadlines import PATIENT
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS, freeze_server, wait_until
from tests.servers.proxy import LossyProxy, http_answer
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

pytestmark = [pytest.mark.faults, pytest.mark.slow]

# What is promised.
READ_SECONDS = 1.0
REFUSED_SECONDS = 1.0
UNKNOWN_SECONDS = 2.0
LOG_UNAVAILABLE_SECONDS = 2.0
LIVE_SECONDS = 0.1
HEALED_SECONDS = 2.0

TOKEN = "a-token-of-the-service"
WARM = "/api/configs/warm?environment=default"
SECRET = "/api/v1/config/password?environment=staging&service_name=vault"


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer and how long it took; without an answer the connection broke."""

    answer: Answer | None
    seconds: float

    @property
    def status(self) -> int | None:
        return self.answer.status if self.answer is not None else None


@dataclass
class Scene:
    """A service that holds the document `warm` in memory and does not the one called `cold`."""

    stage: Stage
    service: ServiceProcess
    elsewhere: ServiceProcess
    proxy: LossyProxy
    vault: VaultServer
    postgres: PostgresServer
    cold: str = ""

    def asks(self, path: str) -> Seen:
        began = monotonic()
        answer = None
        with suppress(OSError, HTTPException):
            answer = self.service.request("GET", path)
        return Seen(answer, monotonic() - began)

    def writes(self, service: str, *, keyed: bool = False) -> Told:
        return self.stage.client().write(self.service, service, keyed=keyed)

    def readiness(self) -> str:
        return str(self.service.request("GET", "/ready").json()["status"])

    def is_stale(self) -> bool:
        return self.service.request("GET", WARM).headers["X-Stale"] is not None


def make_token(vault: VaultServer) -> None:
    body = {"id": TOKEN, "policies": ["root"], "no_parent": True}
    status, answer = vault.api("POST", "auth/token/create", body)
    assert status == 200, answer


def revoke_token(vault: VaultServer) -> None:
    assert vault.api("POST", "auth/token/revoke", {"token": TOKEN})[0] == 204


@pytest.fixture(scope="module")
def running(
    open_stage: Callable[[str], Stage], vault_server: VaultServer, postgres_server: PostgresServer
) -> Scene:
    make_token(vault_server)
    stage = open_stage("real")
    elsewhere = stage.start(**PATIENT)
    secret = {"key": "password", "value": "hidden", "is_encrypted": True}
    where = {"environment": "staging", "service_name": "vault"}
    assert elsewhere.request("POST", "/api/v1/config", secret | where).status == 201
    proxy, way = stage.way_to_vault()
    service = stage.start(VAULT_TOKEN=TOKEN, **way)
    return Scene(stage, service, elsewhere, proxy, vault_server, postgres_server)


@pytest.fixture
def scene(running: Scene) -> Scene:
    """Everything is well, and another replica has just written what this one has not read yet."""
    running.cold = running.stage.client().name
    for name in ("warm", running.cold):
        answer = running.stage.client().write(running.elsewhere, name)
        assert answer.status == 200
    for path in (WARM, SECRET):
        at = f"{path}&min_revision={answer.revision}"
        wait_until(lambda: running.asks(at).status == 200, "it is read")  # noqa: B023
    return running


# --- Vault ---


@contextmanager
def sealed_vault(scene: Scene) -> Iterator[None]:
    scene.vault.seal()
    try:
        yield
    finally:
        scene.vault.unseal()


@contextmanager
def killed_vault(scene: Scene) -> Iterator[None]:
    scene.vault.kill()
    try:
        yield
    finally:
        scene.vault.restart()


@contextmanager
def token_revoked(scene: Scene) -> Iterator[None]:
    revoke_token(scene.vault)
    try:
        yield
    finally:
        make_token(scene.vault)


@contextmanager
def rate_limited(scene: Scene) -> Iterator[None]:
    refusal = http_answer("429 Too Many Requests", b'{"errors":["slow down"]}', Retry_After="7")
    scene.proxy.answer_next(refusal, times=10**9)
    try:
        yield
    finally:
        scene.proxy.heal()


Outage = Callable[[Scene], AbstractContextManager[None]]
VAULT_OUTAGES: Mapping[str, Outage] = {
    "sealed": sealed_vault,
    "killed": killed_vault,
    "frozen": lambda scene: freeze_server(scene.vault),
    "token-revoked": token_revoked,
    "rate-limited": rate_limited,
}


@dataclass(frozen=True, slots=True)
class Round:
    """What was answered to requests of every kind that were sent at the same time."""

    known: list[Seen]
    unknown: list[Seen]
    live: Seen
    writes: list[Told]


def one_round(scene: Scene) -> Round:
    cold = scene.cold
    known = [WARM, "/api/v1/effective?service_name=warm", "/api/configs"]
    unknown = [
        f"/api/configs/{cold}",
        f"/api/v1/config?service_name={cold}",
        f"{SECRET}&reveal=true",
    ]
    with ThreadPoolExecutor(12) as threads:
        writing = [
            threads.submit(scene.writes, "warm"),
            threads.submit(scene.writes, "warm", keyed=True),
            threads.submit(scene.writes, cold),
            threads.submit(scene.writes, f"new-{cold}"),
        ]
        live = threads.submit(scene.asks, "/live")
        return Round(
            known=list(threads.map(scene.asks, known)),
            unknown=list(threads.map(scene.asks, unknown)),
            live=live.result(),
            writes=[write.result() for write in writing],
        )


def rounds(scene: Scene, seconds: float) -> list[Round]:
    """Ask again and again for that long, and until the service has noticed."""
    end = monotonic() + seconds
    answered = [one_round(scene)]
    while monotonic() < end:
        answered.append(one_round(scene))
    wait_until(lambda: scene.readiness() == "degraded", "it is degraded")
    wait_until(scene.is_stale, "answers are marked stale")
    return answered


def assert_read_on(seen: Seen) -> None:
    assert seen.status == 200
    assert seen.seconds < READ_SECONDS + SLACK_SECONDS


def assert_refused(answer: Answer | None, seconds: float) -> None:
    assert answer is not None
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert seconds < REFUSED_SECONDS + SLACK_SECONDS


def assert_not_written(answer: Told) -> None:
    if answer.status == 504:
        assert answer.code == "write_outcome_unknown"
        assert answer.intent is not None
        assert answer.seconds < UNKNOWN_SECONDS + SLACK_SECONDS
    else:
        assert answer.status == 503
        assert int(answer.retry_after or 0) >= 1
        assert answer.seconds < REFUSED_SECONDS + SLACK_SECONDS


def assert_heals(scene: Scene) -> None:
    """All is well again, soon."""
    began = monotonic()
    wait_until(lambda: scene.writes("warm").is_yes, "writes go on")
    wait_until(lambda: scene.asks(f"/api/configs/{scene.cold}").status == 200, "reads go on")
    wait_until(lambda: scene.readiness() == "ready", "it is ready")
    wait_until(lambda: not scene.is_stale(), "answers are fresh")
    assert monotonic() - began < HEALED_SECONDS + SLACK_SECONDS
    assert scene.stage.violations() == []


@pytest.mark.parametrize("name", VAULT_OUTAGES)
def test_while_vault_is(scene: Scene, name: str, *, is_whole: bool) -> None:
    seconds = 10 if is_whole else (3 if name == "frozen" else 0)

    with VAULT_OUTAGES[name](scene):
        answered = rounds(scene, seconds)

    for one in answered:
        assert one.live.seconds < LIVE_SECONDS + SLACK_SECONDS
        for seen in one.known:
            assert_read_on(seen)
        for seen in one.unknown:
            assert_refused(seen.answer, seen.seconds)
        for answer in one.writes:
            assert_not_written(answer)
    assert_heals(scene)


def test_how_long_to_wait_is_passed_on(scene: Scene) -> None:
    with rate_limited(scene):
        assert scene.writes("warm").retry_after == "7"


def test_a_revoked_login_is_replaced_within_the_request(stage: Stage) -> None:
    vault = stage.real.vault
    service = stage.start(VAULT_TOKEN="", **approle(vault))
    client = stage.client()
    assert client.write(service, "shop").status == 200

    assert vault.api("POST", "sys/leases/revoke-prefix/auth/approle/login")[0] == 204
    answer = client.write(service, "shop")

    assert answer.status == 200
    assert answer.seconds < REFUSED_SECONDS + SLACK_SECONDS
    assert service.log().count("vault_logged_in") == 2


def approle(vault: VaultServer) -> Mapping[str, str]:
    role = f"auth/approle/role/{vault.fresh_prefix()}"
    policy = 'path "*" { capabilities = ["create", "read", "update", "delete", "list"] }'
    vault.api("PUT", "sys/policies/acl/all", {"policy": policy})
    vault.api("POST", role, {"token_policies": "all", "token_ttl": "1h"})
    _, identity = vault.api("GET", f"{role}/role-id")
    _, secret = vault.api("POST", f"{role}/secret-id")
    return {
        "VAULT_ROLE_ID": identity["data"]["role_id"],
        "VAULT_SECRET_ID": secret["data"]["secret_id"],
    }


# --- Postgres ---


@contextmanager
def log_killed(scene: Scene) -> Iterator[None]:
    scene.postgres.kill()
    try:
        yield
    finally:
        scene.postgres.restart()


LOG_OUTAGES: Mapping[str, Outage] = {
    "frozen": lambda scene: freeze_server(scene.postgres),
    "killed": log_killed,
}


@pytest.mark.parametrize("name", LOG_OUTAGES)
def test_while_postgres_is(scene: Scene, name: str, *, is_whole: bool) -> None:
    seconds = 10 if is_whole else 3

    with LOG_OUTAGES[name](scene):
        answered = rounds(scene, seconds)

    for one in answered:
        assert one.live.seconds < LIVE_SECONDS + SLACK_SECONDS
        for seen in (*one.known, *one.unknown[:2]):  # not the secret: what is shown is put down
            assert_read_on(seen)
        for answer in one.writes:
            assert answer.status in {503, 504}
            assert answer.seconds < LOG_UNAVAILABLE_SECONDS + SLACK_SECONDS
    assert_heals(scene)


def test_postgres_killed_and_back_at_once_is_hardly_noticed(scene: Scene) -> None:
    scene.postgres.kill()
    scene.postgres.restart()

    assert_heals(scene)


# --- both ---


def test_with_both_unavailable_a_service_lives_starts_and_heals(scene: Scene) -> None:
    with killed_vault(scene), log_killed(scene):
        newcomer = scene.stage.start(VAULT_TOKEN=TOKEN)
        read = scene.asks(WARM)
        answer = scene.writes("warm")
        lives = [scene.asks("/live") for _ in range(20)]
        new = replace(scene, service=newcomer)
        ready, unread = new.readiness(), new.asks(WARM)
        unwritten = new.writes("warm")

    assert_read_on(read)
    assert_not_written(answer)
    assert max(live.seconds for live in lives) < LIVE_SECONDS + SLACK_SECONDS
    assert ready == "not_ready"
    assert_refused(unread.answer, unread.seconds)
    assert_not_written(unwritten)
    assert_heals(new)
    assert_heals(scene)


def test_with_both_frozen_a_service_lives_and_heals(scene: Scene) -> None:
    with freeze_server(scene.vault), freeze_server(scene.postgres):
        answered = rounds(scene, 0)

    for one in answered:
        assert one.live.seconds < LIVE_SECONDS + SLACK_SECONDS
        assert_read_on(one.known[0])
        for answer in one.writes:
            assert answer.status in {503, 504}
            assert answer.seconds < LOG_UNAVAILABLE_SECONDS + SLACK_SECONDS
    assert_heals(scene)
