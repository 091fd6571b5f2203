"""Who may decide on a proposal: authors, those related to them, and others."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.administered import ADMIN, REQUIRED, Administered
from tests.e2e.client import Headers, Service, body_of, fresh_name
from tests.e2e.conftest import SERVERS, embedded_service, real_service
from tests.servers.answer import Answer
from tests.servers.postgres import PostgresServer
from tests.servers.vault import VaultServer
from tests.servers.zookeeper import ZooKeeperServer

PROPOSALS = "/api/v1/proposals"
ALL = {"environments": ["*"], "services": ["*"]}
PUBLISHER = {"class": "operator", "roles": ["publisher"], **ALL}
EDITOR = {"class": "operator", "roles": ["editor"], **ALL}
VIEWER = {"class": "operator", "roles": ["viewer"], **ALL}
ADMINISTRATOR = {"class": "admin", **ALL}
# Whom each is made by, and what it may do.
CALLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "author": ("maker", ADMINISTRATOR),
    "co-author": ("maker", PUBLISHER),
    "own token": ("author", PUBLISHER),
    "sibling": ("maker", PUBLISHER),
    "administrator": ("maker", ADMINISTRATOR),
    "editor": ("maker", EDITOR),
    "viewer": ("maker", VIEWER),
}
SELF, DENIED = (409, "self_approval"), (403, "denied")
# What is answered to an approval, to applying what was approved, and to withdrawing it.
TABLE: Mapping[str, tuple[tuple[int, str | None], ...]] = {
    "author": (SELF, (202, None), (200, None)),
    "co-author": (SELF, (202, None), (200, None)),
    "own token": (SELF, (202, None), (200, None)),
    "maker": (SELF, (202, None), (200, None)),
    "sibling": ((201, None), (202, None), (200, None)),
    "administrator": ((201, None), (202, None), (200, None)),
    "editor": (DENIED, DENIED, DENIED),
    "viewer": (DENIED, DENIED, DENIED),
}


@pytest.fixture(scope="module")
def service_embedded() -> Iterator[Service]:
    with embedded_service(REQUIRED) as found:
        yield Administered(found.process, found.backend, found.settings)


@pytest.fixture(scope="module")
def real(
    vault_server: VaultServer, postgres_server: PostgresServer, zookeeper_server: ZooKeeperServer
) -> Iterator[Service]:
    with real_service(vault_server, postgres_server, zookeeper_server, REQUIRED) as found:
        yield Administered(found.process, found.backend, found.settings)


@pytest.fixture(scope="module", params=["service_embedded", pytest.param("real", marks=SERVERS)])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    found.wait_until_ready()
    return found


@pytest.fixture(scope="module")
def callers(service: Service) -> Mapping[str, Headers]:
    """The headers of each caller; the first token has made most of them."""
    made = {"maker": {"Authorization": f"Bearer {ADMIN}"}}
    for name, (maker, wanted) in CALLERS.items():
        body = {"name": fresh_name("t"), **wanted}
        token = body_of(service.call("POST", "/api/v1/tokens", body, headers=made[maker]), 201)
        made[name] = {"Authorization": f"Bearer {token['token']}"}
    return made


class Desk:
    """Proposals about a service of its own, in production, where a policy asks for approvals."""

    def __init__(self, service: Service, callers: Mapping[str, Headers]) -> None:
        self.service, self.callers, self.name = service, callers, fresh_name()
        place = {"environments": ["production"], "services": [self.name]}
        body = {**place, "kinds": ["config"], "approvals": 1}
        body_of(service.call("PUT", f"/api/v1/policies/{fresh_name('p')}", body), 201)

    def request_body(self, value: object) -> dict[str, Any]:
        item = {"kind": "config", "environment": "production", "service_name": self.name}
        return {"title": "Pool", "items": [{**item, "set": {"pool": value}}]}

    def call(self, caller: str, path: str, body: Any, method: str = "POST") -> Answer:
        return self.service.call(method, PROPOSALS + path, body, headers=self.callers[caller])

    def propose(self) -> str:
        """Propose a change in two rounds, of the co-author and of the author."""
        made = body_of(self.call("co-author", "", self.request_body(1)), 201)
        revised = body_of(self.call("author", f"/{made['id']}", self.request_body(2), "PATCH"))
        assert (revised["round"], revised["state"]) == (2, "open")
        return str(made["id"])

    def review(self, caller: str, id_: str, verdict: str = "approve", round_: int = 2) -> Answer:
        body = {"round": round_, "verdict": verdict}
        return self.call(caller, f"/{id_}/reviews", body)


@pytest.fixture
def desk(service: Service, callers: Mapping[str, Headers]) -> Desk:
    return Desk(service, callers)


def outcome(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.json().get("code")


@pytest.mark.parametrize("caller", TABLE)
def test_who_may_approve(desk: Desk, caller: str) -> None:
    proposal = desk.propose()

    answer = desk.review(caller, proposal)

    assert outcome(answer) == TABLE[caller][0]
    shown = body_of(desk.call("maker", f"/{proposal}", None, "GET"))
    is_approved = answer.status == 201
    assert shown["state"] == ("approved" if is_approved else "open")
    assert shown["approvals"]["given"] == int(is_approved)


@pytest.mark.parametrize("caller", TABLE)
def test_who_may_apply(desk: Desk, caller: str) -> None:
    proposal = desk.propose()
    assert outcome(desk.call("author", f"/{proposal}/apply", {})) == (409, "approvals_missing")
    body_of(desk.review("sibling", proposal), 201)

    assert outcome(desk.call(caller, f"/{proposal}/apply", {})) == TABLE[caller][1]


@pytest.mark.parametrize("caller", TABLE)
def test_who_may_withdraw(desk: Desk, caller: str) -> None:
    proposal = desk.propose()

    assert outcome(desk.call(caller, f"/{proposal}/withdraw", {})) == TABLE[caller][2]


def test_an_editor_may_withdraw_what_is_their_own(desk: Desk) -> None:
    made = body_of(desk.call("editor", "", desk.request_body(1)), 201)

    assert body_of(desk.call("editor", f"/{made['id']}/withdraw", {}))["state"] == "withdrawn"


def test_a_viewer_may_not_propose(desk: Desk) -> None:
    assert outcome(desk.call("viewer", "", desk.request_body(1))) == DENIED


def test_a_proposal_waits_for_those_whose_approval_would_count(desk: Desk) -> None:
    proposal = desk.propose()

    def has_it(caller: str) -> bool:
        path = "?waiting_for_me=true&environment=production"
        page = body_of(desk.call(caller, path, None, "GET"))
        return proposal in [each["id"] for each in page["items"]]

    assert {caller for caller in TABLE if has_it(caller)} == {"sibling", "administrator"}
    body_of(desk.review("sibling", proposal, "refuse"), 201)
    assert not any(map(has_it, TABLE))


def test_one_refusal_closes_and_another_round_opens_again(desk: Desk) -> None:
    proposal = desk.propose()
    assert body_of(desk.review("sibling", proposal), 201)["state"] == "approved"
    assert body_of(desk.review("administrator", proposal, "refuse"), 201)["state"] == "refused"
    assert outcome(desk.review("sibling", proposal)) == (409, "proposal_state")
    assert outcome(desk.call("author", f"/{proposal}/apply", {})) == (409, "proposal_state")

    revised = body_of(desk.call("author", f"/{proposal}", desk.request_body(3), "PATCH"))

    assert (revised["state"], revised["round"]) == ("open", 3)
    assert revised["approvals"]["given"] == 0
    assert outcome(desk.review("sibling", proposal)) == (409, "round_moved")
    assert body_of(desk.review("sibling", proposal, round_=3), 201)["state"] == "approved"
