"""A service that starts releases, and what tests ask of it."""

import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Self

from pilothouse_core.releases.arms import arm_of
from tests.proposals.release_launcher import FOLDER
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess

ARGV = (sys.executable, "-m", "tests.proposals.release_launcher")
_numbers = count()
HOUR = "1h"


def plan(*shares: float, hold: str = HOUR, **more: Any) -> dict[str, Any]:
    return {"steps": [{"share": share, "hold": hold} for share in shares], **more}


class ReleasingService:
    def __init__(self, environment: Mapping[str, str], bodies: Path) -> None:
        self.process = ServiceProcess({**environment, FOLDER: str(bodies)}, ARGV)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.close()

    def request(self, method: str, path: str, json: Any = None, **more: Any) -> Answer:
        return self.process.request(method, path, json, **more)

    def layer(self) -> "ReleasedLayer":
        return ReleasedLayer(self, "production", f"service-{next(_numbers)}")


class ReleasedLayer:
    """The layer of a service, and the release of it."""

    def __init__(self, service: ReleasingService, environment: str, name: str) -> None:
        self.service = service
        self.environment = environment
        self.name = name
        self.query = f"environment={environment}&service_name={name}"
        self.release = ""

    def write(self, members: Mapping[str, Any]) -> None:
        answer = self.service.request(
            "PATCH", f"/api/v1/config?{self.query}", {"set": dict(members)}
        )
        assert answer.status == 200, answer

    def start(self, members: Mapping[str, Any], stated: Mapping[str, Any], **more: Any) -> str:
        answer = self.try_start(members, stated, **more)
        assert answer.status == 201, answer
        self.release = answer.json()["id"]
        wait_until(lambda: self.state() is not None, "the release is read")
        return self.release

    def try_start(
        self, members: Mapping[str, Any], stated: Mapping[str, Any], **more: Any
    ) -> Answer:
        return self.service.request(
            "POST",
            "/test/releases",
            {
                "environment": self.environment,
                "service_name": self.name,
                "set": dict(members),
                "plan": dict(stated),
                **more,
            },
        )

    def read(
        self, instance: str | None = None, path: str = "/api/v1/effective", **more: Any
    ) -> Answer:
        named = "" if instance is None else f"&instance={instance}"
        return self.service.request("GET", f"{path}?{self.query}{named}", **more)

    def data(self, instance: str | None = None) -> Any:
        return self.read(instance).json()["data"]

    def state(self) -> str | None:
        answer = self.service.request("GET", f"/api/v1/releases/{self.release}")
        return answer.json()["state"] if answer.status == 200 else None

    def details(self) -> Mapping[str, Any]:
        answer = self.service.request("GET", f"/api/v1/releases/{self.release}")
        assert answer.status == 200, answer
        shown: Mapping[str, Any] = answer.json()
        return shown

    def move(self, how: str, body: Any = None, **more: Any) -> Answer:
        path = f"/api/v1/releases/{self.release}/{how}"
        return self.service.request("POST", path, {} if body is None else body, **more)

    def report(self, instance: str, outcome: str, code: str = "", arm: str = "candidate") -> Answer:
        body = {"instance": instance, "arm": arm, "outcome": outcome, "code": code}
        return self.move("reports", body)

    def wait_for(self, state: str, within: float = PATIENCE_SECONDS) -> None:
        wait_until(lambda: self.state() == state, f"the release is {state}", within)

    def members(self, share: int, names: Sequence[str]) -> list[str]:
        """Return who has the candidate at a share of buckets."""
        return [name for name in names if arm_of(self.release, name, share) == "candidate"]
