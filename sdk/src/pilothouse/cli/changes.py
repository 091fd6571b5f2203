"""Command `pilothouse changes`: the change log."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pilothouse.cli.commands import Session, command
from pilothouse.cli.exit_codes import ExitCode, Failure
from pilothouse.cli.output import moment

app = typer.Typer()

_LOG = "/api/v1/changes"
_COLUMNS = (
    "revision",
    "at",
    "kind",
    "action",
    "environment",
    "name",
    "version",
    "actor",
    "comment",
)


@command(app)
def tail(
    session: Session,
    *,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Show this many of the last changes.")
    ] = 10,
    since: Annotated[
        int | None, typer.Option(min=0, help="Show all changes after this revision instead.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only config, flag, segment, token, ...")] = None,
    name: Annotated[str | None, typer.Option(help="Only this service, flag, ...")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until Ctrl-C.")] = False,
) -> None:
    """Show the last changes, without values; with --json one line each."""
    wanted = {
        "kind": kind,
        "entity": name or session.options.service,
        "environment": session.profile.environment,
    }
    head = int(session.api.get(_LOG, limit=1).headers["x-revision"])
    if since is None:
        changes = _last(session, lines, head, wanted)
    else:
        changes = list(_after(session, since, wanted))
    _print_changes(session, changes)
    if follow:
        _follow(session, max([head, *(change["revision"] for change in changes)]), wanted)


def _follow(session: Session, seen: int, wanted: dict[str, Any]) -> None:
    for _ in session.api.news(session.output.note_outage):
        try:
            for change in _after(session, seen, wanted):
                seen = change["revision"]
                _print_changes(session, [change], follows=True)
        except Failure as away:
            if away.exit_code != ExitCode.UNAVAILABLE:
                raise
            session.output.note_outage(away)  # the stream breaks as well, and is opened again


def _after(session: Session, revision: int, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return session.api.items(_LOG, since=revision, **wanted)


def _last(session: Session, lines: int, head: int, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the last changes; reads further back until there are enough."""
    reach = max(lines, 1)
    while True:
        since = max(0, head - reach)
        changes = list(_after(session, since, wanted))
        if len(changes) >= lines or since == 0:
            return changes[len(changes) - min(lines, len(changes)) :]
        reach *= 10


def _print_changes(
    session: Session, changes: list[dict[str, Any]], *, follows: bool = False
) -> None:
    if session.output.as_json:
        for change in changes:
            session.output.line(change)
        return
    rows = [_row(change) for change in changes]
    if follows:
        for row in rows:
            session.output.say("  ".join(str(cell) for cell in row if cell not in {"", None}))
    else:
        session.output.table(_COLUMNS, rows)


def _row(change: dict[str, Any]) -> list[Any]:
    shown = {**change, "at": moment(change["at"])}
    return [shown[column] for column in _COLUMNS]
