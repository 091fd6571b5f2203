"""Command `pilothouse promote`: compare two environments, and promote what has changed."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import ExitCode, failure, usage
from pilothouse.cli.values import display_text, pairs, read

_PROMOTIONS = "/api/v1/promotions"
_COLUMNS = ("", "kind", "service", "key", "state", "source", "target")
_STYLES = ("bold", "", "", "cyan")


def promote(
    session: Session,
    *,
    source: Annotated[str, typer.Option("--from", help="The environment that is promoted.")],
    target: Annotated[str, typer.Option("--to", help="The environment that is promoted to.")],
    service_names: Annotated[
        list[str] | None,
        typer.Option("--service-name", help="A service. Repeatable; by default that of --service."),
    ] = None,
    flags: Annotated[bool, typer.Option("--flags", help="Flags and segments too.")] = False,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", help="Only these keys, flags or segments, conflicts too. Repeatable."
        ),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value", help="KEY=VALUE instead of the source's, JSON or text. Repeatable."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show rows that are the same too.")] = False,
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why; kept in history.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the rows.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Promote what has changed in one environment to another; conflicts only by --key."""
    services = service_names or [session.service]
    route = {"from": source, "to": target, "services": services, "flags": flags}
    compared = session.api.send("POST", f"{_PROMOTIONS}/compare", json=route).object()
    values = {name: read(text) for name, text in pairs(value or (), name="--value").items()}
    if values and len(services) > 1:
        raise usage("--value needs exactly one --service-name")
    chosen = [row for row in compared["rows"] if _is_chosen(row, key, values)]
    if session.output.as_json and (dry_run or not chosen):
        return session.output.document(compared)
    _print_rows(session, compared["rows"], chosen, every=every)
    if not chosen or dry_run:
        session.output.note("nothing was written" if chosen else "there is nothing to promote")
        return None
    if not yes:
        _require_consent(f"Promote {len(chosen)} rows to {target}?")
    body = {
        **route,
        "rows": [_row(row, values) for row in chosen],
        "compared": compared["compared"],
        "comment": comment,
    }
    return _print_parts(session, session.api.send("POST", _PROMOTIONS, json=body).object())


def _require_consent(question: str) -> None:
    """Ask at a terminal; raises Failure (usage) elsewhere, and Abort for a no."""
    if not sys.stdin.isatty():
        raise usage("not at a terminal: say --yes to promote without a question")
    typer.confirm(question, abort=True, err=True)


def _is_chosen(row: dict[str, Any], keys: Sequence[str] | None, values: dict[str, Any]) -> bool:
    if row["kind"] == "config" and row["key"] in values:
        return True
    return row["key"] in keys if keys else row["selected"]


def _row(row: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: row[name] for name in ("kind", "service_name", "key")}
    if row["kind"] == "config" and row["key"] in values:
        chosen["value"] = values[row["key"]]
    return chosen


def _print_rows(
    session: Session, rows: Sequence[dict[str, Any]], chosen: Sequence[Any], *, every: bool
) -> None:
    if session.output.as_json:
        return
    shown = [
        (
            "*" if row in chosen else "",
            row["kind"],
            row["service_name"],
            row["key"],
            row["state"],
            _text(row, "source"),
            _text(row, "target"),
        )
        for row in rows
        if every or row["state"] != "same"
    ]
    session.output.table(_COLUMNS, shown, _STYLES)


def _text(row: dict[str, Any], side: str) -> str:
    if row[side] is None:
        return ""
    return display_text(row[side]["value"]) if row["kind"] == "config" else "defined"


def _print_parts(session: Session, promoted: dict[str, Any]) -> None:
    if session.output.as_json:
        session.output.document(promoted)
    for part in promoted["parts"]:
        name = part["service_name"] or "flags and segments"
        version = f", version {part['version']}" if part["version"] else ""
        session.output.say(f"{name}: {part['status']}{version}")
    failed = [part for part in promoted["parts"] if part["status"] == "failed"]
    if failed:
        raise failure("promotion_failed", failed[0]["detail"], ExitCode.FAILED)
