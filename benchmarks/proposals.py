"""What it costs to apply changes of fifty documents as a proposal, beside fifty plain writes."""

from statistics import median
from time import perf_counter, sleep
from typing import Any

from tests.servers.service import ServiceProcess

_DOCUMENTS, _ROUNDS = 50, 7
_PROPOSALS = "/api/v1/proposals"
_PAUSE_SECONDS = 0.002


def apply_costs(service: ServiceProcess, label: str) -> str:
    """Return how long both take, in turns, and the ratio of their medians."""
    plain: list[float] = []
    applied: list[float] = []
    for number in range(_ROUNDS + 1):  # the first creates the documents
        written, begun = _write_each(service, number), _apply_all(service, number)
        if number:
            plain.append(written)
            applied.append(begun)
    one, other = median(applied), median(plain)
    return (
        f"apply a proposal of {_DOCUMENTS} documents, {label}: {one * 1000:.0f} ms, as plain"
        f" writes {other * 1000:.0f} ms ({one / other:.2f} times)"
    )


def _write_each(service: ServiceProcess, number: int) -> float:
    began = perf_counter()
    for document in range(_DOCUMENTS):
        path = f"/api/v1/config?environment=bench&service_name=proposed-{document}"
        answer = service.request("PATCH", path, {"set": {"plain": number}})
        assert answer.status == 200, answer.body
    return perf_counter() - began


def _apply_all(service: ServiceProcess, number: int) -> float:
    """Return the time from the request to apply until every document is written."""
    items = [
        {
            "kind": "config",
            "environment": "bench",
            "service_name": f"proposed-{document}",
            "set": {"proposed": number},
        }
        for document in range(_DOCUMENTS)
    ]
    made = _send(service, "POST", _PROPOSALS, {"title": "bench", "items": items})
    began = perf_counter()
    _send(service, "POST", f"{_PROPOSALS}/{made['id']}/apply", {})
    while _send(service, "GET", f"{_PROPOSALS}?limit=1")["items"][0]["state"] == "applying":
        sleep(_PAUSE_SECONDS)
    seconds = perf_counter() - began
    assert _send(service, "GET", f"{_PROPOSALS}?limit=1")["items"][0]["state"] == "applied"
    return seconds


def _send(service: ServiceProcess, method: str, path: str, body: Any = None) -> Any:
    answer = service.request(method, path, body)
    assert answer.status < 300, answer.body
    return answer.json()
