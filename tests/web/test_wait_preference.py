"""`Prefer: wait=N` is a wish: honoured when it can be read, ignored when it cannot."""

from time import process_time

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from app.web.wait_preference import LONGEST_WAIT, Wait, requested_wait

pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def read(wait: Wait) -> float | None:
        return wait

    return app


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=30", 30),
        ("WAIT = 30", 30),
        ('wait="30"', 30),
        ("respond-async, wait=30", 30),
        ('handling="a, wait=1", wait=30', 30),
        ("wait=30; why=patience", 30),
        ("wait=30, wait=5", 30),
        ("wait=0", 0),
        ("wait=61", LONGEST_WAIT),
        ("wait=999999999", LONGEST_WAIT),
    ],
)
def test_a_readable_wish_is_honoured_up_to_a_minute(prefer: str, seconds: float) -> None:
    assert requested_wait(prefer) == seconds


@pytest.mark.parametrize(
    "prefer",
    [
        None,
        "",
        "respond-async",
        "wait",
        "wait=",
        "wait=x",
        "wait=-1",
        "wait=1.5",
        "wait=1e3",
        "wait=9999999999",
        "wait=x, wait=5",
        "await=5",
        "wait-long=5",
        'note="wait=5"',
        'note="wait=5',
        'note="wait=5, wait=5\\',
    ],
)
def test_anything_else_is_ignored(prefer: str | None) -> None:
    assert requested_wait(prefer) is None


@given(st.text())
def test_no_header_fails(prefer: str) -> None:
    assert 0 <= (requested_wait(prefer) or 0) <= LONGEST_WAIT


def test_a_long_header_is_read_in_no_time() -> None:
    started = process_time()

    requested_wait('"\\' * 50_000)

    assert process_time() - started < 1


async def test_the_wish_reaches_the_route(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers=[("Prefer", "respond-async"), ("Prefer", "wait=5")])

    assert answer.json() == 5
    assert (await client.get("/")).json() is None
