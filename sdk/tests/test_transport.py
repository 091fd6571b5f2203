from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pilothouse.errors import (
    BadAnswer,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    OutcomeUnknown,
    PilothouseError,
    PreconditionFailed,
    Unauthenticated,
    Unavailable,
)
from pilothouse.transport import Limits, Token, Transport, full_jitter
from sdk.tests.scripted import ReceivedRequest, Reply, ScriptedServer, html, of_json, problem

QUICK = Limits(timeout=20, backoff=0.001, longest_backoff=0.002)


@asynccontextmanager
async def transport_to(
    server: ScriptedServer, token: Token = None, limits: Limits = QUICK
) -> AsyncIterator[Transport]:
    transport = Transport(server.url, token, limits)
    try:
        yield transport
    finally:
        await transport.close()


def in_turn(*replies: Reply) -> Callable[[ReceivedRequest], Reply]:
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (412, PreconditionFailed),
        (422, Invalid),
        (500, Unavailable),
    ],
)
async def test_a_problem_becomes_an_error_of_its_kind(
    scripted_server: ScriptedServer, status: int, kind: type[PilothouseError]
) -> None:
    scripted_server.answers["/a"] = lambda _: problem(status, "its_own_code")

    async with transport_to(scripted_server) as transport:
        with pytest.raises(kind, match="the detail of its_own_code") as caught:
            await transport.get("/a")

    assert (caught.value.code, caught.value.status) == ("its_own_code", status)


@pytest.mark.parametrize("reply", [html(), html(404), Reply(302, b"", headers={"Location": "/b"})])
async def test_what_is_not_the_service_is_told_as_that(
    scripted_server: ScriptedServer, reply: Reply
) -> None:
    scripted_server.answers["/a"] = lambda _: reply

    async with transport_to(scripted_server) as transport:
        with pytest.raises(BadAnswer):
            (await transport.get("/a")).json()

    assert scripted_server.count("/b") == 0


async def test_a_read_is_tried_again_and_a_write_is_not(scripted_server: ScriptedServer) -> None:
    away = problem(503, "backend_unavailable", **{"Retry-After": "0"})
    scripted_server.answers["/read"] = in_turn(away, away, of_json({"a": 1}))
    scripted_server.answers["/write"] = in_turn(away, of_json({}))
    scripted_server.answers["/keyed"] = in_turn(away, of_json({}))

    async with transport_to(scripted_server) as transport:
        assert (await transport.get("/read")).object() == {"a": 1}
        with pytest.raises(Unavailable):
            await transport.request("POST", "/write", body={"a": "é"})
        await transport.request("POST", "/keyed", body={}, headers={"Idempotency-Key": "k"})

    assert [scripted_server.count(path) for path in ("/read", "/write", "/keyed")] == [3, 1, 2]
    assert scripted_server.requests[3].body == '{"a": "é"}'.encode()


async def test_attempts_are_bounded(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/a"] = lambda _: problem(503, "backend_unavailable")

    async with transport_to(scripted_server) as transport:
        with pytest.raises(Unavailable):
            await transport.get("/a")

    assert scripted_server.count("/a") == 3


async def test_a_write_whose_answer_is_lost_may_have_happened(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/a"] = lambda _: Reply(body=b"{", headers={"Content-Length": "9"})
    scripted_server.answers["/b"] = lambda _: problem(504, "write_outcome_unknown")

    async with transport_to(scripted_server, limits=Limits(timeout=0.2)) as transport:
        with pytest.raises(OutcomeUnknown):
            await transport.request("POST", "/a")
        with pytest.raises(OutcomeUnknown):
            await transport.request("PUT", "/b")


async def test_nobody_there_is_unavailable() -> None:
    with ScriptedServer() as server:
        url = server.url
    transport = Transport(url, limits=QUICK)

    with pytest.raises(Unavailable, match="cannot be reached"):
        await transport.request("POST", "/a")
    with pytest.raises(Unavailable):
        async with transport.stream("/a"):
            pass
    await transport.close()


async def test_the_token_is_asked_for_each_time_and_never_told(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/a"] = lambda _: of_json({})
    tokens = ["first", "second\n", "of two\nlines"]

    async with transport_to(scripted_server, lambda: tokens.pop(0)) as transport:
        await transport.get("/a")
        await transport.get("/a")
        with pytest.raises(Unauthenticated, match="characters") as caught:
            await transport.get("/a")

    sent = [request.headers["authorization"] for request in scripted_server.requests]
    assert sent == ["Bearer first", "Bearer second"]
    assert "lines" not in str(caught.value)
    with pytest.raises(ValueError, match="characters"):
        Transport(scripted_server.url, "of two\nlines")


async def test_a_token_that_cannot_be_had_is_told_as_that(
    scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    def quoting() -> str:
        raise KeyError("s3cret")

    for token, message in [(tmp_path.joinpath("away").read_text, "away"), (quoting, "KeyError")]:
        async with transport_to(scripted_server, token) as transport:
            with pytest.raises(Unauthenticated, match=message) as caught:
                await transport.get("/a")

        assert caught.value.code == "no_token"
        assert "s3cret" not in str(caught.value)
    assert scripted_server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders:8082",
        "ftp://host",
        "http://",
        "//host",
        "http://a:b@host",
        "http://host\n",
        "http://ho\nst",
        "http://host /a",
        "\thttp://host",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://host:-1",
        "http://[::1",
        "http://host\\@other",
        "http://host?environment=prod",
        "http://host/#a",
        "http://host?",
    ],
)
def test_a_url_that_is_none_is_an_error_of_the_program(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Transport(url)


@pytest.mark.parametrize(
    "url", ["http://ann:sesame@host:port", "http://ann:sesame@ho st", "http://h?key=sesame#a\n"]
)
def test_a_url_that_is_refused_is_told_without_what_is_secret_in_it(url: str) -> None:
    for is_document in (False, True):
        with pytest.raises(ValueError, match="URL") as caught:
            Transport(url, is_document=is_document)

        assert "sesame" not in str(caught.value)


async def test_html_instead_of_a_stream_is_refused(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/a"] = lambda _: html()
    scripted_server.answers["/b"] = lambda _: problem(401, "token_refused")

    async with transport_to(scripted_server) as transport:
        with pytest.raises(BadAnswer, match="text/html"):
            async with transport.stream("/a"):
                pass
        with pytest.raises(Unauthenticated):
            async with transport.stream("/b"):
                pass


async def test_a_stream_that_falls_silent_is_given_up(scripted_server: ScriptedServer) -> None:
    line = scripted_server.line()
    line.say(": one\n\n")

    async with transport_to(scripted_server, limits=Limits(silence=0.2)) as transport:
        with pytest.raises(Unavailable, match="broke"):
            async with transport.stream("/api/v1/stream") as chunks:
                _ = [chunk async for chunk in chunks]


def test_a_crowd_comes_back_spread_over_the_whole_time() -> None:
    """Full jitter: every part of the exponential is as likely, and it ends at the cap."""
    for failures, most in [(1, 0.5), (2, 1.0), (4, 4.0), (60, 30.0), (5000, 30.0)]:
        pauses = sorted(full_jitter(failures, 0.5, 30.0) for _ in range(2000))

        assert pauses[-1] <= most
        assert pauses[100] < most / 10  # 5 % of them before a tenth of the time
        assert abs(sum(pauses) / len(pauses) - most / 2) < most / 20
