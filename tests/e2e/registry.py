"""How the end-to-end tests speak to the registry of a running service, about one service."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.e2e.client import Headers, Service, body_of, fresh_name
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS, wait_until

REGISTRY = "/api/v1/registry"
URL = "http://10.0.0.7:8080"


class Registered:
    """A service of its own, and everything the API can do to its instances."""

    def __init__(self, of: Service) -> None:
        self.of = of
        self.name = fresh_name()
        self.path = f"{REGISTRY}/services/{self.name}"

    def register(self, id_: str | None = None, url: str = URL, **members: Any) -> Answer:
        named = {} if id_ is None else {"instance_id": id_}
        body = {"service_name": self.name, "service_url": url, **named, **members}
        return self.of.call("POST", f"{REGISTRY}/register", body)

    def deregister(self, **members: Any) -> Answer:
        body = {"service_name": self.name, **members}
        return self.of.call("POST", f"{REGISTRY}/deregister", body)

    def heartbeat(self, id_: str, body: Any = None) -> Answer:
        return self.of.call("PUT", f"{self.path}/instances/{id_}/heartbeat", body)

    def drain(self, id_: str, body: Any = None) -> Answer:
        return self.of.call("POST", f"{self.path}/instances/{id_}/drain", body)

    def url(self, **query: Any) -> Answer:
        return self.of.get(f"{self.path}/url", **query)

    def discover(
        self, *, headers: Headers | None = None, timeout: float = 10, **query: Any
    ) -> Answer:
        path = f"{REGISTRY}/discover/{self.name}"
        return self.of.call("GET", path, headers=headers, timeout=timeout, **query)

    def discovered_ids(self, **query: Any) -> list[str]:
        return [item["instance_id"] for item in body_of(self.discover(**query))["items"]]

    def instances_by_id(self) -> dict[str, Any]:
        """Return all instances by id, discovered or not."""
        return {item["instance_id"]: item for item in body_of(self.of.get(self.path))["items"]}

    def statuses(self) -> dict[str, str]:
        return {id_: item["status"] for id_, item in self.instances_by_id().items()}

    def wait_for(self, within: float = PATIENCE_SECONDS, /, **statuses: str) -> None:
        """Wait until these and no others are registered, with these statuses."""
        wait_until(lambda: self.statuses() == statuses, f"{self.name} is {statuses}", within)

    def check(self) -> list[Any]:
        found: list[Any] = body_of(self.of.call("POST", f"{self.path}/health"))["results"]
        return found


def release_silent(service: Service) -> Service:
    """Let all go that other tests have registered: many silent ones at once stop every eviction."""
    cursor: str | None = None
    names: list[str] = []
    while True:
        page = body_of(service.get(f"{REGISTRY}/services", limit=1000, cursor=cursor))
        names += [item["service_name"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    for name in names:
        for item in body_of(service.get(f"{REGISTRY}/services/{name}"))["items"]:
            if not item["foreign"]:
                body = {"service_name": name, "instance_id": item["instance_id"]}
                service.call("POST", f"{REGISTRY}/deregister", body)
    nobody = f"{REGISTRY}/discover/{fresh_name()}"
    wait_until(lambda: not body_of(service.get(nobody))["protected"], "evictions go on", 90)
    return service


class Instance:
    """A real server that answers every GET with its status, until it is closed."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        instance = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(instance.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - its own name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def running_instance(port: int = 0) -> Iterator[Instance]:
    instance = Instance(port)
    try:
        yield instance
    finally:
        instance.close()
