"""Command `pilothouse validate`: files judged by schemas, here or by the service."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import ExitCode, usage
from pilothouse.cli.files import Known, config_files
from pilothouse.cli.yaml_text import load_yaml
from pilothouse_core.keys import is_key

Report = Literal["text", "sarif", "junit"]
FileFormat = Literal["yaml", "json", "properties", "dotenv"]


def validate(
    session: Session,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files or folders; `-` is standard input.", metavar="FILE..."),
    ],
    *,
    schemas: Annotated[
        list[Path] | None,
        typer.Option(
            "--schema",
            help="A JSON Schema, or a body with it, JSON or YAML; nothing is sent. Repeatable. "
            "Without it, the service judges by its own schemas.",
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="The key below which the schema judges.")
    ] = None,
    report: Annotated[Report, typer.Option("--format", help="The format of the report.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report to this file.")
    ] = None,
    form: Annotated[
        FileFormat | None,
        typer.Option("--file-format", help="Of the files. Default: by their suffixes."),
    ] = None,
    types: Annotated[
        bool, typer.Option("--types", help="Types and keys in comments (properties, dotenv).")
    ] = False,
) -> None:
    """Judge files by schemas, without writing anything; exits with 8 if one is not met.

    With --schema nothing is sent. Without it, the service says what importing the files into
    --environment and --service would violate.
    """
    if at is not None and not schemas:
        raise usage("--at needs --schema")
    if at and not is_key(at):
        raise usage(f"--at: {at!r} is not a key")
    files, left_out = config_files(paths, form, session.profile.service, Known)
    for name, reason in left_out:
        session.output.note(f"{name}: not judged: {reason}")
    load_yaml()  # which the readers of files import, in whatever format they are
    from pilothouse.cli.judging import ask_service, judge_files, print_report  # noqa: PLC0415

    if schemas:
        judged = judge_files(session, files, schemas, at, types=types)
    else:
        judged = ask_service(session, files, types=types)
    print_report(session, judged, report, output)
    if not judged.is_valid:
        raise typer.Exit(ExitCode.INVALID)
