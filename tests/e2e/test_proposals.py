"""Proposals over the API: what they change, their rounds, and how they are applied."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name, fresh_secret
from tests.servers.answer import Answer
from tests.servers.process import wait_until

PROPOSALS = "/api/v1/proposals"
KEYS = "/api/v1/config"
FLAGS = "/api/v1/feature-flags"


class Desk:
    """An environment and a service of its own, and proposals about them."""

    def __init__(self, service: Service) -> None:
        self.of, self.environment, self.name = service, fresh_name("e"), fresh_name()
        self.place: dict[str, Any] = {
            "environment": self.environment,
            "service_name": self.name,
        }

    def write(self, **keys: Any) -> None:
        body_of(self.of.call("PATCH", KEYS, {"set": keys}, **self.place))

    def data(self) -> dict[str, Any]:
        items = body_of(self.of.get(KEYS, **self.place, resolve=False))["items"]
        return {item["key"]: item["value"] for item in items}

    def item(self, **members: Any) -> dict[str, Any]:
        return {"kind": "config", **self.place, **members}

    def flag_item(self, kind: str, name: str, **members: Any) -> dict[str, Any]:
        return {"kind": kind, "environment": self.environment, "name": name, **members}

    def send(self, *items: Any, headers: Any = None, **query: Any) -> Answer:
        body = {"title": "Bigger pool", "items": list(items)}
        return self.of.call("POST", PROPOSALS, body, headers=headers, **query)

    def propose(self, *items: Any) -> dict[str, Any]:
        made: dict[str, Any] = body_of(self.send(*items), 201)
        return made

    def act(self, proposal: dict[str, Any], action: str, **body: Any) -> Answer:
        return self.of.call("POST", f"{PROPOSALS}/{proposal['id']}/{action}", body)

    def revise(self, proposal: dict[str, Any], headers: Any = None, **body: Any) -> Answer:
        return self.of.call("PATCH", f"{PROPOSALS}/{proposal['id']}", body, headers=headers)

    def read(self, proposal: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = body_of(self.of.get(f"{PROPOSALS}/{proposal['id']}"))
        return found

    def apply(self, proposal: dict[str, Any]) -> dict[str, Any]:
        assert body_of(self.act(proposal, "apply"), 202)["state"] == "applying"
        return self.outcome_of(proposal)

    def outcome_of(self, proposal: dict[str, Any]) -> dict[str, Any]:
        wait_until(
            lambda: self.read(proposal)["state"] not in {"applying", "scheduled"}, "it has ended"
        )
        return self.read(proposal)


@pytest.fixture
def desk(service: Service) -> Desk:
    return Desk(service)


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


# What items change


def test_a_patch_is_applied_to_what_is_there_then(desk: Desk) -> None:
    desk.write(pool=10, host="a", old=1)
    proposal = desk.propose(desk.item(set={"pool": 40}, unset=["old"]))
    assert proposal["items"][0]["keys"] == ["old", "pool"]
    assert proposal["items"][0]["diff"]["changed"] == {"pool": {"old": 10, "new": 40}}
    desk.write(host="b")

    ended = desk.apply(proposal)

    assert (ended["state"], ended["items"][0]["outcome"]["version"]) == ("applied", 3)
    assert desk.data() == {"pool": 40, "host": "b"}


def test_documents_are_replaced_deleted_and_restored(desk: Desk) -> None:
    desk.write(pool=10)
    assert desk.apply(desk.propose(desk.item(data={"a": {"b": 1}})))["state"] == "applied"
    assert desk.data() == {"a.b": 1}
    assert desk.apply(desk.propose(desk.item(delete=True)))["state"] == "applied"
    assert desk.data() == {}
    assert desk.apply(desk.propose(desk.item(restore_version=1)))["state"] == "applied"
    assert desk.data() == {"pool": 10}


def test_a_flag_is_proposed_together_with_the_segment_that_it_needs(desk: Desk) -> None:
    serving = {"when": {"segment": "testers"}, "serve": {"variant": "on"}}
    flag = desk.flag_item("flag", "new-pool", definition={"enabled": True, "rules": [serving]})
    segment = desk.flag_item("segment", "testers", definition={"when": None})
    assert refusal(desk.send(flag)) == (422, "item_refused")

    ended = desk.apply(desk.propose(flag, segment))

    assert ended["state"] == "applied"
    outcomes = [item["outcome"] for item in ended["items"]]
    assert [outcome["version"] for outcome in outcomes] == [1, 1]
    body_of(desk.of.get(f"{FLAGS}/new-pool", environment=desk.environment))


def test_a_flaw_of_a_definition_is_named_by_its_place(desk: Desk) -> None:
    flawed = desk.flag_item("flag", "new-pool", definition={"rules": [{"serve": "on"}]})

    answer = desk.send(desk.item(set={"a": 1}), flawed)

    assert refusal(answer) == (422, "item_refused")
    assert answer.json()["errors"][0]["pointer"] == "#/items/1/definition/rules/0/serve"


def test_secrets_are_encrypted_at_once_and_masked(desk: Desk) -> None:
    plain = fresh_secret()
    sent = {"db": {"password": {"$secret": {"value": plain}}}}

    answer = desk.send(desk.item(set=sent))
    proposal = body_of(answer, 201)
    read = desk.of.get(f"{PROPOSALS}/{proposal['id']}")
    ended = desk.apply(proposal)

    assert ended["state"] == "applied"
    for shown in (answer.body, read.body, str(ended).encode(), desk.of.process.log().encode()):
        assert plain.encode() not in shown
    assert plain.encode() not in desk.of.backend.stored_bytes()
    revealed = body_of(desk.of.get(f"{KEYS}/db.password", **desk.place, reveal=True))
    assert revealed["value"] == plain


def test_a_preview_stores_nothing(desk: Desk) -> None:
    shown = body_of(desk.send(desk.item(set={"pool": 1}), dry_run=True))

    assert shown["items"][0]["diff"]["added"] == {"pool": 1}
    assert body_of(desk.of.get(PROPOSALS, environment=desk.environment))["items"] == []


def test_items_that_overlap_or_change_nothing_are_refused(desk: Desk) -> None:
    desk.write(pool=10)
    both = desk.send(desk.item(set={"pool": 1}), desk.item(set={"other": 1}))

    assert refusal(both) == (422, "items_overlap")
    assert refusal(desk.send(desk.item(set={"pool": 10}))) == (422, "nothing_proposed")
    many = [{**desk.item(set={"a": 1}), "service_name": f"s{number}"} for number in range(201)]
    assert desk.send(*many).status == 422


# What has changed since


def test_a_change_of_its_own_keys_makes_it_stale(desk: Desk) -> None:
    desk.write(pool=10, host="a")
    proposal = desk.propose(desk.item(set={"pool": 40}))
    desk.write(pool=11)

    answer = desk.act(proposal, "apply")

    assert refusal(answer) == (409, "proposal_stale")
    assert answer.json()["stale"] == [{"item": 0, "keys": ["pool"]}]
    assert desk.read(proposal)["items"][0]["stale"] == ["pool"]


def test_a_deletion_makes_it_stale(desk: Desk) -> None:
    desk.write(pool=10, host="a")
    proposal = desk.propose(desk.item(set={"pool": 40}))
    desk.apply(desk.propose(desk.item(delete=True)))

    assert refusal(desk.act(proposal, "apply")) == (409, "proposal_stale")


@pytest.mark.parametrize(("side", "pool"), [("current", 11), ("proposed", 40)])
def test_another_round_is_made_on_what_exists_now(desk: Desk, side: str, pool: int) -> None:
    desk.write(pool=10, host="a")
    proposal = desk.propose(desk.item(set={"pool": 40, "host": "b"}))
    desk.write(pool=11)

    refused = desk.revise(proposal, rebase="refuse")
    assert refusal(refused) == (409, "rebase_conflict")
    assert refused.json()["conflicts"] == [{"item": 0, "keys": ["pool"]}]
    rebased = body_of(desk.revise(proposal, rebase=side))

    assert (rebased["round"], rebased["items"][0]["base"]) == (2, 2)
    assert desk.apply(proposal)["state"] == "applied"
    assert desk.data() == {"pool": pool, "host": "b"}


# Rounds


def test_if_match_states_the_round(desk: Desk) -> None:
    made = desk.send(desk.item(set={"pool": 1}))
    proposal, tag = body_of(made, 201), made.headers["ETag"]
    items = [desk.item(set={"pool": 2})]

    assert body_of(desk.revise(proposal, {"If-Match": tag}, items=items))["round"] == 2
    late = desk.revise(proposal, {"If-Match": tag}, items=items)
    assert refusal(late) == (412, "stale_round")
    assert refusal(desk.revise(proposal)) == (422, "bad_round")


def test_a_repeated_request_finds_its_proposal_also_once_it_is_applied(desk: Desk) -> None:
    key, item = {"Idempotency-Key": fresh_name("k")}, desk.item(set={"pool": 1})
    proposal = body_of(desk.send(item, headers=key), 201)
    assert body_of(desk.send(item, headers=key))["id"] == proposal["id"]
    desk.apply(proposal)

    again = body_of(desk.send(item, headers=key))

    assert (again["id"], again["state"]) == (proposal["id"], "applied")
    other = desk.send(desk.item(set={"pool": 2}), headers=key)
    assert refusal(other)[1] == "idempotency_key_reused"


# Times, and ends


def test_it_is_applied_at_its_time(desk: Desk) -> None:
    proposal = desk.propose(desk.item(set={"pool": 1}))
    at = datetime.now(UTC) + timedelta(seconds=2)
    scheduled = body_of(desk.act(proposal, "apply", at=at.isoformat()), 202)
    assert scheduled["state"] == "scheduled"

    ended = desk.outcome_of(proposal)

    assert ended["state"] == "applied"
    assert datetime.fromisoformat(ended["updated_at"]) >= at
    assert desk.data() == {"pool": 1}


def test_a_time_is_taken_back(desk: Desk) -> None:
    proposal = desk.propose(desk.item(set={"pool": 1}))
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body_of(desk.act(proposal, "apply", at=later), 202)

    assert body_of(desk.act(proposal, "unschedule"))["state"] == "approved"
    assert refusal(desk.act(proposal, "unschedule")) == (409, "proposal_state")
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert refusal(desk.act(proposal, "apply", at=past)) == (422, "bad_schedule")


def test_what_has_ended_cannot_be_applied_or_withdrawn(desk: Desk) -> None:
    withdrawn = desk.propose(desk.item(set={"pool": 1}))
    assert body_of(desk.act(withdrawn, "withdraw"))["state"] == "withdrawn"
    applied = desk.propose(desk.item(set={"pool": 1}))
    desk.apply(applied)

    for proposal in (withdrawn, applied):
        for action in ("apply", "withdraw"):
            assert refusal(desk.act(proposal, action)) == (409, "proposal_state")


def test_while_access_is_open_nobody_can_approve(desk: Desk) -> None:
    proposal = desk.propose(desk.item(set={"pool": 1}))

    answer = desk.act(proposal, "reviews", round=1, verdict="approve")

    assert refusal(answer) == (409, "reviewer_unknown")
    body_of(desk.act(proposal, "reviews", round=1, verdict="remark", text="why?"), 201)
    assert refusal(desk.act(proposal, "reviews", round=2, verdict="remark")) == (409, "round_moved")
