"""Pages of a list: an envelope, a limit and a cursor nobody needs to understand."""

import base64
import json

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from app.web import problem
from app.web.boundary import RequestBoundary
from app.web.paging import (
    DEFAULT_LIMIT,
    BadCursor,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    problem.install(app)
    app.add_middleware(RequestBoundary)

    @app.get("/numbers")
    async def numbers(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[int]:
        (first,) = decode_cursor(cursor, int) if cursor else (0,)
        items = list(range(first, min(first + limit, 250)))
        following = first + limit
        return Page(items=items, next=encode_cursor(following) if following < 250 else None)

    return app


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers(0, 2**63 - 1))
def test_a_cursor_brings_back_what_it_was_made_of(name: str, number: int) -> None:
    assert decode_cursor(encode_cursor(name, number), str, int) == (name, number)


@given(st.lists(st.text() | st.integers()))
def test_a_cursor_needs_no_quoting_in_a_url(parts: list[str | int]) -> None:
    assert encode_cursor(*parts).replace("-", "").replace("_", "").isalnum()


def _encode_text(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "ä",
        "a",
        "abc def",
        _encode_text("nonsense"),
        _encode_text('{"a": 1}'),
        _encode_text("[]"),
        _encode_text('["a", 1]'),
        _encode_text('[1, "a"]'),
        _encode_text("[true, 1]"),
        _encode_text("[1, 2, 3]"),
        _encode_text("[1, 2.5]"),
        _encode_text("[[1], 2]"),
        _encode_text("[1, NaN]"),
        _encode_text("[1, -1]"),
        _encode_text(f"[1, {2**63}]"),
        base64.urlsafe_b64encode(b"[1, \xff]").decode(),
    ],
)
def test_any_other_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        decode_cursor(cursor, int, int)


async def test_pages_follow_each_other_to_the_end(client: httpx.AsyncClient) -> None:
    seen: list[int] = []
    query: dict[str, str] = {}
    while True:
        page = (await client.get("/numbers", params=query)).json()
        assert page.keys() == {"items", "next"}
        seen += page["items"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]

    assert seen == list(range(250))


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", ""])
async def test_a_limit_out_of_bounds_is_refused(client: httpx.AsyncClient, limit: str) -> None:
    answer = await client.get("/numbers", params={"limit": limit})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "limit"


async def test_a_made_up_cursor_is_a_problem_that_does_not_quote_it(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/numbers", params={"cursor": _encode_text(json.dumps(["hunter2"]))})

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_cursor"
    assert "hunter2" not in answer.text
