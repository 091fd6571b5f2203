"""Commands that write rounds of proposals: `new` and `revise`."""

from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import usage
from pilothouse.cli.proposals.items import StatedChanges
from pilothouse.cli.proposals.views import approval_sentence, print_items

PROPOSALS = "/api/v1/proposals"

Id = Annotated[str, typer.Argument(help="The proposal's id, such as p-7k2m9p4x5q.", metavar="ID")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(help="Keys to set; values are JSON, else text.", metavar="KEY=VALUE..."),
]
Title = Annotated[str | None, typer.Option("--title", "-t", help="What it is about.")]
Description = Annotated[str | None, typer.Option("--description", "-d", help="More about it.")]
File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        help="JSON or YAML: a list of items, or an object with `items`; `-` is standard input.",
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        help="The layer of the keys; by default that of --service and --environment.",
        metavar="SERVICE[@ENVIRONMENT]",
    ),
]
Unset = Annotated[
    list[str] | None, typer.Option("--unset", help="A key to remove. Repeatable.", metavar="KEY")
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        help="A key to encrypt; its value is asked for, or is the next line of standard input."
        " Repeatable.",
        metavar="KEY",
    ),
]
Flags = Annotated[
    list[str] | None,
    typer.Option(
        "--flag",
        help="A flag, and a file with its definition, in the environment of the layer. Repeatable.",
        metavar="NAME=FILE",
    ),
]
OnFailure = Annotated[
    Literal["stop", "undo"] | None,
    typer.Option("--on-failure", help="Where an item fails: stop, or undo those before it."),
]


def new(
    session: Session,
    settings: Settings = None,
    *,
    title: Annotated[str, typer.Option("--title", "-t", help="What it is about.")] = "",
    description: Description = None,
    file: File = None,
    config: Config = None,
    unset: Unset = None,
    secret: Secrets = None,
    flag: Flags = None,
    on_failure: OnFailure = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be proposed; store nothing.")
    ] = False,
) -> None:
    """Propose changes of a configuration, of flags, or of all that a file lists."""
    members = {"title": title or None, "description": description, "on_failure": on_failure}
    stated = StatedChanges(
        file, config, settings or (), unset or (), secret or (), flag or (), members
    )
    body = stated.body(session)
    if not body.get("title"):
        raise usage("--title is missing")
    answer = session.api.send(
        "POST",
        PROPOSALS,
        json=body,
        headers={"Idempotency-Key": uuid4().hex},
        dry_run=dry_run or None,
    ).object()
    if session.output.as_json:
        return session.output.document(answer)
    if dry_run:
        print_items(session.output, answer["items"])
        for warning in answer["warnings"]:
            session.output.note(f"warning: {warning.get('detail') or warning['key']}")
        session.output.say("")
        session.output.say(approval_sentence(answer["approvals"]))
        session.output.note("nothing was proposed")
        return None
    return print_round(session, answer, "is proposed")


def revise(
    session: Session,
    proposal: Id,
    settings: Settings = None,
    *,
    title: Title = None,
    description: Description = None,
    file: File = None,
    config: Config = None,
    unset: Unset = None,
    secret: Secrets = None,
    flag: Flags = None,
    on_failure: OnFailure = None,
    round_: Annotated[
        int | None, typer.Option("--if-round", min=1, help="Only if it is in this round.")
    ] = None,
) -> None:
    """Write another round, which replaces all items; reviews of earlier rounds count no more."""
    members = {"title": title, "description": description, "on_failure": on_failure}
    stated = StatedChanges(
        file, config, settings or (), unset or (), secret or (), flag or (), members
    )
    body = stated.body(session)
    send_round(session, proposal, body, round_, "is revised")


def send_round(
    session: Session, proposal_id: str, body: dict[str, object], round_: int | None, what: str
) -> None:
    """Write another round of a proposal, and print what it needs."""
    path = f"{PROPOSALS}/{segment(proposal_id)}"
    headers = {} if round_ is None else {"If-Match": f'"{round_}"'}
    answer = session.api.send("PATCH", path, json=body, headers=headers).object()
    print_round(session, answer, what)


def print_round(session: Session, proposal: dict[str, object], what: str) -> None:
    """Print the state of a proposal after a step of it."""
    if session.output.as_json:
        session.output.document(proposal)
        return
    approvals = approval_sentence(proposal["approvals"])  # type: ignore[arg-type]
    state = f"{proposal['state']}, round {proposal['round']}"
    session.output.say(f"{proposal['id']} {what}: {state}; {approvals}")
