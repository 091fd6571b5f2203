"""Commands `pilothouse schema`: what configurations have to be like."""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.definition_versions import (
    delete_definition,
    print_diff,
    print_history,
    version_header,
)
from pilothouse.cli.exit_codes import ExitCode, usage
from pilothouse.cli.files import read_object, write_out
from pilothouse.cli.output import moment
from pilothouse.cli.schema_files import is_body
from pilothouse.cli.values import display_text, indented_json

app = typer.Typer()

_SCHEMAS = "/api/v1/schemas"
_VIOLATIONS = "/api/v1/violations"
_BODY = ("mode", "applies_to", "plain_secret", "description", "schema")
_ANY = ["*"]
Name = Annotated[str, typer.Argument(help="The schema's name.", metavar="NAME")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if the schema has this version.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Judge what exists; write nothing.")]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]


@command(app, "list")
def list_(session: Session) -> None:
    """List schemas with the configurations that they judge."""
    page = session.api.page(_SCHEMAS)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            item["name"],
            item["version"],
            item["mode"],
            "; ".join(map(_application, item["applies_to"])),
            moment(item["updated_at"]),
        )
        for item in page["items"]
    ]
    session.output.table(("name", "version", "mode", "applies to", "changed"), rows, ("cyan",))
    return None


def _application(applied: Mapping[str, Any]) -> str:
    environments = ",".join(applied.get("environments") or _ANY)
    services = ",".join(applied.get("services") or _ANY)
    at = applied.get("at")
    return f"{environments}/{services}" + (f" at {at}" if at else "")


@command(app)
def show(
    session: Session,
    name: Name,
    *,
    version: Annotated[int | None, typer.Option(min=1, help="This version of it.")] = None,
    output: Out = None,
) -> None:
    """Print a schema as a body that `schema set` takes."""
    body = session.api.get(f"{_SCHEMAS}/{segment(name)}", version=version).object()
    if not session.output.as_json:
        body = {member: body[member] for member in _BODY if member in body}
    write_out(session, indented_json(body), output)


