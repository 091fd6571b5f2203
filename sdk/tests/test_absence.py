"""The service goes away and comes back: nobody who reads notices, and nobody comes back in step."""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse import AsyncPilothouse, ConfigChange, Pilothouse, PilothouseError, RefreshPolicy
from pilothouse.errors import Unavailable
from sdk.tests.reload.waiting import until
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess
from tests.trials import trials

_numbers = itertools.count()
_TIMES = 300  # as fast as by the clock: ten minutes are two seconds
_TEN_MINUTES = 600.0
_USERS = [f"user-{number}" for number in range(100)]
_WINDOW = 0.05  # seconds


@pytest.fixture(scope="module")
def mortal() -> Iterator[ServiceProcess]:
    with ServiceProcess({}) as process:
        yield process


class Shop:
    """An environment of its own, with a flag for half of the users and two values that agree."""

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        self.environment = f"absence-{next(_numbers)}"
        self.set_values(1)
        self._flag("POST", "", {"name": "checkout", "environment": self.environment}, share=50)

    @property
    def address(self) -> tuple[str, str, str]:
        return self.process.url, "orders", self.environment

    def set_values(self, value: int) -> None:
        query = f"environment={self.environment}&service_name=orders"
        body = {"set": {"a.left": value, "a.right": value}}
        answer = self.process.request("PATCH", f"/api/v1/config?{query}", body)
        assert answer.status == 200, answer.body

    def roll_out(self, share: int) -> None:
        self._flag("PATCH", f"/checkout?environment={self.environment}", {}, share=share)

    def _flag(self, method: str, path: str, body: dict[str, Any], *, share: int) -> None:
        body = {**body, "rollout_percentage": share}
        answer = self.process.request(method, f"/api/v1/feature-flags{path}", body)
        assert answer.status in {200, 201}, answer.body


@pytest.fixture
def shop(mortal: ServiceProcess) -> Shop:
    if mortal.exit_code is not None:  # a test failed while it was away
        mortal.restart()
    return Shop(mortal)


Seen = tuple[object, ...]


def observations(client: Pilothouse) -> Iterator[Seen]:
    """Read everything once, each time in another way."""
    for user in _USERS:
        yield "is_on", user, client.flags.is_on("checkout", user_id=user)
        yield "variant", user, client.flags.variant("checkout", user_id=user)
    values = client.config.held.data["a"]
    yield "held", values["left"], values["right"]
    yield "get", client.config.get("a.left"), client.config.get("absent", "default")
    yield "section", tuple(client.config.section("a"))


class Reading:
    """Threads that read all the time; `seen` is each different thing, `errors` should be none."""

    def __init__(self, client: Pilothouse) -> None:
        self.seen: set[Seen] = set()
        self.errors: list[Exception] = []
        self.rounds = 0
        self._client = client
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(2)]

    def _read(self) -> None:
        while not self._is_over.is_set():
            try:
                self.seen.update(observations(self._client))
            except Exception as error:  # noqa: BLE001 - none is the claim
                self.errors.append(error)
            self.rounds += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def compress_pace(pace: RefreshPolicy) -> RefreshPolicy:
    return replace(
        pace,
        poll_interval=pace.poll_interval / _TIMES,
        wait=pace.wait / _TIMES,
        backoff=pace.backoff / _TIMES,
        longest_backoff=pace.longest_backoff / _TIMES,
    )


def test_ten_minutes_without_the_service_change_no_answer(shop: Shop) -> None:
    requests: list[float] = []
    changes: list[ConfigChange] = []

    def token() -> None:
        """Nobody needs one here; it is asked for at each request."""
        requests.append(time.monotonic())

    with Pilothouse(*shop.address, token, pace=compress_pace(RefreshPolicy())) as client:
        client.on_change("a.left", changes.append)
        before = set(observations(client))
        with Reading(client) as reading:
            shop.process.kill()
            wait_until(lambda: client.last_error is not None, "it is told")
            requests_before, began = len(requests), time.monotonic()
            wait_until(
                lambda: time.monotonic() - began > _TEN_MINUTES / _TIMES, "ten minutes are over"
            )
            attempts, rounds = len(requests) - requests_before, reading.rounds

            assert (reading.seen, reading.errors) == (before, [])
            assert rounds > 10
            assert isinstance(client.last_error, Unavailable)
            assert (client.config.source, client.flags.source) == ("service", "service")
            # Three loops, each after 15 s on average once they have backed off: 120, and fewer on
            # a machine that stands still meanwhile. They go on, and never hammer.
            assert 6 < attempts < 300

            shop.process.restart()
            shop.set_values(2)
            shop.roll_out(60)
            wait_until(lambda: client.config.get("a.left") == 2, "it catches up")
            wait_until(lambda: client.flags.state.revision > client.config.revision, "flags too")
            wait_until(lambda: client.last_error is None, "nothing is wrong any more")

    after = set(observations(client))
    assert reading.errors == []
    assert reading.seen <= before | after
    assert {seen for seen in before if seen[-1] is True} < after  # who had it has it
    assert [(change.old_value, change.new_value) for change in changes] == [(1, 2)]


def crowd(arrivals: list[float]) -> int:
    """Return how many arrive within 50 ms of each other at most."""
    ordered = sorted(arrivals)
    return max(sum(0 <= later - one <= _WINDOW for later in ordered) for one in ordered)


def arrival(pause: Callable[[int], float], back_at: float) -> float:
    """Return when a client whose stream broke at 0 first asks a service that is back."""
    failures, moment = 1, pause(1)
    while moment < back_at:
        failures += 1
        moment += pause(failures)
    return moment


@settings(max_examples=trials(20))
@given(seed=st.integers(), away=st.floats(0, _TEN_MINUTES))
def test_two_hundred_clients_come_back_spread_however_long_it_took(seed: int, away: float) -> None:
    random.seed(seed)

    arrivals = [arrival(RefreshPolicy().after_failures, away) for _ in range(200)]

    # Evenly over the shortest of the pauses, half a second, they would be 20.
    assert crowd(arrivals) < 60
    if away > 60:  # the pauses are up to 30 s, and they would be less than one
        assert crowd(arrivals) < 15
    assert max(arrivals) - away <= RefreshPolicy().longest_backoff


async def test_twenty_clients_that_were_cut_at_once_come_back_one_by_one(shop: Shop) -> None:
    request_times: dict[int, float] = {}
    arrivals: dict[int, float] = {}

    def ask(number: int) -> None:
        request_times[number] = time.monotonic()

    def record_arrival(number: int, error: PilothouseError | None) -> None:
        if error is None:
            arrivals.setdefault(number, request_times[number])

    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncPilothouse(*shop.address, partial(ask, number)))
            for number in range(20)
        ]
        for number, client in enumerate(clients):
            client.flags.on_status(partial(record_arrival, number))
        shop.set_values(2)
        await until(lambda: all(client.config.get("a.left") == 2 for client in clients))
        shop.process.kill()
        await until(lambda: all(client.last_error for client in clients))
        await asyncio.to_thread(shop.process.restart)
        await until(lambda: len(arrivals) == 20)

    assert crowd(list(arrivals.values())) <= 10
