"""What a command ends with when something is wrong: an exit code, and one sentence or a problem."""

import asyncio
import json
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from pilothouse.cli.api import Api
from pilothouse.cli.exit_codes import ExitCode
from sdk.tests.cli.terminal import Terminal
from sdk.tests.scripted import HTML, ReceivedRequest, Reply, ScriptedServer


def problem(status: int, code: str, **facts: object) -> Callable[[ReceivedRequest], Reply]:
    body = {"type": f"urn:pilothouse:{code}", "status": status, "detail": "so it is", "code": code}
    text = json.dumps({**body, **facts}).encode()
    return lambda _: Reply(status, text, "application/problem+json")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "bad_json", ExitCode.FAILED),
        (401, "token_refused", ExitCode.DENIED),
        (403, "denied", ExitCode.DENIED),
        (404, "key_not_found", ExitCode.NOT_FOUND),
        (409, "key_conflict", ExitCode.CONFLICT),
        (410, "version_gone", ExitCode.NOT_FOUND),
        (412, "stale_version", ExitCode.CONFLICT),
        (413, "too_large", ExitCode.FAILED),
        (422, "bad_key", ExitCode.FAILED),
        (429, "too_many_requests", ExitCode.UNAVAILABLE),
        (500, "internal_error", ExitCode.FAILED),
        (503, "config_store_unavailable", ExitCode.UNAVAILABLE),
        (504, "write_outcome_unknown", ExitCode.OUTCOME_UNKNOWN),
    ],
)
def test_the_exit_code_tells_the_kind_of_failure(
    nowhere: Terminal, scripted_server: ScriptedServer, status: int, code: str, expected: ExitCode
) -> None:
    scripted_server.answers["/api/v1/config"] = problem(status, code, fact=7)
    words = ("config", "set", "a", "1", "--url", scripted_server.url)

    said = nowhere(*words)
    done = nowhere(*words, "--json")

    assert (said.code, said.out, said.err) == (expected, "", "pilothouse: so it is\n")
    assert (done.code, done.out) == (expected, "")
    assert done.problem()["code"] == code
    assert done.problem()["status"] == status
    assert done.problem()["fact"] == 7


def test_flaws_are_told_with_their_places(
    nowhere: Terminal, scripted_server: ScriptedServer
) -> None:
    flaws = [{"detail": f"is wrong {number}", "pointer": f"#/{number}"} for number in range(7)]
    scripted_server.answers["/api/v1/config"] = problem(422, "invalid", errors=flaws)

    done = nowhere("config", "set", "a", "1", "--url", scripted_server.url)

    assert "#/0 is wrong 0; #/1 is wrong 1" in done.err
    assert done.err.rstrip().endswith("and 2 more")
    assert done.err.count("\n") == 1


def test_a_page_of_a_proxy_is_not_taken_for_the_service(
    nowhere: Terminal, scripted_server: ScriptedServer
) -> None:
    scripted_server.answers["/api/v1/config/a"] = lambda _: Reply(200, HTML.encode(), "text/html")

    done = nowhere("config", "get", "a", "--url", scripted_server.url, "--json")

    assert done.code == ExitCode.FAILED
    assert done.problem()["code"] == "bad_answer"


def test_a_service_that_is_away_is_unavailable(nowhere: Terminal) -> None:
    done = nowhere("config", "set", "a", "1", "--url", "http://127.0.0.1:1")

    assert done.code == ExitCode.UNAVAILABLE
    assert "127.0.0.1:1 cannot be reached" in done.err


def test_a_sentence_cannot_steer_a_terminal(
    nowhere: Terminal, scripted_server: ScriptedServer
) -> None:
    body = json.dumps({"code": "x", "detail": "a\x1b]0;b\x07"}).encode()
    scripted_server.answers["/api/v1/config"] = lambda _: Reply(
        409, body, "application/problem+json"
    )

    assert "\x1b" not in nowhere("config", "list", "--url", scripted_server.url).err


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["config", "nonsense"],
        ["config", "get"],
        ["config", "get", "a", "--nonsense"],
        ["config", "get", ".."],
        ["config", "list", "--url", "ftp://x"],
        ["config", "diff", "one"],
        ["config", "rollback"],
        ["flags", "import", "x.json", "--format", "nonsense"],
    ],
)
def test_a_mistake_in_the_words_is_told_before_anybody_is_asked(
    nowhere: Terminal, words: list[str]
) -> None:
    said = nowhere(*words)
    done = nowhere(*words, "--json")

    assert (said.code, said.out, said.err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert said.err.startswith("pilothouse: ")
    assert (done.code, done.problem()["code"]) == (ExitCode.USAGE, "usage")


def test_the_exit_codes_stay_what_they_are() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "NOT_FOUND": 3,
        "DENIED": 4,
        "CONFLICT": 5,
        "UNAVAILABLE": 6,
        "OUTCOME_UNKNOWN": 7,
        "INVALID": 8,
        "INCOMPLETE": 9,
        "INTERRUPTED": 130,
        "PIPE_CLOSED": 141,
    }


def test_a_change_stream_can_be_left_by_ctrl_c_at_any_moment(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(scripted_server.url, None)
    changes = api.news(lambda _: None)
    with monkeypatch.context() as patch:
        # Ctrl-C between the start of a request and the handler that would cancel it.
        patch.setattr(
            asyncio.SelectorEventLoop, "add_signal_handler", Mock(side_effect=KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            next(changes)

    api.close()