@command(app, "set")
def set_(
    session: Session,
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(help="A JSON Schema, or a body with it, JSON or YAML.", metavar="FILE"),
    ],
    *,
    mode: Annotated[
        Literal["warn", "enforce"] | None,
        typer.Option("--mode", help="Whether writes that break it are refused. Default: enforce."),
    ] = None,
    environments: Annotated[
        list[str] | None, typer.Option("--environments", help="A pattern. Repeatable.")
    ] = None,
    services: Annotated[
        list[str] | None, typer.Option("--services", help="A pattern. Repeatable.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="The key below which it judges.")] = None,
    plain_secret: Annotated[
        Literal["seal", "refuse"] | None,
        typer.Option("--plain-secret", help="What is done with plain values of secrets."),
    ] = None,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Create or replace a schema.

    A bare JSON Schema applies to the patterns of --environment and --service, else to the service
    of its name in every environment. A body is sent as it is.
    """
    options = session.options
    stated = {
        "mode": mode,
        "environments": environments or ([options.environment] if options.environment else None),
        "services": services or ([options.service] if options.service else None),
        "at": at,
        "plain_secret": plain_secret,
    }
    body = {**_body(name, file, stated), **({"comment": comment} if comment else {})}
    path = f"{_SCHEMAS}/{segment(name)}"
    headers = version_header(if_version)
    query: dict[str, Any] = {"dry_run": dry_run or None}
    answer = session.api.send("PUT", path, json=body, headers=headers, **query).object()
    _print_written(session, answer, "is set", dry_run=dry_run)


def _body(name: str, file: Path, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file as the body of a schema; raises Failure (usage)."""
    document = read_object(file)
    typed = {member: value for member, value in stated.items() if value is not None}
    if is_body(document):
        if typed:
            options = ", ".join(f"--{member.replace('_', '-')}" for member in typed)
            raise usage(f"{file} is a body with `schema`: {options} cannot change it")
        return document
    body: dict[str, Any] = {"schema": document, "mode": typed.pop("mode", "enforce")}
    if "plain_secret" in typed:
        body["plain_secret"] = typed.pop("plain_secret")
    if typed:
        body["applies_to"] = [
            {"environments": [*_ANY, "default"], "services": [name], "at": "", **typed}
        ]
    return body


def _print_written(
    session: Session, written: Mapping[str, Any], done: str, *, dry_run: bool = False
) -> None:
    if session.output.as_json:
        return session.output.document(written)
    name, version = written["name"], written["version"]
    outcome = done if written.get("changed", True) else "already said this"
    session.output.say(f"{name} {outcome}: {written['mode']}, version {version}")
    judged = written["judged"]
    session.output.say(f"{judged['pairs']} configurations judged, {judged['violating']} violating")
    _print_problems(session, judged.get("problems") or ())
    for plain in judged.get("plain_secrets") or ():
        where = f"{plain['environment']}/{plain['service_name']}"
        session.output.note(f"{where}: {plain['key']} is a plain value where a secret should be")
    if dry_run:
        session.output.note("nothing was written")
    return None


def _print_problems(session: Session, problems: Iterable[Mapping[str, Any]]) -> None:
    rows = [
        (
            f"{each['environment']}/{each['service_name']}",
            each["key"],
            each["schema"],
            each.get("rule") or each.get("keyword"),
            display_text(each["expected"]) if each.get("expected") is not None else "",
        )
        for each in problems
    ]
    if rows:
        session.output.table(("configuration", "key", "schema", "demand", "expected"), rows)


@command(app)
def delete(
    session: Session, name: Name, *, comment: Comment = "", if_version: Version = None
) -> None:
    """Delete a schema; its history stays."""
    path = f"{_SCHEMAS}/{segment(name)}"
    delete_definition(session, path, name, comment, if_version)


@command(app)
def history(
    session: Session,
    name: Name,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most this many versions.")
    ] = 20,
) -> None:
    """List the versions of a schema, newest first."""
    print_history(session, f"{_SCHEMAS}/{segment(name)}", limit)


@command(app)
def diff(
    session: Session,
    name: Name,
    old: Annotated[int | None, typer.Argument(min=1, metavar="OLD")] = None,
    new: Annotated[int | None, typer.Argument(min=1, metavar="NEW")] = None,
) -> None:
    """Compare two versions of a schema, by default the last two."""
    print_diff(session, f"{_SCHEMAS}/{segment(name)}", name, old, new)


@command(app)
def rollback(
    session: Session,
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version to restore.")],
    *,
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Write an earlier version of a schema as a new one."""
    path = f"{_SCHEMAS}/{segment(name)}/rollback"
    body = {"version": version, "comment": comment}
    answer = session.api.send("POST", path, json=body, headers=version_header(if_version)).object()
    _print_written(session, answer, f"is restored from version {version}")


@command(app)
def export(session: Session, *, output: Out = None) -> None:
    """Print all schemas as one document."""
    document = session.api.get(f"{_SCHEMAS}/export").object()
    write_out(session, indented_json(document), output)


@command(app, "import")
def import_(
    session: Session,
    file: Annotated[
        Path, typer.Argument(help="An export, JSON or YAML; `-` is standard input.", metavar="FILE")
    ],
    *,
    dry_run: DryRun = False,
    comment: Comment = "",
) -> None:
    """Create and replace the schemas of an export, one by one."""
    body = {**read_object(file), **({"comment": comment} if comment else {})}
    path = f"{_SCHEMAS}/import"
    query: dict[str, Any] = {"dry_run": dry_run or None}
    answer = session.api.send("POST", path, json=body, **query).object()
    if session.output.as_json:
        session.output.document(answer)
    else:
        rows = [
            (each["name"], each["status"], each["version"], (each.get("error") or {}).get("detail"))
            for each in answer["schemas"]
        ]
        session.output.table(("name", "status", "version", ""), rows, ("cyan",))
        if dry_run:
            session.output.note("nothing was written")
    if any(each["status"] == "failed" for each in answer["schemas"]):
        raise typer.Exit(ExitCode.FAILED)


@command(app, "for")
def for_(session: Session) -> None:
    """List the schemas that judge one configuration."""
    query: dict[str, Any] = {"environment": session.environment, "service_name": session.service}
    answer = session.api.get(f"{_SCHEMAS}/for", **query).object()
    if session.output.as_json:
        return session.output.document(answer)
    rows = [
        (item["name"], item["version"], item["mode"], item["at"] or None)
        for item in answer["items"]
    ]
    session.output.table(("name", "version", "mode", "at"), rows, ("cyan",))
    return None


@command(app)
def violations(
    session: Session,
    *,
    schema: Annotated[str | None, typer.Option("--schema", help="Only of this schema.")] = None,
) -> None:
    """List what schemas find in the configurations that exist.

    Of all that the caller may read, or of --environment and --service.
    """
    query: dict[str, Any] = {
        "environment": session.options.environment,
        "service_name": session.options.service,
        "schema": schema,
    }
    page = session.api.page(_VIOLATIONS, **query)
    if session.output.as_json:
        return session.output.document(page)
    _print_problems(session, page["items"])
    if not page["items"]:
        session.output.say("every configuration meets its schemas")
    if hidden := page.get("hidden"):
        session.output.note(f"{hidden} more configurations that you may not read")
    return None


@command(app, "from-pydantic")
def from_pydantic(
    session: Session,
    place: Annotated[
        str, typer.Argument(help="A Pydantic model: `package.module:Model`.", metavar="MODEL")
    ],
    *,
    output: Out = None,
) -> None:
    """Print the JSON Schema of a Pydantic model; nothing is sent."""
    write_out(session, indented_json(_schema_of_model(place)), output)


def _schema_of_model(place: str) -> Any:
    module_name, _, name = place.partition(":")
    if not module_name or not name:
        raise usage(f"{place!r} is not of the form package.module:Model")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        model: Any = import_module(module_name)
        for part in name.split("."):
            model = getattr(model, part)
    except (ImportError, AttributeError) as error:
        raise usage(f"{place} cannot be imported: {error}") from None
    make_schema = getattr(model, "model_json_schema", None)
    if not callable(make_schema):
        raise usage(f"{place} is not a Pydantic model")
    return make_schema()
