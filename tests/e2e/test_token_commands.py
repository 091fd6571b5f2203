"""`python -m app token`: the first token of an installation, with and without a running service."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.__main__ import main
from app.access.tokens.model import parse_token_id
from app.settings import Settings
from tests.e2e.client import body_of
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

REQUIRED = {"PILOTHOUSE_ACCESS": "required"}
PEPPER = "a-pepper-that-all-the-replicas-share"
FIRST = ("--class", "admin", "--name", "first")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


class Command:
    """The command itself, without the second that a process of its own takes to start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, settings: Mapping[str, str], *words: str) -> Ran:
        with self._monkeypatch.context() as context:
            for name in Settings.model_fields:
                context.delenv(name.upper(), raising=False)
            for name, value in settings.items():
                context.setenv(name, value)
            try:
                code = main(["token", *words])
            except SystemExit as left:
                code = int(str(left.code))
        output = self._capsys.readouterr()
        return Ran(code, output.out, output.err)

    def create_token(self, settings: Mapping[str, str], *words: str) -> str:
        """Make a token, and return it: all there is on the standard output."""
        ran = self(settings, "create", *words)
        assert ran.code == 0, ran.err
        text = ran.out.removesuffix("\n")
        assert parse_token_id(text) is not None
        assert text not in ran.err
        return text


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    logging = structlog.get_config()
    yield Command(monkeypatch, capsys)
    structlog.configure(**logging)


def status_of_listing(service: ServiceProcess, text: str) -> int:
    headers = {"Authorization": f"Bearer {text}"}
    return service.request("GET", "/api/v1/tokens", headers=headers).status


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess(REQUIRED) as process:
        yield process


@pytest.fixture(scope="module")
def folder(service: ServiceProcess) -> dict[str, str]:
    return {"PILOTHOUSE_DATA_DIR": str(service.data_folder)}


def test_a_service_without_an_admin_tells_how_to_get_one(service: ServiceProcess) -> None:
    assert "python -m app token create --class admin" in service.log()


def test_while_a_service_runs_on_the_embedded_state_it_is_the_one_to_ask(
    service: ServiceProcess, folder: dict[str, str], token: Command
) -> None:
    ran = token(folder, "create", *FIRST)

    assert ran.code == 2
    assert "ask that service, at /api/v1/tokens" in ran.err
    assert ran.out == ""


def test_a_token_that_was_made_while_no_service_ran_is_taken(
    service: ServiceProcess, folder: dict[str, str], token: Command
) -> None:
    service.stop()
    text = token.create_token(folder, *FIRST, "--role", "secrets:reveal", "--expires-in", "90d")
    other = token.create_token(folder, *FIRST)
    known = token(folder, "list").out.splitlines()
    ran = token(folder, "revoke", str(parse_token_id(other)))
    service.restart()

    assert ran.code == 0
    assert len(known) == 3
    assert known[1].split("\t")[:7] == [
        parse_token_id(text), "admin", "live", "first", "*", "*", "secrets:reveal",
    ]  # fmt: skip
    assert status_of_listing(service, text) == 200
    assert status_of_listing(service, other) == 401


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--class", "service", "--name", "x"), "has exactly one"),
        (("--class", "client", "--name", "x", "--role", "viewer"), "has no such role"),
        (("--class", "admin", "--name", "a b"), "is not a valid name"),
        (("--class", "admin", "--name", "admin"), "is reserved"),
        (("--class", "admin", "--name", "x", "--expires-in", "90"), "not a duration"),
    ],
)
def test_what_no_token_can_be_is_refused(
    tmp_path: Path, token: Command, words: tuple[str, ...], reason: str
) -> None:
    ran = token({"PILOTHOUSE_DATA_DIR": str(tmp_path)}, "create", *words)

    assert ran.code != 0
    assert reason in ran.err
    assert ran.out == ""


def test_a_running_service_on_postgres_takes_a_new_token_at_once(
    postgres_server: PostgresServer, token: Command
) -> None:
    settings = {
        "DATABASE_URL": postgres_server.fresh_database(),
        "PILOTHOUSE_TOKEN_PEPPER": PEPPER,
    }
    text = token.create_token(settings, *FIRST)

    with ServiceProcess({**REQUIRED, **settings}) as service:
        assert status_of_listing(service, text) == 200
        body: dict[str, Any] = {"name": "x", "class": "admin"}
        body |= {"environments": ["*"], "services": ["*"]}
        headers = {"Authorization": f"Bearer {text}"}
        made = body_of(service.request("POST", "/api/v1/tokens", body, headers=headers), 201)

        assert token(settings, "revoke", str(parse_token_id(text))).code == 0
        wait_until(lambda: status_of_listing(service, text) == 401, "the first token is refused")
        assert status_of_listing(service, made["token"]) == 200
