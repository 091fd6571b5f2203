"""Commands `pilothouse webhook`: changes that are sent to receivers over HTTP."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.definition_versions import delete_definition, version_header
from pilothouse.cli.exit_codes import ExitCode
from pilothouse.cli.files import read_object
from pilothouse.cli.output import moment
from pilothouse.cli.values import indented_json

app = typer.Typer()

_WEBHOOKS = "/api/v1/webhooks"
Name = Annotated[str, typer.Argument(help="The webhook's name.", metavar="NAME")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if the webhook has this version.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")]


@command(app, "list")
def list_(session: Session) -> None:
    """List webhooks with what they deliver."""
    page = session.api.page(_WEBHOOKS)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            item["name"],
            "yes" if item["enabled"] else "no",
            ",".join(item["kinds"]),
            f"{','.join(item['environments'])}/{','.join(item['services'])}",
            moment(item["updated_at"]),
        )
        for item in page["items"]
    ]
    session.output.table(("name", "enabled", "kinds", "of", "changed"), rows, ("cyan",))
    return None


@command(app)
def get(session: Session, name: Name) -> None:
    """Print a webhook and how far its deliveries are; its secret is never shown."""
    session.output.raw(indented_json(session.api.get(_path(name)).object()))


@command(app)
def put(
    session: Session,
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            help="`url`, `kinds` and more, JSON or YAML; `-` is standard input.", metavar="FILE"
        ),
    ],
    *,
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Create or replace a webhook; a secret that is made for it is shown only now."""
    body = {**read_object(file), **({"comment": comment} if comment else {})}
    headers = version_header(if_version)
    answer = session.api.send("PUT", _path(name), json=body, headers=headers).object()
    if session.output.as_json:
        return session.output.document(answer)
    outcome = "is set" if answer["changed"] else "already said this"
    session.output.say(f"{name} {outcome}: version {answer['version']}")
    if answer["secret"] is not None:
        session.output.say(f"its secret, shown only now: {answer['secret']}")
    return None


@command(app)
def delete(
    session: Session, name: Name, *, comment: Comment = "", if_version: Version = None
) -> None:
    """Delete a webhook with what waits for its receiver."""
    delete_definition(session, _path(name), name, comment, if_version)


@command(app)
def deliveries(session: Session, name: Name, limit: Limit = 20) -> None:
    """List the last requests to the receiver, newest first."""
    page = session.api.page(f"{_path(name)}/deliveries", limit)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            moment(item["at"]),
            item["outcome"],
            item["status"],
            item["attempt"],
            f"{item['seconds']:.3f} s",
            item["revision"],
            item["reason"],
        )
        for item in page["items"]
    ]
    columns = ("at", "outcome", "status", "attempt", "took", "revision", "reason")
    session.output.table(columns, rows)
    return None


@command(app, "dead-letters")
def dead_letters(session: Session, name: Name, limit: Limit = 20) -> None:
    """List messages that were given up, oldest change first."""
    page = session.api.page(f"{_path(name)}/dead-letters", limit)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (item["id"], item["revision"], item["attempts"], moment(item["at"]), item["reason"])
        for item in page["items"]
    ]
    session.output.table(("id", "revision", "attempts", "given up", "reason"), rows, ("cyan",))
    return None


@command(app)
def resend(
    session: Session,
    name: Name,
    message_id: Annotated[
        str | None, typer.Argument(help="This dead letter; by default all.", metavar="ID")
    ] = None,
) -> None:
    """Try dead letters once more."""
    one = "" if message_id is None else f"/{segment(message_id)}"
    answer = session.api.send("POST", f"{_path(name)}/dead-letters{one}/resend").object()
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(f"{answer['resent']} are sent once more")
    return None


@command(app)
def test(session: Session, name: Name) -> None:
    """Send a test message; exits with 1 if the receiver does not accept it."""
    answer: Any = session.api.send("POST", f"{_path(name)}/test").object()
    if session.output.as_json:
        session.output.document(answer)
    elif answer["outcome"] == "delivered":
        session.output.say(f"delivered: answered {answer['status']} in {answer['seconds']:.3f} s")
    else:
        session.output.say(f"failed: {answer['reason']}")
    if answer["outcome"] != "delivered":
        raise typer.Exit(ExitCode.FAILED)


def _path(name: str) -> str:
    return f"{_WEBHOOKS}/{segment(name)}"
