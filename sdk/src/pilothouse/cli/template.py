"""Commands `pilothouse template`: keys that many documents have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.definition_versions import (
    delete_definition,
    print_diff,
    print_history,
    version_header,
)
from pilothouse.cli.exit_codes import ExitCode
from pilothouse.cli.files import read_object, write_out
from pilothouse.cli.output import layer, moment
from pilothouse.cli.values import display_text, indented_json, pairs, read

app = typer.Typer()

_TEMPLATES = "/api/v1/templates"
_BODY = ("description", "applies_to", "parameters", "at", "data")
_ANY = ["*"]
Name = Annotated[str, typer.Argument(help="The template's name.", metavar="NAME")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if the template has this version.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]


@command(app, "list")
def list_(session: Session) -> None:
    """List templates with their parameters."""
    page = session.api.page(_TEMPLATES)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            item["name"],
            item["version"],
            ", ".join(item["parameters"].get("properties") or ()),
            "; ".join(map(_scope, item["applies_to"])),
            moment(item["updated_at"]),
        )
        for item in page["items"]
    ]
    columns = ("name", "version", "parameters", "applies to", "changed")
    session.output.table(columns, rows, ("cyan",))
    return None


def _scope(applied: Mapping[str, Any]) -> str:
    environments = ",".join(applied.get("environments") or _ANY)
    return f"{environments}/{','.join(applied.get('services') or _ANY)}"


@command(app)
def show(
    session: Session,
    name: Name,
    *,
    version: Annotated[int | None, typer.Option(min=1, help="This version of it.")] = None,
    output: Out = None,
) -> None:
    """Print a template as a body that `template set` takes."""
    body = session.api.get(f"{_TEMPLATES}/{segment(name)}", version=version).object()
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
            help="`data`, `parameters` and more, JSON or YAML; `-` is standard input.",
            metavar="FILE",
        ),
    ],
    *,
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Create or replace a template; documents that use it stay as they are until `upgrade`."""
    body = {**read_object(file), **({"comment": comment} if comment else {})}
    path = f"{_TEMPLATES}/{segment(name)}"
    answer = session.api.send("PUT", path, json=body, headers=version_header(if_version)).object()
    _print_written(session, answer, "is set")


def _print_written(session: Session, written: Mapping[str, Any], done: str) -> None:
    if session.output.as_json:
        return session.output.document(written)
    outcome = done if written["changed"] else "already said this"
    session.output.say(f"{written['name']} {outcome}: version {written['version']}")
    return None


@command(app)
def delete(
    session: Session, name: Name, *, comment: Comment = "", if_version: Version = None
) -> None:
    """Delete a template; its history stays, and so do the keys of documents that use it."""
    path = f"{_TEMPLATES}/{segment(name)}"
    delete_definition(session, path, name, comment, if_version)


@command(app)
def history(
    session: Session,
    name: Name,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most this many versions.")
    ] = 20,
) -> None:
    """List the versions of a template, newest first."""
    print_history(session, f"{_TEMPLATES}/{segment(name)}", limit)


@command(app)
def diff(
    session: Session,
    name: Name,
    old: Annotated[int | None, typer.Argument(min=1, metavar="OLD")] = None,
    new: Annotated[int | None, typer.Argument(min=1, metavar="NEW")] = None,
) -> None:
    """Compare two versions of a template, by default the last two."""
    print_diff(session, f"{_TEMPLATES}/{segment(name)}", name, old, new)


