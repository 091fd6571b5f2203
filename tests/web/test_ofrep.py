"""OFREP's clients read no other form, whatever fails; and time alone makes another tag."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.access.authentication import OpenAccess
from app.access.model import Principal
from app.access.tickets import TICKET_SECONDS, StreamTickets
from app.audit.fingerprints import Fingerprints
from app.changes.follower import Follower
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.flags.api.ofrep import OfrepResponse, evaluate_every, stream_address
from app.flags.api.router_ofrep import router
from app.flags.cache import FlagCache
from app.flags.definitions.representations import definition_text, read_flag_body
from app.flags.evaluation.evaluator import FlagEvaluator
from app.flags.evaluation.usage import UsageCounter
from app.flags.model import Item
from app.flags.service import FlagService
from app.flags.store.embedded import EmbeddedFlagStore
from app.flags.writer import FlagWriter
from app.sqlite.state import SQLiteState
from pilothouse_core.evaluation import with_subject

pytestmark = pytest.mark.anyio
OFREP = "/ofrep/v1/evaluate/flags"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Health:
    serving: bool = True

    def stale_seconds(self) -> int | None:
        return None


@dataclass
class Clock:
    now: float | None = None

    def __call__(self) -> float:
        if self.now is None:
            raise OSError("the clock is unavailable")
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sets(tmp_path: Path, clock: Clock, state: dict[str, object]) -> AsyncIterator[FlagCache]:
    kept = SQLiteState(tmp_path)
    log = EmbeddedChangeLog(kept)
    store = EmbeddedFlagStore(kept, log.wake)
    sets = FlagCache(store)
    evaluator = FlagEvaluator(sets, clock=clock)
    counter = UsageCounter(store, evaluator)
    writer = FlagWriter(store, sets, Fingerprints(bytes(32)), counter.last_evaluated_at)
    state |= {
        "authenticator": OpenAccess(),
        "evaluator": evaluator,
        "flags": FlagService(store, sets, writer, counter),
        "follower": Follower(log),
        "health": Health(),
    }
    yield sets
    await kept.close()


@pytest.fixture
def app(sets: FlagCache) -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    return app


@pytest.mark.parametrize(("path", "key"), [("", None), ("/team%2Fa", "team/a")])
async def test_before_flags_are_read_there_is_no_answer(
    client: httpx.AsyncClient, path: str, key: str | None
) -> None:
    unavailable = await client.post(OFREP + path, json={})

    assert unavailable.status_code == 503
    assert unavailable.headers["Retry-After"]
    _is_told(unavailable.json(), key)


@pytest.mark.parametrize(("path", "key"), [("", None), ("/team%2Fa", "team/a")])
async def test_a_failure_of_ours_is_told_without_its_reason(
    client: httpx.AsyncClient, sets: FlagCache, path: str, key: str | None
) -> None:
    await sets.refresh()

    failed = await client.post(OFREP + path, json={})

    assert failed.status_code == 500
    _is_told(failed.json(), key)
    assert "clock" not in failed.text


def _item(name: str, definition: str) -> Item:
    return Item("flag", "default", name, 1, definition, "created", "", "", BEGIN, BEGIN, 0)


@pytest.mark.parametrize("odd", ["\0", "a\0b", "\ud800", "a\udfffb"])
@pytest.mark.parametrize("attribute", ["plan", "targetingKey", "other\ud800"])
async def test_an_odd_attribute_refuses_nothing_and_is_evaluated_as_in_the_client(
    client: httpx.AsyncClient, sets: FlagCache, clock: Clock, odd: str, attribute: str
) -> None:
    clock.now = 0
    by_plan = {"attribute": "plan", "op": "matches", "values": ["^[a-z]+$"]}
    rules = {
        "matched": [{"when": by_plan, "serve": {"variant": "on"}}],
        "other": [{"when": {**by_plan, "attribute": "country"}, "serve": {"variant": "on"}}],
        "split": [{"serve": {"rollout": {"weights": {"on": 50, "off": 50}}}}],
    }
    for name, found in rules.items():
        sets.apply_items_at_once(
            [_item(name, definition_text(read_flag_body({"name": name, "rules": found})))]
        )
    context = {"targetingKey": "ann", "plan": "pro", "country": "de", attribute: odd}
    body = json.dumps({"context": context})

    bulk = await client.post(OFREP, content=body)

    in_client = sets.environment("default").flags
    whole = with_subject(context, context["targetingKey"])
    assert bulk.status_code == 200
    assert {flag["key"]: flag["value"] for flag in bulk.json()["flags"]} == {
        name: in_client.evaluate(name, whole, 0).value for name in rules
    }
    for name in rules:
        alone = await client.post(f"{OFREP}/{name}", content=body)
        assert alone.json()["value"] is in_client.evaluate(name, whole, 0).value


async def test_time_alone_makes_another_tag_and_another_answer(
    client: httpx.AsyncClient, sets: FlagCache, clock: Clock
) -> None:
    active = {"from": BEGIN.isoformat(), "until": None}
    rule = {"id": "launch", "active": active, "when": None, "serve": {"variant": "on"}}
    flag = read_flag_body({"name": "a", "default_variant": "off", "rules": [rule]})
    sets.apply_items_at_once([_item("a", definition_text(flag))])
    begin = BEGIN.timestamp()

    answers: list[httpx.Response] = []
    for clock.now in (begin - 2, begin - 1, begin, begin + 1):
        known = {"If-None-Match": answers[-1].headers["ETag"]} if answers else {}
        answers.append(await client.post(OFREP, json={}, headers=known))

    assert [answer.status_code for answer in answers] == [200, 304, 200, 304]
    assert [answers[turn].json()["flags"][0]["value"] for turn in (0, 2)] == [False, True]


async def test_a_flag_that_this_release_cannot_read_harms_no_other(
    client: httpx.AsyncClient, sets: FlagCache, clock: Clock
) -> None:
    readable = _item("a", definition_text(read_flag_body({"name": "a", "enabled": True})))
    sets.apply_items_at_once([readable, _item("later", '{"type":"new"}')])
    clock.now = 0

    alone = await client.post(f"{OFREP}/later", json={})
    good, bad = (await client.post(OFREP, json={})).json()["flags"]

    assert (alone.status_code, alone.json()) == (400, bad)
    assert (bad["key"], bad["errorCode"]) == ("later", "PARSE_ERROR")
    assert good["value"] is True


def _is_told(members: dict[str, Any], key: str | None) -> None:
    assert members["errorCode"] == "GENERAL"
    assert members["errorDetails"]
    assert members.get("key") == key


async def test_a_ticket_that_runs_out_is_renewed_even_where_no_flag_changes(
    sets: FlagCache, clock: Clock
) -> None:
    await sets.refresh()
    clock.now = BEGIN.timestamp()
    tickets, evaluator = StreamTickets(bytes(32), clock), FlagEvaluator(sets, clock=clock)

    def evaluate_flags(known: str | None) -> OfrepResponse:
        ticket = tickets.issue(Principal("ann", ()), "default")
        stream = stream_address("https", "flags.example.org", "default", ticket)
        return evaluate_every(evaluator, "default", b"{}", known, stream)

    first = evaluate_flags(None)
    same = evaluate_flags(first.tag)
    clock.now += TICKET_SECONDS
    renewed = evaluate_flags(first.tag)

    assert (first.status, same.status, renewed.status) == (200, 304, 200)
    (stream,) = json.loads(renewed.body)["eventStreams"]
    tickets.verify(stream["url"].partition("&ticket=")[2])
