"""`pilothouse proposal` against the real service, and a scripted one for what is rare."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.exit_codes import ExitCode
from sdk.tests.cli.terminal import Done, Terminal
from sdk.tests.scripted import ReceivedRequest, Reply, ScriptedServer, of_json, problem

_numbers = itertools.count()
FLAG = '{"rollout_percentage": 25}'


@dataclass
class Team:
    """Three tokens at one terminal, and an environment that a policy protects."""

    terminal: Terminal
    environment: str
    tokens: dict[str, str]

    def act(self, who: str, *words: object, stdin: str | None = None) -> Done:
        self.terminal.variables["PILOTHOUSE_TOKEN"] = self.tokens[who]
        return self.terminal("proposal", *words, stdin=stdin)

    def ok(self, who: str, *words: object, stdin: str | None = None) -> Done:
        done = self.act(who, *words, stdin=stdin)
        assert done.code == 0, done.err
        return done

    def propose(self, *words: object, stdin: str | None = None) -> str:
        made = self.ok("author", "new", "--title", "Bigger pool", *words, "--json", stdin=stdin)
        return str(made.json()["id"])

    def show(self, proposal: str) -> Any:
        return self.ok("author", "show", proposal, "--json").json()

    def write(self, *words: object) -> None:
        """Change the environment as somebody who needs no proposal."""
        self.terminal.variables["PILOTHOUSE_TOKEN"] = self.tokens["admin"]
        self.terminal.ok("policy", "delete", self.environment)
        self.terminal.ok("config", *words, "-e", self.environment)
        self.protect()

    def protect(self) -> None:
        policy = {"kinds": ["config", "flag"], "environments": [self.environment]}
        self.terminal.ok("policy", "set", self.environment, "-", stdin=json.dumps(policy))


@pytest.fixture
def team(pilothouse: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    monkeypatch.chdir(tmp_path)
    number = next(_numbers)
    environment = f"guarded-{number}"
    tokens = {"admin": pilothouse.variables["PILOTHOUSE_TOKEN"]}
    for role in ("author", "reviewer", "publisher"):
        words = ("token", "create", f"{role}-{number}", "--class", "operator", "--role")
        role_name = "editor" if role == "author" else "publisher"
        tokens[role] = pilothouse.ok(*words, role_name).out.strip()
    pilothouse.variables["PILOTHOUSE_ENVIRONMENT"] = environment
    pilothouse.ok("config", "set", "db.pool.max", "20")
    group = Team(pilothouse, environment, tokens)
    group.protect()
    yield group
    pilothouse.variables["PILOTHOUSE_TOKEN"] = tokens["admin"]
    pilothouse.ok("policy", "delete", environment)


def test_a_proposal_is_made_reviewed_and_applied(team: Team) -> None:
    Path("flag.json").write_text(FLAG)
    service = team.terminal.variables["PILOTHOUSE_SERVICE"]
    words = ("--config", f"{service}@{team.environment}", "db.pool.max=40", "--flag", "f=flag.json")
    preview = team.ok("author", "new", "-t", "Bigger pool", *words, "--dry-run")
    assert team.ok("author", "list").table() == []

    made = team.ok("author", "new", "-t", "Bigger pool", "-d", "for the night", *words)
    [[proposal, state, *_]] = team.ok("reviewer", "list", "--waiting-for-me").table()
    shown = team.ok("reviewer", "show", proposal).out
    early = team.act("publisher", "apply", proposal)
    own = team.act("author", "approve", proposal)
    approved = team.ok("reviewer", "approve", proposal, "-m", "fine", "--round", "1")
    applied = team.ok("publisher", "apply", proposal, "--wait", "-m", "go")

    assert "nothing was proposed" in preview.err
    assert "0 of 1 approvals" in preview.out
    assert made.out == (
        f"{proposal} is proposed: open, round 1; 0 of 1 approvals (policy {team.environment})\n"
    )
    assert state == "open"
    for part in ("for the night", "may approve   publishers and admins", "schema passed"):
        assert part in shown
    assert "~  db.pool.max  20   40" in shown
    assert f"item 1: flag {team.environment}/f, new" in shown
    assert early.code == ExitCode.CONFLICT
    assert "0 of the 1 approvals" in early.err
    assert own.code == ExitCode.DENIED
    assert "has your approval: approved, round 1; 1 of 1 approvals by token:" in approved.out
    assert applied.out == (
        f"{team.environment}/{service}: applied, version 2\n"
        f"flag {team.environment}/f: applied, version 1\n"
        f"{proposal} is applied\n"
    )
    assert team.ok("author", "list", "--waiting-for-me").table() == []
    rows = team.ok("author", "list", "--state", "applied", "--state", "open").table()
    assert [row[:2] for row in rows] == [[proposal, "applied"]]
    assert team.ok("author", "list", "--state", "open").table() == []
    assert team.terminal.ok("config", "get", "db.pool.max").out == "40\n"
    assert "round  verdict" in team.ok("author", "show", proposal).out


def test_secrets_are_read_from_standard_input_and_never_shown(team: Team) -> None:
    proposal = team.propose(
        "--secret", "db.password", "--secret", "api.key", stdin="hunter2\nhunter3\n"
    )

    shown = team.ok("reviewer", "show", proposal).out

    assert "+  db.password       (secret)" in shown
    assert "hunter" not in shown + team.ok("reviewer", "show", proposal, "--json").out
    team.ok("reviewer", "approve", proposal)
    team.ok("publisher", "apply", proposal, "--wait")
    team.terminal.variables["PILOTHOUSE_TOKEN"] = team.tokens["admin"]
    assert team.terminal.ok("config", "get", "api.key", "--reveal").out == "hunter3\n"
    missing = team.act("author", "new", "-t", "x", "--secret", "a", stdin="")
    assert missing.code == ExitCode.USAGE
    assert "the secret a is missing" in missing.err


def test_a_file_lists_items_of_several_kinds(team: Team) -> None:
    layer = {"environment": team.environment, "service_name": "other"}
    items = [
        {"kind": "config", **layer, "set": {"a": 1}},
        {"kind": "segment", "environment": team.environment, "name": "testers"}
        | {"definition": {"when": {"attribute": "user_id", "op": "in", "values": ["ann"]}}},
    ]
    body = {"title": "of a file", "on_failure": "undo", "items": items}

    made = team.ok("author", "new", "-f", "-", "--json", stdin=json.dumps(body)).json()
    listed = team.ok(
        "author", "new", "-t", "t", "-f", "-", "b=2", "--json", stdin=json.dumps(items)
    )

    assert (made["title"], made["on_failure"], len(made["items"])) == ("of a file", "undo", 2)
    assert [item["kind"] for item in listed.json()["items"]] == ["config", "segment", "config"]
    for content in ('{"items": 1}', '{"items": [], "more": 1}'):
        assert team.act("author", "new", "-f", "-", stdin=content).code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a=1",), "--title is missing"),
        (("-t", "x"), "nothing to propose"),
        (("-t", "x", "-c", "billing"), "--config needs KEY=VALUE"),
        (("-t", "x", "a"), "a key needs the form NAME=VALUE"),
        (("-t", "x", "--flag", "f"), "--flag needs the form NAME=VALUE"),
    ],
)
def test_what_says_too_little_is_not_sent(
    nowhere: Terminal, words: tuple[str, ...], sentence: str
) -> None:
    done = nowhere("proposal", "new", *words, "--url", "http://127.0.0.1:9")

    assert done.code == ExitCode.USAGE
    assert sentence in done.err


def test_rounds_are_refused_revised_and_reviewed_again(team: Team) -> None:
    proposal = team.propose("db.pool.max=400")

    refused = team.ok("reviewer", "refuse", proposal, "-m", "too many")
    revised = team.ok("author", "revise", proposal, "db.pool.max=40", "--if-round", "1")
    old = team.act("reviewer", "approve", proposal, "--round", "1")
    remark = team.ok("reviewer", "remark", proposal, "-m", "better")
    again = team.act("author", "revise", proposal, "db.pool.max=41", "--if-round", "1")

    assert "is refused: refused, round 1" in refused.out
    assert "is revised: open, round 2" in revised.out
    assert old.code == again.code == ExitCode.CONFLICT
    assert "has your remark: open, round 2" in remark.out
    diff = team.ok("reviewer", "diff", proposal)
    assert "~  db.pool.max  20   40" in diff.out
    assert "remark" not in diff.out
    verdicts = [(each["round"], each["verdict"]) for each in team.show(proposal)["reviews"]]
    assert verdicts == [(1, "refuse"), (2, "remark")]


def test_a_stale_proposal_is_rebased(team: Team) -> None:
    proposal = team.propose("db.pool.max=40")
    team.write("set", "db.pool.max", "30")

    stale = team.ok("reviewer", "show", proposal).out
    blocked = team.act("reviewer", "approve", proposal)
    conflict = team.act("author", "rebase", proposal)
    rebased = team.ok("author", "rebase", proposal, "--keep", "proposed")

    assert "stale, changed by others since: db.pool.max" in stale
    assert blocked.code == conflict.code == ExitCode.CONFLICT
    assert "is rebased: open, round 2" in rebased.out
    assert "~  db.pool.max  30   40" in team.ok("author", "diff", proposal).out


def test_a_schedule_is_made_taken_back_and_withdrawn(team: Team) -> None:
    proposal = team.propose("db.pool.max=40")
    team.ok("reviewer", "approve", proposal)

    scheduled = team.ok("publisher", "apply", proposal, "--at", "2027-06-01T08:00:00Z")
    past = team.act("publisher", "apply", proposal, "--at", "2020-01-01T00:00:00Z")
    taken = team.ok("publisher", "unschedule", proposal, "-m", "later")
    withdrawn = team.ok("author", "withdraw", proposal)

    assert "is scheduled, round 1, to be applied at 2027-06-01 08:00:00 UTC" in scheduled.out
    assert past.code == ExitCode.FAILED
    assert "is unscheduled: approved, round 1" in taken.out
    assert withdrawn.out == f"{proposal} is withdrawn\n"
    assert team.act("publisher", "apply", proposal, "--wait").code == ExitCode.CONFLICT


ITEM: dict[str, Any] = {
    "kind": "config",
    "environment": "production",
    "service_name": "billing",
    "user": None,
    "operation": "patch",
    "base": 1,
    "stale": [],
    "diff": None,
    "outcome": None,
}
APPLIED = {"state": "applied", "version": 2, "code": "", "detail": ""}
FAILED = {"state": "failed", "version": 0, "code": "schema_violated", "detail": "pool is no number"}


def proposal_in(state: str, *outcomes: dict[str, Any], reason: str = "") -> dict[str, Any]:
    items = [{**ITEM, "outcome": outcome} for outcome in outcomes]
    return {"id": "p-1", "state": state, "round": 1, "items": items, "reason": reason} | {
        "apply_at": None,
        "release_id": None,
        "applied_by": "token:ci",
    }


def answers_in_turn(*replies: Reply) -> Callable[[ReceivedRequest], Reply]:
    """Answer with one reply after the other, and then always with the last one."""
    waiting = list(replies)
    return lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0]


@pytest.fixture
def following(nowhere: Terminal, scripted_server: ScriptedServer) -> Callable[..., Done]:
    """Apply a proposal with --wait, which is then read in these states."""

    def follow(*replies: Reply, words: tuple[str, ...] = ()) -> Done:
        started = of_json(proposal_in("scheduled"), 202)
        scripted_server.answers["/api/v1/proposals/p-1/apply"] = lambda _: started
        scripted_server.answers["/api/v1/proposals/p-1"] = answers_in_turn(*replies)
        return nowhere("proposal", "apply", "p-1", "--wait", "--url", scripted_server.url, *words)

    return follow


def test_a_proposal_is_followed_to_its_end_while_the_service_is_gone_for_a_time(
    following: Callable[..., Done], scripted_server: ScriptedServer
) -> None:
    gone = problem(503, "proposals_unavailable")
    end = of_json(proposal_in("applied", APPLIED))

    done = following(gone, gone, gone, of_json(proposal_in("applying")), end)

    assert done.code == 0, done.err
    assert done.out == "production/billing: applied, version 2\np-1 is applied\n"
    notes = done.err.splitlines()
    assert notes[0] == "p-1 is scheduled, round 1, by order of token:ci"
    assert notes[1].endswith("; waiting for it")
    assert notes[2] == "p-1 is applying, round 1, by order of token:ci"
    assert json.loads(scripted_server.requests[0].body) == {"comment": ""}


@pytest.mark.parametrize(
    "state", ["partly_applied", "not_applied", "undone", "outdated", "missed", "approved"]
)
def test_what_was_not_applied_is_a_failure_with_its_reason(
    following: Callable[..., Done], state: str
) -> None:
    end = of_json(proposal_in(state, APPLIED, FAILED, reason="schema_violated"))

    said, done = following(end), following(end, words=("--json",))

    assert said.code == done.code == ExitCode.FAILED
    assert "production/billing: failed: pool is no number\n" in said.out
    assert said.err.endswith(f"pilothouse: p-1 is {state}: schema_violated\n")
    assert done.json()["state"] == state
    assert done.problem()["code"] == f"proposal_{state}"


def test_a_list_that_is_piped_has_one_line_for_each_proposal(
    nowhere: Terminal, scripted_server: ScriptedServer
) -> None:
    summary = {
        **proposal_in("partly_applied", APPLIED, FAILED),
        "id": "p-7k2m9p4x5q",
        "title": "A title that is much longer than what one line of a terminal takes",
        "authors": ["token:author"],
        "updated_at": "2026-01-01T00:00:00Z",
    }
    scripted_server.answers["/api/v1/proposals"] = lambda _: of_json(
        {"items": [summary], "next": None}
    )

    wide = nowhere.ok("proposal", "list", "--url", scripted_server.url)

    assert len(wide.out.splitlines()) == 2
    assert "p-7k2m9p4x5q  partly_applied  A title" in wide.out
    assert "production/billing +1  token:author" in wide.out