@command(app)
def rollback(
    session: Session,
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version to restore.")],
    *,
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Write an earlier version of a template as a new one."""
    path = f"{_TEMPLATES}/{segment(name)}/rollback"
    body = {"version": version, "comment": comment}
    answer = session.api.send("POST", path, json=body, headers=version_header(if_version)).object()
    _print_written(session, answer, f"is restored from version {version}")


@command(app)
def use(
    session: Session,
    name: Name,
    *,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE, JSON or text. Repeatable."),
    ] = None,
    parameters: Annotated[
        Path | None, typer.Option("--parameters", help="Parameters as JSON or YAML.")
    ] = None,
    comment: Comment = "",
    if_version: Annotated[
        int | None, typer.Option("--if-version", min=0, help="Only if the layer has this version.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write the keys of a template into the layer of --service and --environment."""
    given = {} if parameters is None else read_object(parameters)
    for member, value in pairs(parameter or (), name="--parameter").items():
        given[member] = read(value)
    body = {
        "environment": session.environment,
        "service_name": session.service,
        "parameters": given,
        "comment": comment,
        "dry_run": dry_run,
    }
    path = f"{_TEMPLATES}/{segment(name)}/use"
    answer = session.api.send("POST", path, json=body, headers=version_header(if_version)).object()
    if session.output.as_json:
        return session.output.document(answer)
    if answer["status"] == "unchanged":
        session.output.say(f"{name} changes nothing: {layer(answer)}")
    else:
        session.output.say(
            f"{name}, version {answer['template_version']}, is used: {layer(answer)}, "
            f"version {answer['version']}"
        )
        session.output.changes(answer["changes"])
    _note_kept(session, answer["kept"])
    if dry_run:
        session.output.note("nothing was written")
    return None


def _note_kept(session: Session, kept: list[str]) -> None:
    if kept:
        session.output.note(f"changed by hand, and kept: {', '.join(kept)}")


@command(app)
def uses(session: Session, name: Name) -> None:
    """List the layers that use a template, with the keys that were changed by hand."""
    page = session.api.page(f"{_TEMPLATES}/{segment(name)}/uses")
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            layer(item),
            item["template_version"],
            " ".join(f"{key}={display_text(value)}" for key, value in item["parameters"].items()),
            ", ".join(item["differing"]),
        )
        for item in page["items"]
    ]
    session.output.table(("layer", "version", "parameters", "changed by hand"), rows, ("cyan",))
    _note_others(session, page)
    return None


def _note_others(session: Session, answer: Mapping[str, Any]) -> None:
    if answer["hidden"]:
        session.output.note(f"{answer['hidden']} more, which you may not read")
    if answer["unreadable"]:
        session.output.note(f"{answer['unreadable']} documents cannot be read now")


@command(app)
def upgrade(
    session: Session,
    name: Name,
    *,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="The version; by default the current one.")
    ] = None,
    environments: Annotated[
        list[str] | None, typer.Option("--environments", help="A pattern. Repeatable.")
    ] = None,
    services: Annotated[
        list[str] | None, typer.Option("--services", help="A pattern. Repeatable.")
    ] = None,
    comment: Comment = "",
    dry_run: DryRun = False,
) -> None:
    """Upgrade the layers that use a template; keys that were changed by hand stay.

    By default all that you may read, or those of --environment and --service.
    """
    options = session.options
    body = {
        "to": to,
        "environments": environments or ([options.environment] if options.environment else _ANY),
        "services": services or ([options.service] if options.service else _ANY),
        "comment": comment,
        "dry_run": dry_run,
    }
    path = f"{_TEMPLATES}/{segment(name)}/upgrade"
    answer = session.api.send("POST", path, json=body).object()
    if session.output.as_json:
        session.output.document(answer)
    else:
        _print_upgrades(session, name, answer)
    if any(each["status"] == "refused" for each in answer["uses"]):
        raise typer.Exit(ExitCode.FAILED)


def _print_upgrades(session: Session, name: str, answer: Mapping[str, Any]) -> None:
    session.output.say(f"{name}: version {answer['to']}")
    rows = [
        (
            layer(each),
            each["status"],
            each["before"],
            each["version"] or None,
            each["error"]["detail"] if each["error"] else ", ".join(each["kept"]),
        )
        for each in answer["uses"]
    ]
    columns = ("layer", "status", "before", "layer's version", "changed by hand, or refused")
    session.output.table(columns, rows, ("cyan",))
    _note_others(session, answer)
    if answer["remaining"]:
        session.output.note(f"{answer['remaining']} are left: repeat the command")
    if answer["dry_run"]:
        session.output.note("nothing was written")
