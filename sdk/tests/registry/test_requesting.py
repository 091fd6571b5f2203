"""`service://NAME/path` through httpx and requests, against two small servers."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests

from pilothouse import AsyncPilothouse, Pilothouse
from pilothouse.httpx_transport import AsyncServiceTransport, ServiceTransport
from pilothouse.requests_adapter import ServiceAdapter
from sdk.tests.registry.conftest import QUICK
from sdk.tests.scripted import Reply, ScriptedServer
from tests.servers.service import ServiceProcess

Peers = tuple[ScriptedServer, ScriptedServer]
Registered = Callable[[], str]
SENT: dict[str, Any] = {"headers": {"X-Kept": "yes"}}


class Sender:
    """The two libraries in one's words: both answer `json()` and `status_code`."""

    def __init__(
        self, send: Callable[..., Any], close: Callable[[], None], failure: type[Exception]
    ) -> None:
        self.send, self.close, self.failure = send, close, failure


def _httpx(client: Pilothouse) -> Sender:
    http = httpx.Client(mounts={"service://": ServiceTransport(client.registry)})
    return Sender(http.request, http.close, httpx.ConnectError)


def _requests(client: Pilothouse) -> Sender:
    session = requests.Session()
    for scheme in ("service://", "http+service://"):
        session.mount(scheme, ServiceAdapter(client.registry))
    return Sender(session.request, session.close, requests.ConnectionError)


@pytest.fixture(params=[_httpx, _requests], ids=["httpx", "requests"])
def sender(request: pytest.FixtureRequest, client: Pilothouse) -> Iterator[Sender]:
    made = request.param(client)
    yield made
    made.close()


def test_a_request_arrives_as_it_was_sent(
    sender: Sender, registered_peers: Registered, peers: Peers
) -> None:
    url = f"service://{registered_peers()}/path?a=1"
    answers = [sender.send("POST", url, data={"a": "b"}, **SENT) for _ in range(4)]

    bodies = [answer.json() for answer in answers]
    hosts = {server.url.removeprefix("http://") for server in peers}
    assert {one.pop("host") for one in bodies} == hosts
    assert bodies[0] == {"method": "POST", "query": {"a": "1"}, "body": "a=b", "kept": "yes"}
    assert [server.count("/base/path") for server in peers] == [2, 2]


def test_a_host_that_the_caller_set_stays(sender: Sender, registered_peers: Registered) -> None:
    answer = sender.send(
        "GET", f"service://{registered_peers()}/path", headers={"Host": "example.org"}
    )

    assert answer.json()["host"] == "example.org"


def test_a_stopped_instance_is_passed_over_by_what_may_be_sent_twice(
    sender: Sender, registered_peers: Registered, peers: Peers
) -> None:
    url = f"service://{registered_peers()}/path"
    peers[0].close()

    for method in ("GET", "PUT", "DELETE", "GET"):
        assert sender.send(method, url).json()["method"] == method
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(sender.send("POST", url).status_code)
        except sender.failure:
            outcomes.append(None)
    assert sorted(outcomes, key=str) == [200, None]
    assert peers[1].count("/base/path") == 5

    peers[1].close()
    with pytest.raises(sender.failure):
        sender.send("GET", url)


def test_that_nobody_is_there_is_the_librarys_own_error(sender: Sender, name: str) -> None:
    with pytest.raises(sender.failure, match="no usable instance"):
        sender.send("GET", f"service://{name}/path")
    with pytest.raises(sender.failure, match="cannot name a service"):
        sender.send("GET", "service://a%20b/path")


def test_an_answer_that_is_an_error_is_the_callers(
    sender: Sender, registered_peers: Registered, peers: Peers
) -> None:
    for server in peers:
        server.answers["/base/path"] = lambda _: Reply(503)

    assert sender.send("GET", f"service://{registered_peers()}/path").status_code == 503
    assert sum(server.count("/base/path") for server in peers) == 1


def test_one_key_goes_to_one_instance(client: Pilothouse, registered_peers: Registered) -> None:
    def key(request: httpx.Request) -> str:
        return request.headers["x-user"]

    transport = ServiceTransport(client.registry, strategy="hash", key=key)
    with httpx.Client(transport=transport) as http:
        for user in ("ann", "bob"):
            answers = [
                http.get(f"service://{registered_peers()}/path", headers={"X-User": user})
                for _ in range(3)
            ]
            assert len({answer.json()["host"] for answer in answers}) == 1


def test_requests_adds_parameters_where_it_knows_the_scheme(
    client: Pilothouse, registered_peers: Registered
) -> None:
    sender = _requests(client)

    answer = sender.send("GET", f"http+service://{registered_peers()}/path", params={"a": "1"})
    assert answer.json()["query"] == {"a": "1"}
    sender.close()


async def test_httpx_with_an_event_loop(
    service: ServiceProcess, registered_peers: Registered, peers: Peers
) -> None:
    async with (
        AsyncPilothouse(service.url, "orders", flags=False, pace=QUICK) as client,
        httpx.AsyncClient(transport=AsyncServiceTransport(client.registry)) as http,
    ):
        url = f"service://{registered_peers()}/path"
        bodies = [(await http.post(url, content=b"hello", **SENT)).json() for _ in range(2)]
        assert [one["body"] for one in bodies] == ["hello", "hello"]
        assert len({one["host"] for one in bodies}) == 2

        peers[0].close()
        for _ in range(3):
            assert (await http.get(url)).status_code == 200
        assert (await http.get(f"{peers[1].url}/base/path")).status_code == 200
        with pytest.raises(httpx.ConnectError, match="no usable instance"):
            await http.get("service://nobody/path")
