"""A service that asks who is there, and a token that is revoked while the client streams."""

import logging
from pathlib import Path
from typing import Any

import pytest

from pilothouse import Pilothouse, RefreshPolicy
from pilothouse.errors import Unauthenticated
from sdk.tests.conftest import ADMIN
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

QUICK = RefreshPolicy(backoff=0.01, longest_backoff=0.1)


class Operator:
    """An administrator, who also keeps the file that the client's token stands in."""

    def __init__(self, process: ServiceProcess, file: Path) -> None:
        self.process = process
        self.file = file
        self.token_id = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        answer = self.process.request(method, f"/api/v1/{path}", body, headers=headers)
        assert 200 <= answer.status < 300, answer.body
        return answer.json() if answer.body else None

    def give_token(self) -> None:
        """Make the next token, as a file is written by an editor: with a line end."""
        wanted = {"class": "service", "environments": ["production"], "services": ["orders"]}
        made = self.ask("POST", "tokens", {"name": "orders", **wanted})
        self.token_id = made["id"]
        self.file.write_text(f"{made['token']}\n")

    def revoke_token(self) -> None:
        self.ask("DELETE", f"tokens/{self.token_id}")

    def set(self, key: str, value: Any) -> None:
        where = "config?environment=production&service_name=orders"
        self.ask("PATCH", where, {"set": {key: value}})


@pytest.fixture
def operator(guarded_service: ServiceProcess, tmp_path: Path) -> Operator:
    return Operator(guarded_service, tmp_path / "token")


def test_a_token_revoked_in_mid_stream_is_told_and_the_next_one_is_used(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pilothouse")
    operator.set("a", 1)
    flag = {"name": "checkout", "environment": "production", "rollout_percentage": 100}
    operator.ask("POST", "feature-flags", flag)
    operator.give_token()
    first = operator.file.read_text().strip()

    with Pilothouse(
        operator.process.url, "orders", "production", operator.file.read_text, pace=QUICK
    ) as client:
        operator.set("a", 2)
        wait_until(lambda: client.config.get("a") == 2, "it hears of changes")

        operator.revoke_token()
        wait_until(lambda: client.last_error is not None, "the end of the token is told")
        operator.set("a", 3)

        assert isinstance(client.last_error, Unauthenticated)
        assert client.last_error.status == 401
        assert (client.config.get("a"), client.config.source) == (2, "service")
        assert client.flags.is_on("checkout", user_id="ann")

        operator.file.unlink()  # between two tokens
        wait_until(lambda: _code(client) == "no_token", "there is no token at all")
        assert str(operator.file) in str(client.last_error)
        assert client.config.get("a") == 2

        operator.give_token()
        wait_until(lambda: client.config.get("a") == 3, "it catches up")
        wait_until(lambda: client.last_error is None, "nothing is wrong any more")
        operator.set("a", 4)
        wait_until(lambda: client.config.get("a") == 4, "it hears of changes again")

    assert "configuration is current again" in caplog.text
    assert first not in caplog.text


def test_a_token_that_is_there_after_the_start_is_used(operator: Operator) -> None:
    operator.set("late", 1)

    with Pilothouse(
        operator.process.url, "orders", "production", operator.file.read_text, pace=QUICK
    ) as client:
        assert client.config.get("late", "default") == "default"
        assert _code(client) == "no_token"
        operator.give_token()
        wait_until(lambda: client.config.get("late") == 1, "the token is used")


def _code(client: Pilothouse) -> str:
    return client.last_error.code if client.last_error is not None else ""
