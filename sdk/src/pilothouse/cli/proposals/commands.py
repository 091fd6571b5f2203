"""Commands `pilothouse proposal`: list, read, review, apply and withdraw proposals."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.exit_codes import ExitCode, Failure, failure
from pilothouse.cli.files import read_object
from pilothouse.cli.proposals.drafts import (
    PROPOSALS,
    Id,
    new,
    print_round,
    revise,
    send_round,
)
from pilothouse.cli.proposals.views import (
    print_items,
    print_list,
    print_outcomes,
    print_proposal,
    state_sentence,
)
from pilothouse.proposals import MOVING_STATES

app = typer.Typer()

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0

Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Text = Annotated[str, typer.Option("--text", "--comment", "-m", help="What you say of it.")]
Round = Annotated[
    int | None,
    typer.Option("--round", min=1, help="The round that you have read; by default the newest."),
]

command(app)(new)
command(app)(revise)


@command(app, "list")
def list_(
    session: Session,
    *,
    waiting_for_me: Annotated[
        bool, typer.Option("--waiting-for-me", help="Only those that your approval counts for.")
    ] = False,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only in this state, such as open or applied. Repeatable."),
    ] = None,
    author: Annotated[str | None, typer.Option("--author", help="Only of this author.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most this many, the newest.")
    ] = 50,
) -> None:
    """List proposals, the newest first: of all environments, or of --environment."""
    page = session.api.page(
        PROPOSALS,
        limit,
        state=state or None,
        author=author,
        environment=session.profile.environment,
        waiting_for_me=waiting_for_me or None,
    )
    if session.output.as_json:
        return session.output.document(page)
    return print_list(session.output, page["items"])


@command(app)
def show(session: Session, proposal: Id) -> None:
    """Show a proposal: its state, who may approve it, what it changes, its checks and reviews."""
    answer = _read(session, proposal)
    if session.output.as_json:
        return session.output.document(answer)
    return print_proposal(session.output, answer)


@command(app)
def diff(session: Session, proposal: Id) -> None:
    """Show only what a proposal changes; secrets are masked."""
    answer = _read(session, proposal)
    answer["items"] = [{**item, "outcome": None} for item in answer["items"]]
    if session.output.as_json:
        members = {member: answer[member] for member in ("id", "round", "items")}
        return session.output.document(members)
    return print_items(session.output, answer["items"])


@command(app)
def approve(session: Session, proposal: Id, *, text: Text = "", round_: Round = None) -> None:
    """Approve the round of a proposal; its authors cannot."""
    _review(session, proposal, "approve", text, round_)


@command(app)
def refuse(session: Session, proposal: Id, *, text: Text = "", round_: Round = None) -> None:
    """Refuse a proposal, which closes it until it is revised."""
    _review(session, proposal, "refuse", text, round_)


@command(app)
def remark(session: Session, proposal: Id, *, text: Text, round_: Round = None) -> None:
    """Say something about a proposal; it counts neither for nor against it."""
    _review(session, proposal, "remark", text, round_)


def _review(
    session: Session, proposal_id: str, verdict: str, text: str, round_: int | None
) -> None:
    if round_ is None:
        round_ = _read(session, proposal_id)["round"]
    body = {"round": round_, "verdict": verdict, "text": text}
    path = f"{PROPOSALS}/{segment(proposal_id)}/reviews"
    answer = session.api.send("POST", path, json=body).object()
    what = {"approve": "has your approval", "refuse": "is refused", "remark": "has your remark"}
    print_round(session, answer, what[verdict])


@command(app)
def rebase(
    session: Session,
    proposal: Id,
    *,
    keep: Annotated[
        Literal["refuse", "current", "proposed"],
        typer.Option("--keep", help="The side that is kept of a key that both have changed."),
    ] = "refuse",
    round_: Annotated[
        int | None, typer.Option("--if-round", min=1, help="Only if it is in this round.")
    ] = None,
) -> None:
    """Write another round: the same changes, on what exists now."""
    send_round(session, proposal, {"rebase": keep}, round_, "is rebased")


@command(app)
def apply(
    session: Session,
    proposal: Id,
    *,
    at: Annotated[
        str | None,
        typer.Option("--at", help="When, such as 2026-03-01T08:00:00Z; by default now."),
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option(
            "--release",
            help="The plan of a release to a few instances first, JSON or YAML; `-` is standard"
            " input.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it to its end; exit with 0 only if applied.")
    ] = False,
    comment: Comment = "",
) -> None:
    """Apply an approved proposal: now, at a time, or to a few instances first."""
    body: dict[str, Any] = {"comment": comment, **({} if at is None else {"at": at})}
    if release is not None:
        body["release"] = read_object(release)
    answer = _act(session, proposal, "apply", body)
    if wait:
        return _print_end(session, _follow(session, answer))
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(f"{answer['id']} is {state_sentence(answer)}")
    return None


@command(app)
def unschedule(session: Session, proposal: Id, *, comment: Comment = "") -> None:
    """Take back the time of a scheduled proposal, which stays approved."""
    answer = _act(session, proposal, "unschedule", {"comment": comment})
    print_round(session, answer, "is unscheduled")


@command(app)
def withdraw(session: Session, proposal: Id, *, comment: Comment = "") -> None:
    """Close a proposal for good."""
    answer = _act(session, proposal, "withdraw", {"comment": comment})
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(f"{answer['id']} is withdrawn")
    return None


def _read(session: Session, proposal_id: str) -> dict[str, Any]:
    return session.api.get(f"{PROPOSALS}/{segment(proposal_id)}").object()


def _act(
    session: Session, proposal_id: str, action: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    path = f"{PROPOSALS}/{segment(proposal_id)}/{action}"
    return session.api.send("POST", path, json=body).object()


def _follow(session: Session, proposal: dict[str, Any]) -> dict[str, Any]:
    """Read a proposal until it moves no more; waits for a service that is unavailable."""
    pause, shown, is_away = _SHORTEST_PAUSE_SECONDS, "", False
    while proposal["state"] in MOVING_STATES:
        if proposal["state"] != shown:
            shown = proposal["state"]
            session.output.note(f"{proposal['id']} is {state_sentence(proposal)}")
            pause = _SHORTEST_PAUSE_SECONDS
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        try:
            proposal = _read(session, proposal["id"])
            is_away = False
        except Failure as away:
            if away.exit_code != ExitCode.UNAVAILABLE:
                raise
            if not is_away:
                session.output.note_outage(away)
            is_away = True
    return proposal


def _print_end(session: Session, proposal: dict[str, Any]) -> None:
    """Print what became of a proposal; raises Failure unless it was applied."""
    if session.output.as_json:
        session.output.document(proposal)
    print_outcomes(session.output, proposal)
    state = proposal["state"]
    if state == "applied":
        session.output.say(f"{proposal['id']} is applied")
        return
    reason = f": {proposal['reason']}" if proposal["reason"] else ""
    raise failure(
        f"proposal_{state}",
        f"{proposal['id']} is {state}{reason}",
        ExitCode.FAILED,
        proposal=proposal["id"],
        state=state,
        reason=proposal["reason"],
    )
