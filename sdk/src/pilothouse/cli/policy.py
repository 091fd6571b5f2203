"""Commands `pilothouse policy`: which changes need a proposal, and what of it."""

from pathlib import Path
from typing import Annotated

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.definition_versions import delete_definition, print_history, version_header
from pilothouse.cli.files import read_object, write_out
from pilothouse.cli.output import moment
from pilothouse.cli.values import indented_json

app = typer.Typer()

_POLICIES = "/api/v1/policies"
_BODY = (
    "description",
    "environments",
    "services",
    "kinds",
    "approvals",
    "of",
    "people_only",
    "valid_for",
    "rollback",
    "closed",
)
Name = Annotated[str, typer.Argument(help="The policy's name.", metavar="NAME")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if the policy has this version.")
]


@command(app, "list")
def list_(session: Session) -> None:
    """List policies with the changes that need a proposal."""
    page = session.api.page(_POLICIES)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            item["name"],
            item["version"],
            ",".join(item["kinds"]),
            f"{','.join(item['environments'])}/{','.join(item['services'])}",
            f"{item['approvals']} of {','.join(item['of'])}",
            moment(item["updated_at"]),
        )
        for item in page["items"]
    ]
    columns = ("name", "version", "kinds", "where", "approvals", "changed")
    session.output.table(columns, rows, ("cyan",))
    return None


@command(app)
def show(
    session: Session,
    name: Name,
    *,
    version: Annotated[int | None, typer.Option(min=1, help="This version of it.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.")
    ] = None,
) -> None:
    """Print a policy as a body that `policy set` takes."""
    body = session.api.get(f"{_POLICIES}/{segment(name)}", version=version).object()
    if not session.output.as_json:
        body = {member: body[member] for member in _BODY if member in body}
    write_out(session, indented_json(body), output)


@command(app, "set")
def set_(
    session: Session,
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            help="`kinds`, `environments` and more, JSON or YAML; `-` is standard input.",
            metavar="FILE",
        ),
    ],
    *,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it; write nothing.")] = False,
) -> None:
    """Create or replace a policy, which applies to every change from then on."""
    body = {**read_object(file), **({"comment": comment} if comment else {})}
    path = f"{_POLICIES}/{segment(name)}"
    answer = session.api.send(
        "PUT", path, json=body, headers=version_header(if_version), dry_run=dry_run or None
    ).object()
    if session.output.as_json:
        return session.output.document(answer)
    outcome = "is set" if answer["changed"] else "already said this"
    if dry_run:
        outcome = "can be set" if answer["changed"] else outcome
    session.output.say(f"{name} {outcome}: version {answer['version']}")
    if answer["proposal_needed"]:
        session.output.say(f"the policy {answer['proposal_needed']} asks for a proposal for it")
    return None


@command(app)
def delete(
    session: Session, name: Name, *, comment: Comment = "", if_version: Version = None
) -> None:
    """Delete a policy; its history stays."""
    path = f"{_POLICIES}/{segment(name)}"
    delete_definition(session, path, name, comment, if_version)


@command(app)
def history(
    session: Session,
    name: Name,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most this many versions.")
    ] = 20,
) -> None:
    """List the versions of a policy, newest first."""
    print_history(session, f"{_POLICIES}/{segment(name)}", limit)
