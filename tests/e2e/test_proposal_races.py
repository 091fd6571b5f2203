"""Rounds of one proposal that several callers write at the same time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.client import Service, body_of, fresh_name
from tests.servers.answer import Answer

PROPOSALS = "/api/v1/proposals"


def test_a_round_can_be_written_after_others_were_lost(service: Service) -> None:
    place = {"environment": fresh_name("e"), "service_name": fresh_name()}

    def round_of(value: int) -> dict[str, Any]:
        return {"items": [{"kind": "config", **place, "set": {"pool": value}}]}

    made = body_of(service.call("POST", PROPOSALS, {"title": "Pool", **round_of(1)}), 201)
    path = f"{PROPOSALS}/{made['id']}"

    def revise(value: int) -> Answer:
        return service.call("PATCH", path, round_of(value))

    def remark(_: int) -> Answer:
        return service.call("POST", f"{path}/reviews", {"round": 1, "verdict": "remark"})

    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(revise, range(2, 10)), *threads.map(remark, range(8))]
    revised = revise(10)

    assert {answer.status for answer in answers} <= {200, 201, 409}
    assert any(answer.status == 200 for answer in answers)
    ended = body_of(revised)
    assert ended["items"][0]["diff"]["added"] == {"pool": 10}
    assert revised.headers["ETag"] == f'"{ended["round"]}"'
