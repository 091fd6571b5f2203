"""The lossy proxy loses exactly what it is told to lose."""

import http.server
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, RemoteDisconnected

import pytest

from tests.servers.answer import Answer, request
from tests.servers.process import wait_until
from tests.servers.proxy import LossyProxy, http_answer


class Harbour(http.server.ThreadingHTTPServer):
    """Answers every POST with its body, and remembers it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.seen: list[bytes] = []


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Harbour

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def harbour() -> Iterator[Harbour]:
    with Harbour() as harbour:
        thread = threading.Thread(target=harbour.serve_forever, args=(0.01,))
        thread.start()
        yield harbour
        harbour.shutdown()
        thread.join()


@pytest.fixture
def proxy(harbour: Harbour) -> Iterator[LossyProxy]:
    with LossyProxy("127.0.0.1", harbour.server_port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: LossyProxy) -> Iterator[HTTPConnection]:
    """Keep one connection alive through all requests of a test, as clients of servers do."""
    client = HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    client.connect()
    yield client
    client.close()


def say(client: HTTPConnection, words: bytes) -> bytes:
    # The head and the body leave in two pieces: the proxy has to cope.
    client.request("POST", "/", words)
    return client.getresponse().read()


def send(proxy: LossyProxy, words: bytes, timeout: float = 5) -> Answer:
    return request("POST", f"http://127.0.0.1:{proxy.port}/", data=words, timeout=timeout)


def test_everything_passes_on_a_connection_kept_alive(client: HTTPConnection) -> None:
    large = b"x" * 1_000_000

    assert [say(client, b"one"), say(client, large), say(client, b"two")] == [b"one", large, b"two"]


def test_a_dropped_answer_reaches_the_server_and_not_the_client(
    proxy: LossyProxy, client: HTTPConnection, harbour: Harbour
) -> None:
    say(client, b"one")
    proxy.drop_next_response()
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        say(client, b"two")

    assert say(client, b"three") == b"three"  # over a new connection
    assert (harbour.seen, proxy.dropped) == ([b"one", b"two", b"three"], 1)


def test_only_the_answer_to_a_matching_request_is_dropped(
    proxy: LossyProxy, client: HTTPConnection
) -> None:
    proxy.drop_next_response(when=lambda request: b"overboard" in request)

    assert say(client, b"aboard") == b"aboard"
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        say(client, b"man overboard")
    assert say(client, b"overboard again") == b"overboard again"


def test_a_client_may_hang_on_a_dropped_answer(proxy: LossyProxy, harbour: Harbour) -> None:
    proxy.drop_next_response(hang=True)
    with pytest.raises(TimeoutError):
        send(proxy, b"one", timeout=0.2)

    assert send(proxy, b"two").body == b"two"
    assert (harbour.seen, proxy.dropped) == ([b"one", b"two"], 1)


def test_a_refusing_proxy_closes_new_connections_only(
    proxy: LossyProxy, client: HTTPConnection
) -> None:
    say(client, b"early")
    proxy.refuse()

    with pytest.raises((RemoteDisconnected, ConnectionError)):
        send(proxy, b"late")
    assert say(client, b"still there") == b"still there"
    proxy.heal()
    assert send(proxy, b"back").body == b"back"


def test_cutting_ends_open_connections(proxy: LossyProxy, client: HTTPConnection) -> None:
    say(client, b"one")
    proxy.cut()

    with pytest.raises((RemoteDisconnected, ConnectionError)):
        say(client, b"two")


def test_a_lost_connection_stays_open_and_nothing_arrives_any_more(
    proxy: LossyProxy, harbour: Harbour
) -> None:
    client = HTTPConnection("127.0.0.1", proxy.port, timeout=0.2)
    say(client, b"one")
    proxy.lose()
    with pytest.raises(TimeoutError):
        say(client, b"two")
    client.close()

    assert send(proxy, b"three").body == b"three"
    assert harbour.seen == [b"one", b"three"]


def test_only_connections_that_have_said_something_are_lost(
    proxy: LossyProxy, client: HTTPConnection
) -> None:
    say(client, b"one")
    say(client, b"two")
    proxy.lose(when=lambda sent: b"three" in sent)
    assert say(client, b"three") == b"three"

    proxy.lose(when=lambda sent: b"one" in sent)
    client.timeout = 0.2
    client.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        say(client, b"four")


def test_held_bytes_arrive_once_healed(proxy: LossyProxy, harbour: Harbour) -> None:
    with ThreadPoolExecutor(1) as thread:
        proxy.hold()
        answer = thread.submit(send, proxy, b"patience")
        wait_until(lambda: proxy.held > 0, "the request has reached the proxy")
        before = list(harbour.seen)
        proxy.heal()

        assert (before, answer.result(5).body) == ([], b"patience")


def test_a_slow_proxy_delays_each_request(proxy: LossyProxy, client: HTTPConnection) -> None:
    proxy.slow(0.1)
    start = time.monotonic()
    say(client, b"one")
    say(client, b"two")

    assert time.monotonic() - start >= 0.2


def test_an_invented_answer_hides_the_server(
    proxy: LossyProxy, client: HTTPConnection, harbour: Harbour
) -> None:
    proxy.answer_next(http_answer("429 Too Many Requests", b"{}", Retry_After="1"), times=2)
    statuses = []
    for _ in range(3):
        client.request("POST", "/", b"knock")
        with client.getresponse() as response:
            statuses.append((response.status, response.headers["Retry-After"], response.read()))

    assert statuses == [(429, "1", b"{}"), (429, "1", b"{}"), (200, None, b"knock")]
    assert harbour.seen == [b"knock"]


def test_an_answer_may_be_invented_for_matching_requests_only(
    proxy: LossyProxy, client: HTTPConnection
) -> None:
    proxy.answer_next(http_answer("503 Service Unavailable"), when=lambda sent: b"two" in sent)

    assert [say(client, word) for word in (b"one", b"two", b"two")] == [b"one", b"", b"two"]


def test_healing_forgets_what_was_planned(proxy: LossyProxy, client: HTTPConnection) -> None:
    proxy.drop_next_response()
    proxy.answer_next(http_answer("503 Service Unavailable"))
    proxy.slow(60)
    proxy.heal()

    assert say(client, b"calm") == b"calm"


def test_a_proxy_before_a_closed_port_hangs_up() -> None:
    with LossyProxy("127.0.0.1", 1) as proxy, pytest.raises((RemoteDisconnected, ConnectionError)):
        send(proxy, b"anybody?")
