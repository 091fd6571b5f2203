"""Commands `pilothouse flags targets`: the users that a flag names, up to 100,000 of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.exit_codes import usage
from pilothouse.cli.files import read_bytes

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The flag's name.", metavar="NAME")]
Users = Annotated[list[str] | None, typer.Argument(help="User ids.", metavar="USER...")]
File = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="One user id per line; `-` is standard input."),
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Variant = Annotated[
    str | None,
    typer.Option("--variant", help="The variant they are served, if the flag names no user yet."),
]
Version = Annotated[
    int | None, typer.Option("--if-version", min=1, help="Only if the flag has this version.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]


@command(app)
def append(
    session: Session,
    name: Name,
    users: Users = None,
    *,
    file: File = None,
    variant: Variant = None,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Add users to those that a flag names."""
    query = {"variant": variant, "comment": comment, "dry_run": dry_run or None}
    _send(session, "POST", name, _list(users, file), if_version, query)


@command(app)
def replace(
    session: Session,
    name: Name,
    users: Users = None,
    *,
    file: File = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Remove all users.")] = False,
    variant: Variant = None,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Replace the users that a flag names."""
    query = {"variant": variant, "comment": comment, "dry_run": dry_run or None}
    if nobody and (users or file is not None):
        raise usage("--nobody cannot be combined with users")
    targets = [] if nobody else _list(users, file)
    _send(session, "PUT", name, targets, if_version, query)


@command(app)
def remove(
    session: Session,
    name: Name,
    users: Users = None,
    *,
    file: File = None,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Remove users from those that a flag names."""
    query = {"comment": comment, "dry_run": dry_run or None}
    _send(session, "DELETE", name, _list(users, file), if_version, query)


def _list(users: list[str] | None, file: Path | None) -> list[str] | bytes:
    """Return the given users, or the content of the file that lists them."""
    if bool(users) == (file is not None):
        raise usage("name users, or a file with --file")
    return list(users or ()) if file is None else read_bytes(file)


def _send(
    session: Session,
    method: str,
    name: str,
    users: list[str] | bytes,
    if_version: int | None,
    query: dict[str, Any],
) -> None:
    content = users if isinstance(users, bytes) else None
    headers = {"Content-Type": "application/json" if content is None else "text/plain"}
    if if_version is not None:
        headers["If-Match"] = f'"{if_version}"'
    answer = session.api.send(
        method,
        f"/api/v1/feature-flags/{segment(name)}/targets",
        json=users if content is None else None,
        content=content,
        headers=headers,
        environment=session.environment,
        **query,
    ).object()
    if session.output.as_json:
        return session.output.document(answer)
    counted = f"{answer['added']} added, {answer['removed']} removed, {answer['count']} in all"
    session.output.say(f"{name}: {counted}: {session.environment}, version {answer['version']}")
    if not answer["enabled"]:
        session.output.note("the flag is not enabled")
    if query["dry_run"]:
        session.output.note("nothing was written")
    return None
