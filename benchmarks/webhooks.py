"""How fast changes are delivered to a receiver of webhooks on loopback."""

import json
from http.client import HTTPException
from time import monotonic

from benchmarks.load import Figures
from benchmarks.table import Row
from tests.servers.receiver import Receiver
from tests.servers.service import ServiceProcess

CHANGES = 2000  # of as many flags, by one import
SINGLE = 100
_ENVIRONMENT = "webhooks"
_FLAGS = "/api/v1/feature-flags"


def deliver(service: ServiceProcess, kind: str) -> list[Row]:
    """Import many flags at once, and change one of them again and again."""
    with Receiver() as receiver:
        body = {"url": receiver.url(), "kinds": ["flag"], "environments": [_ENVIRONMENT]}
        _require(service, "PUT", "/api/v1/webhooks/bench", body)
        flags = {
            f"f{number}": {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}
            for number in range(CHANGES)
        }
        path = f"{_FLAGS}/import?format=flagd&environment={_ENVIRONMENT}"
        _require(service, "POST", path, {"flags": flags})
        arrivals = receiver.wait_for(lambda all_: len(all_) >= CHANGES, 120)
        seconds = arrivals[-1].at - arrivals[0].at
        rate = (CHANGES - 1) / seconds
        delays = [_delay(service, receiver, number) for number in range(SINGLE)]
    return [
        Row(
            f"deliver {CHANGES} changes to a webhook, {kind}",
            Figures([1 / rate] * CHANGES, rate),
            None,
        ),
        Row(
            f"answer of a write to its webhook, {kind}", Figures(delays, SINGLE / sum(delays)), None
        ),
    ]


def _delay(service: ServiceProcess, receiver: Receiver, number: int) -> float:
    """Return the seconds from the answer of one write to its arrival."""
    seen = len(receiver.arrivals)
    path = f"{_FLAGS}/f0?environment={_ENVIRONMENT}"
    _require(service, "PUT", path, {"description": f"change {number}"})
    written = monotonic()
    arrivals = receiver.wait_for(lambda all_: len(all_) > seen, 30)
    return max(arrivals[-1].at - written, 0.0)


def _require(service: ServiceProcess, method: str, path: str, body: object) -> None:
    answer = service.request(method, path, body)
    if answer.status not in {200, 201}:
        raise HTTPException(json.dumps([path, answer.status, answer.body.decode()]))
