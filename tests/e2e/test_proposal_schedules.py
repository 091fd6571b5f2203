"""A proposal that is scheduled begins at its time, or is missed if no replica was there."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

PROPOSALS = "/api/v1/proposals"
ITEM = {"kind": "config", "environment": "staging", "service_name": "shop", "set": {"a": 1}}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PILOTHOUSE_DATA_DIR": str(tmp_path), "PROPOSAL_GRACE_SECONDS": "1"}


@pytest.fixture
def service(environment: dict[str, str]) -> Iterator[ServiceProcess]:
    with ServiceProcess(environment) as service:
        yield service


def schedule(service: ServiceProcess, seconds: float) -> tuple[str, datetime]:
    """Propose a change to be applied that many seconds from now; return its path and time."""
    made = service.request("POST", PROPOSALS, {"title": "later", "items": [ITEM]}).json()
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    path = f"{PROPOSALS}/{made['id']}"
    begun = service.request("POST", f"{path}/apply", {"at": at.isoformat()})
    assert (begun.status, begun.json()["state"]) == (202, "scheduled")
    return path, at


def state_of(service: ServiceProcess, path: str) -> dict[str, Any]:
    proposal: dict[str, Any] = service.request("GET", path).json()
    return proposal


def test_it_begins_at_its_time_and_not_before(service: ServiceProcess) -> None:
    path, at = schedule(service, 2)

    wait_until(lambda: state_of(service, path)["state"] == "applied", "it is applied")

    written = service.request(
        "GET", "/api/v1/config/a?environment=staging&service_name=shop"
    ).json()
    assert datetime.fromisoformat(written["updated_at"]) >= at


def test_it_is_missed_if_no_replica_was_there(
    service: ServiceProcess, environment: dict[str, str]
) -> None:
    path, at = schedule(service, 1)
    service.stop()
    late = at + timedelta(seconds=1.2)
    wait_until(lambda: datetime.now(UTC) > late, "it is too late")

    with ServiceProcess(environment) as again:
        wait_until(lambda: state_of(again, path)["state"] == "missed", "it is missed")

        assert state_of(again, path)["reason"] == "too_late"
        document = "/api/v1/config/a?environment=staging&service_name=shop"
        assert again.request("GET", document).status == 404


def test_one_that_is_unscheduled_is_not_applied(service: ServiceProcess) -> None:
    path, at = schedule(service, 1)

    waiting = service.request("POST", f"{path}/unschedule", {})
    wait_until(lambda: time.time() > at.timestamp() + 1, "its time has passed")

    assert waiting.json()["state"] == "approved"
    assert state_of(service, path)["state"] == "approved"
