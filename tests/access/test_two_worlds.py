"""What a caller is told does not depend on what the caller may not read.

Two services get the same changes where some callers may read, and as many others where they may
not. How many changes there are everybody is told (`X-Revision`); nothing else may differ.
"""

import random
import sys
from itertools import count
from time import monotonic

import pytest

from tests.access.worlds import (
    ADMIN,
    SCOPED,
    SHOP,
    World,
    invisible_change,
    questions,
    two_worlds,
    visible,
)
from tests.trials import trials

pytestmark = pytest.mark.slow

_LEAKING = (sys.executable, "-m", "tests.access.leaking")


def differences(worlds: tuple[World, World], seed: int, rounds: int) -> list[object]:
    """Return what callers were told in one world and not in the other."""
    draw, numbers = random.Random(seed), count(1)
    found: list[object] = []
    for number in range(1, rounds + 1):
        how_many = draw.randrange(1, 6)
        for world in worlds:
            for _ in range(how_many):
                world.write(invisible_change(draw, next(numbers)))
            for message in visible(number):
                world.write(message)
        revision, other = (world.revision() for world in worlds)
        assert revision == other
        for caller in SCOPED:
            for question in list(questions(draw, revision)):
                here, there = (world.ask(caller, question) for world in worlds)
                different = [pair for pair in zip(here, there, strict=True) if pair[0] != pair[1]]
                if different:
                    found.append((caller, question, *different))
    return found


def test_nobody_is_told_of_what_they_may_not_read() -> None:
    seed = random.SystemRandom().randrange(2**32)
    with two_worlds() as worlds:
        assert differences(worlds, seed, trials(5)) == [], seed


def test_a_leak_is_found() -> None:
    argv = (*_LEAKING, "how much there is", "serve")
    with two_worlds(argv) as worlds:
        assert differences(worlds, 7, 4)


def test_nobody_hears_of_what_they_may_not_read() -> None:
    draw = random.Random(1)
    with two_worlds() as worlds:
        since = worlds[0].revision()
        for world in worlds:
            for number in range(8):
                world.write(invisible_change(draw, number + 1000 * (world is worlds[0])))
            for message in visible(1):
                world.write(message)
        until = worlds[0].revision()
        for caller in SCOPED:
            for query in (SHOP, "environment=production&service_name=bank", "kinds=flag", ""):
                first, second = (
                    world.stream_since(caller, query, since, until) for world in worlds
                )
                assert first == second, (caller, query)


def test_a_change_elsewhere_does_not_end_a_wait() -> None:
    with two_worlds() as (world, _):
        token, way = world.tokens["viewer"], f"/api/v1/effective?{SHOP}"
        tag = world.call(token, "GET", way).headers["ETag"]
        world.write(invisible_change(random.Random(2), 1))
        began = monotonic()
        held = world.call(token, "GET", way, If_None_Match=tag, Prefer="wait=1")

        assert held.status == 304
        assert monotonic() - began >= 1


def test_tokens_of_one_name_do_not_share_what_they_have_sent() -> None:
    """Else one who guesses the key, and the name of the other, learns of the other's requests."""
    with two_worlds() as (world, _):
        body = {"name": "twin", "class": "operator", "roles": ["editor"], "environments": ["*"]}
        tokens = [
            world.call(ADMIN, "POST", "/api/v1/tokens", {**body, "services": [service]}).json()
            for service in ("bank", "shop")
        ]
        way = "/api/v1/config"
        for each, service in zip(tokens, ("bank", "shop"), strict=True):
            write = {"key": "a", "value": 1, "environment": "test", "service_name": service}
            answer = world.call(each["token"], "POST", way, write, Idempotency_Key="same")
            assert answer.status == 201, answer.body
            flag = {"name": f"twin-{service}", "environment": "test"}
            flagged = world.call(
                each["token"], "POST", "/api/v1/feature-flags", flag, Idempotency_Key="same"
            )
            assert flagged.status == 201, flagged.body
