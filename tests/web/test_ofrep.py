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

from app.access.fingerprints import Fingerprints
from app.access.gate import OpenGate
from app.access.model import Principal
from app.access.tickets import TICKET_SECONDS, Tickets
from app.changes.embedded import EmbeddedChangeLog
from app.changes.follower import Follower
from app.flags.embedded import EmbeddedFlagStore
from app.flags.evaluating import Evaluator
from app.flags.forms import read, text_of
from app.flags.model import Item
from app.flags.ofrep import Told, every, stream_of
from app.flags.router_ofrep import router
from app.flags.service import FlagService
from app.flags.sets import FlagSets
from app.flags.usage import UsageCounter
from app.flags.writing import FlagWriter
from app.state import State

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
            raise OSError("the clock is away")
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sets(tmp_path: Path, clock: Clock, state: dict[str, object]) -> AsyncIterator[FlagSets]:
    kept = State(tmp_path)
    log = EmbeddedChangeLog(kept)
    store = EmbeddedFlagStore(kept, log.wake)
    sets = FlagSets(store)
    evaluator = Evaluator(sets, clock=clock)
    writer = FlagWriter(store, sets, Fingerprints(bytes(32)))
    state |= {
        "gate": OpenGate(),
        "evaluator": evaluator,
        "flags": FlagService(store, sets, writer, UsageCounter(store, evaluator)),
        "follower": Follower(log),
        "health": Health(),
    }
    yield sets
    await kept.close()


@pytest.fixture
def app(sets: FlagSets) -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    return app


@pytest.mark.parametrize(("path", "key"), [("", None), ("/team%2Fa", "team/a")])
async def test_before_flags_are_read_there_is_no_answer(
    client: httpx.AsyncClient, path: str, key: str | None
) -> None:
    away = await client.post(OFREP + path, json={})

    assert away.status_code == 503
    assert away.headers["Retry-After"]
    _is_told(away.json(), key)


@pytest.mark.parametrize(("path", "key"), [("", None), ("/team%2Fa", "team/a")])
async def test_a_failure_of_ours_is_told_without_its_reason(
    client: httpx.AsyncClient, sets: FlagSets, path: str, key: str | None
) -> None:
    await sets.refresh()

    failed = await client.post(OFREP + path, json={})

    assert failed.status_code == 500
    _is_told(failed.json(), key)
    assert "clock" not in failed.text


def _item(name: str, definition: str) -> Item:
    return Item("flag", "default", name, 1, definition, "created", "", "", BEGIN, BEGIN, 0)


async def test_time_alone_makes_another_tag_and_another_answer(
    client: httpx.AsyncClient, sets: FlagSets, clock: Clock
) -> None:
    active = {"from": BEGIN.isoformat(), "until": None}
    rule = {"id": "launch", "active": active, "when": None, "serve": {"variant": "on"}}
    flag = read({"name": "a", "default_variant": "off", "rules": [rule]})
    sets.learn([_item("a", text_of(flag))])
    begin = BEGIN.timestamp()

    answers: list[httpx.Response] = []
    for clock.now in (begin - 2, begin - 1, begin, begin + 1):
        known = {"If-None-Match": answers[-1].headers["ETag"]} if answers else {}
        answers.append(await client.post(OFREP, json={}, headers=known))

    assert [answer.status_code for answer in answers] == [200, 304, 200, 304]
    assert [answers[turn].json()["flags"][0]["value"] for turn in (0, 2)] == [False, True]


async def test_a_flag_that_this_release_cannot_read_harms_no_other(
    client: httpx.AsyncClient, sets: FlagSets, clock: Clock
) -> None:
    sets.learn([_item("a", text_of(read({"name": "a"}))), _item("later", '{"type":"new"}')])
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
    sets: FlagSets, clock: Clock
) -> None:
    await sets.refresh()
    clock.now = BEGIN.timestamp()
    tickets, evaluator = Tickets(bytes(32), clock), Evaluator(sets, clock=clock)

    def asked(known: str | None) -> Told:
        ticket = tickets.issued(Principal("ann", ()), "default")
        stream = stream_of("https", "flags.example.org", "default", ticket)
        return every(evaluator, "default", b"{}", known, stream)

    first = asked(None)
    same = asked(first.tag)
    clock.now += TICKET_SECONDS
    renewed = asked(first.tag)

    assert (first.status, same.status, renewed.status) == (200, 304, 200)
    (stream,) = json.loads(renewed.body)["eventStreams"]
    tickets.holder(stream["url"].partition("&ticket=")[2])
