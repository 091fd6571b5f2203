"""What goes on beside a fault of the registry: callers who discover, instances that live."""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any, Self
from urllib.parse import urlsplit

from tests.faults.fleet import API, Fleet, Registered
from tests.servers.service import ServiceProcess

POLL_SECONDS = 0.05
_LANES = 4  # connections that heartbeats go over


class _Threads:
    """Threads that work until the block is left; what one of them raises is raised there."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._pool = ThreadPoolExecutor(16)
        self._running: list[Any] = []

    def run(self, work: Any, *words: object) -> None:
        self._running.append(self._pool.submit(work, *words))

    def end(self) -> None:
        self.over.set()
        for one in self._running:
            one.result(30)
        self._pool.shutdown()


class Callers:
    """Ask each replica for the instances of services every 50 ms, and put down the answers.

    An answer that is the same as the one before is put down as it was.
    """

    def __init__(
        self, fleet: Fleet, services: Sequence[str], replicas: Sequence[ServiceProcess]
    ) -> None:
        self._fleet = fleet
        self._threads = _Threads()
        self._asked = [(replica, service) for replica in replicas for service in services]
        self.answers = 0
        self.stale = 0
        self.protected = 0

    def __enter__(self) -> Self:
        for replica, service in self._asked:
            self._threads.run(self._ask, replica, service)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.end()

    def _ask(self, replica: ServiceProcess, service: str) -> None:
        address = urlsplit(replica.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=5)
        with closing(connection):
            self._poll(connection, self._fleet.replicas.index(replica), service)

    def _poll(self, connection: HTTPConnection, number: int, service: str) -> None:
        tag = ""
        while not self._threads.over.wait(POLL_SECONDS):
            began = monotonic()
            connection.request("GET", f"{API}/discover/{service}", headers={"If-None-Match": tag})
            answer = connection.getresponse()
            read = answer.read()
            assert answer.status in {200, 304}, read
            if answer.status == 200:
                tag, body = answer.headers["ETag"], json.loads(read)
            self.answers += 1
            self.stale += body["stale"]
            self.protected += body["protected"]
            self._fleet.history.append(
                "discovered",
                replica=number,
                service=service,
                began=began,
                at=monotonic(),
                ids=[item["instance_id"] for item in body["items"]],
                stale=body["stale"],
                protected=body["protected"],
            )


class Heartbeats:
    """Send the heartbeats of instances, each once in `every` seconds, until it is silenced.

    Each goes to the next of the replicas; one that does not answer is asked again later.
    """

    def __init__(
        self,
        fleet: Fleet,
        instances: Sequence[Registered],
        every: float,
        replicas: Sequence[ServiceProcess],
    ) -> None:
        self._fleet = fleet
        self._every = every
        self._replicas = replicas
        self._threads = _Threads()
        self._lanes = [list(instances[lane::_LANES]) for lane in range(_LANES)]
        self._silent: set[str] = set()

    def __enter__(self) -> Self:
        for lane in range(_LANES):
            self._threads.run(self._beat, lane)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.end()

    def silence(self, instances: Sequence[Registered], bound: float) -> None:
        self.hush(instances)
        self._fleet.silence(instances, bound)

    def hush(self, instances: Sequence[Registered]) -> None:
        """Send no more heartbeats of these, who live all the same."""
        self._silent |= {one.id for one in instances}

    def resume(self) -> None:
        self._silent = set()

    def _beat(self, lane: int) -> None:
        while not self._threads.over.is_set():
            began = monotonic()
            for turn, one in enumerate(self._lanes[lane]):
                if one.id in self._silent:
                    continue
                replica = self._replicas[(turn + lane) % len(self._replicas)]
                with suppress(OSError, HTTPException):
                    self._fleet.beat(replica, one)
            self._threads.over.wait(max(0.0, began + self._every - monotonic()))


class Health:
    """One small HTTP server that answers the probes of all instances; `dead` ones get 503."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        """`{id}` stands for that of an instance."""
        return f"http://127.0.0.1:{self._server.server_port}/{{id}}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        dead = self.dead

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(503 if self.path.strip("/") in dead else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        return Handler

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
