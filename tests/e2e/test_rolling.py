"""Replicas behind a real HAProxy are restarted in turn, and nobody who asks notices."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import pytest

from tests.servers.haproxy import HAProxyServer, start_haproxy
from tests.servers.postgres import PostgresServer
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

CHECK_MS = 200
# Two checks that fail, with room for a machine that stands still at times.
DELAY_SECONDS = "4"
THREADS = 4
JSON = {"Content-Type": "application/json"}


class Callers:
    """Threads that read and write through the proxy, and count what does not succeed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self.answers: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        is_kept = number % 2 == 0  # the others open a connection for each request
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        count = 0
        while not self._over.wait(0.01):
            count += 1
            try:
                if count % 10 == 0:
                    path = f"/api/v1/config/a.b?environment=e&service_name=s{number}"
                    body = b'{"value": %d}' % (number * 1_000_000 + count)
                    connection.request("PUT", path, body, JSON)
                else:
                    connection.request(
                        "GET", f"/api/v1/effective?environment=e&service_name=s{number}"
                    )
                response = connection.getresponse()
                content = response.read()
                is_well = response.status == HTTPStatus.OK
                self.answers["200" if is_well else f"{response.status} {content!r}"] += 1
            except (OSError, HTTPException) as error:
                self.answers[repr(error)] += 1
                connection.close()
            if not is_kept:
                connection.close()
        connection.close()

    def wait_for(self, more: int) -> None:
        """Wait until so many more are answered."""
        enough = self.answers["200"] + more
        wait_until(lambda: self.answers["200"] >= enough, "all replicas are asked")

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def replicas(
    vault_server: VaultServer, postgres_server: PostgresServer
) -> Iterator[list[ServiceProcess]]:
    settings = {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
        "DATABASE_URL": postgres_server.fresh_database(),
        "PILOTHOUSE_TOKEN_PEPPER": "a-pepper-that-all-the-replicas-share",
        "SHUTDOWN_DELAY_SECONDS": DELAY_SECONDS,
    }
    with ExitStack() as stack:
        yield [stack.enter_context(ServiceProcess(settings)) for _ in range(2)]


@pytest.fixture
def proxy(replicas: list[ServiceProcess]) -> Iterator[HAProxyServer]:
    with start_haproxy([replica.url for replica in replicas], CHECK_MS) as proxy:
        yield proxy


def test_replicas_are_restarted_in_turn_under_load_and_no_request_fails(
    replicas: list[ServiceProcess], proxy: HAProxyServer
) -> None:
    wait_until(lambda: proxy.up() == {0, 1}, "both replicas are up")
    for number in range(THREADS):
        place = {"environment": "e", "service_name": f"s{number}"}
        made = replicas[0].request("POST", "/api/v1/config", {"key": "a.b", "value": 1, **place})
        assert made.status == 201
    callers = Callers(proxy.port)
    try:
        for number, replica in enumerate(replicas):
            before = callers.answers["200"]
            replica.restart()
            wait_until(lambda: proxy.up() == {0, 1}, f"replica {number} is back")
            assert callers.answers["200"] > before
            callers.wait_for(50)
    finally:
        callers.stop()

    assert set(callers.answers) == {"200"}, callers.answers
    assert all(replica.log().count('"serving"') == 2 for replica in replicas)
