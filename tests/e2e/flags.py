"""How the end-to-end tests speak to the flags of a running service, in one environment."""

from typing import Any

from tests.e2e.client import Service, body_of, fresh_name
from tests.servers.answer import Answer

FLAGS, SEGMENTS = "/api/v1/feature-flags", "/api/v1/segments"
EVALUATE = f"{FLAGS}/evaluate"
OFREP = "/ofrep/v1/evaluate/flags"


class Flags:
    """One environment of its own."""

    def __init__(self, service: Service) -> None:
        self.of = service
        self.environment = fresh_name("e")

    def create(self, name: str, /, **members: Any) -> Answer:
        body = {"name": name, "environment": self.environment, **members}
        return self.of.call("POST", FLAGS, body)

    def edit(
        self, method: str, name: str, headers: dict[str, str] | None = None, /, **body: Any
    ) -> Answer:
        path = f"{FLAGS}/{name}"
        return self.of.call(method, path, body, headers=headers, environment=self.environment)

    def get(self, name: str = "", **query: Any) -> Answer:
        path = f"{FLAGS}/{name}" if name else FLAGS
        return self.of.get(path, environment=self.environment, **query)

    def evaluate(self, name: str, user: Any = None, **more: Any) -> Any:
        body = {"flag_name": name, "environment": self.environment, "user_id": user, **more}
        return body_of(self.of.call("POST", EVALUATE, body))

    def ofrep(self, path: str = "", headers: dict[str, str] | None = None, **body: Any) -> Answer:
        stated = {"X-Environment": self.environment, **(headers or {})}
        return self.of.call("POST", OFREP + path, body, headers=stated)
