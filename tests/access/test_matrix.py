"""Every route, asked by every kind of caller about every place, against one table."""

import json
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.access.matrix import ASKS, CALLERS, MAY, PLACES, Ask
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.service import ServiceProcess

ADMIN = "matrix-admin-token-of-32-characters-or-more"
OPENAPI = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
REFUSED = {401: "unauthenticated", 403: "denied"}
_KEPT = {"name": "kept"}


class Session:
    """Requests of one caller, over one connection for as long as it lasts."""

    def __init__(self, url: str, token: str | None) -> None:
        target = urlsplit(url)
        self._connection = HTTPConnection(
            target.hostname or "", target.port, timeout=PATIENCE_SECONDS
        )
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        sent = None if body is None else json.dumps(body)
        typed = {"Content-Type": "application/json"} if sent is not None else {}
        stated = {**self._headers, **typed, **(headers or {})}
        try:
            self._connection.request(method, path, sent, stated)
            answer = self._connection.getresponse()
        except RemoteDisconnected:  # the service ends what was idle for seconds, on a busy machine
            self.close()
            self._connection.request(method, path, sent, stated)
            answer = self._connection.getresponse()
        if answer.headers.get_content_type() == "text/event-stream":
            answer.close()
            self.close()
            return answer.status, None
        text = answer.read()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, None

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    environment = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(environment) as service:
        yield service


@pytest.fixture(scope="module")
def admin(service: ServiceProcess) -> Iterator[Session]:
    admin = Session(service.url, ADMIN)
    assert admin.ask("PUT", "/api/v1/templates/kept", {"data": {}})[0] == 201
    for environment, name in PLACES.values():
        scopes = [{"environments": [environment], "services": [name]}]
        template = {"data": {}, "applies_to": scopes}
        path = f"/api/v1/templates/of-{environment}-{name}"
        assert admin.ask("PUT", path, template)[0] == 201
        body = {**_KEPT, "environment": environment}
        assert admin.ask("POST", "/api/v1/feature-flags", body)[0] in {201, 409}
        instance = {
            "service_name": name,
            "service_url": f"http://kept-{environment}.example:80",
            "instance_id": f"kept-{environment}",
            "ttl_seconds": 86_400,
            "metadata": {"environment": environment},
        }
        assert admin.ask("POST", "/api/v1/registry/register", instance)[0] == 201
        applies_to = [{"environments": [environment], "services": [name]}]
        schema = {"schema": {}, "applies_to": applies_to}
        assert admin.ask("PUT", f"/api/v1/schemas/kept-{environment}-{name}", schema)[0] == 201
        hook = {
            "url": "http://127.0.0.1:9/",
            "kinds": ["config"],
            "environments": [environment],
            "services": [name],
        }
        assert admin.ask("PUT", f"/api/v1/webhooks/kept-{environment}-{name}", hook)[0] == 201
    for environment, name in PLACES.values():  # last: webhooks are made before
        policy = {"kinds": ["webhook"], "environments": [environment], "services": [name]}
        assert admin.ask("PUT", f"/api/v1/policies/kept-{environment}-{name}", policy)[0] == 201
    yield admin
    admin.close()


@pytest.fixture(scope="module")
def sessions(service: ServiceProcess, admin: Session) -> Iterator[Mapping[str, Session]]:
    found = {}
    for number, (caller, wanted) in enumerate(CALLERS.items()):
        token = None
        if wanted is not None:
            status, made = admin.ask("POST", "/api/v1/tokens", {"name": f"t{number}", **wanted})
            assert status == 201, made
            token = made["token"]
        found[caller] = Session(service.url, token)
    yield found
    for session in found.values():
        session.close()


def _request_of(
    ask: Ask, environment: str, service: str
) -> tuple[str, str, Any, Mapping[str, str]]:
    headers = {
        name: text.format(environment=environment) for name, text in (ask.headers or {}).items()
    }
    body = None if ask.body is None else ask.body(environment, service)
    return ask.route.split()[0], ask.path(environment, service), body, headers


def test_every_route_stands_in_the_table() -> None:
    paths = json.loads(OPENAPI.read_text())["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}

    def plain(route: str) -> str:
        return re.sub(r"\{\w+\}", "{}", route)

    assert {plain(ask.route) for ask in ASKS} == {plain(route) for route in routes}


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: f"{ask.route} {ask.needs}")
def test_each_caller_is_let_in_exactly_where_the_table_says(
    ask: Ask, sessions: Mapping[str, Session]
) -> None:
    wrong = []
    for caller, session in sessions.items():
        for place, (environment, service) in PLACES.items():
            status, body = session.ask(*_request_of(ask, environment, service))
            # What a policy asks for is asked only of a caller who has the right.
            is_let_in = status not in REFUSED or (body or {}).get("code") == "proposal_needed"
            if is_let_in is not (place in MAY[ask.needs].get(caller, ())):
                wrong.append((caller, place, status, body))
            if status == 401:
                assert caller == "nobody", (caller, place, body)
    assert wrong == []
