"""A command line from its words to its exit code."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import typer
from typer.main import get_command

from pilothouse.cli import (
    access,
    changes,
    config,
    flags,
    policy,
    release,
    schema,
    services,
    targets,
    template,
    webhook,
)
from pilothouse.cli.commands import command, group
from pilothouse.cli.exit_codes import ExitCode, Failure, failure, usage
from pilothouse.cli.folders.commands import apply, export_all
from pilothouse.cli.output import Output
from pilothouse.cli.promote import promote
from pilothouse.cli.proposals import commands as proposals
from pilothouse.cli.stale import list_stale
from pilothouse.cli.validate import validate

_WORDS = "Configurations, feature flags and the registry of a Pilothouse service."


def _app() -> typer.Typer:
    app = typer.Typer(
        name="pilothouse", help=_WORDS, no_args_is_help=True, pretty_exceptions_enable=False
    )
    group(app)
    group(targets.app)
    words = "The users that a flag names one by one."
    flags.app.add_typer(targets.app, name="targets", help=words, no_args_is_help=True)
    for name, words, branch in (
        ("config", "Configurations: read, write, compare, roll back.", config.app),
        ("flags", "Feature flags: define and evaluate.", flags.app),
        ("schema", "Schemas: what configurations have to be like.", schema.app),
        ("template", "Templates: keys that many documents have in common.", template.app),
        ("webhook", "Webhooks: changes sent to receivers over HTTP.", webhook.app),
        ("policy", "Policies: which changes need a proposal.", policy.app),
        ("proposal", "Proposals: changes that others approve first.", proposals.app),
        ("release", "Releases: changes that a few instances have first.", release.app),
        ("services", "The registry: list, register and remove instances.", services.app),
        ("changes", "The change log.", changes.app),
        ("token", "Tokens of machines and people.", access.tokens),
    ):
        group(branch)
        app.add_typer(branch, name=name, help=words, no_args_is_help=True)
    command(flags.app, "stale")(list_stale)
    command(app)(validate)
    command(app, "export-all")(export_all)
    command(app)(apply)
    command(app)(promote)
    command(app, "readers")(release.list_readers)
    access.add_to(app)
    return app


app = _app()
_command = get_command(app)  # once: it takes longer than most commands


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit code; never raises for errors of users."""
    if list(words) == ["--version"]:
        sys.stdout.write(f"pilothouse {version('pilothouse-client')}\n")
        return ExitCode.OK
    try:
        ended = _command.main(list(words), prog_name="pilothouse", standalone_mode=False)
        code = int(ended or 0)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = ExitCode.PIPE_CLOSED
    except OSError as error:  # a disk that is full, a home that may not be written to
        place = error.filename or "standard output"
        sentence = f"{place} cannot be written: {error.strerror}"
        _drop_output()
        return _report_failure(
            failure("file", sentence, ExitCode.FAILED), as_json="--json" in words
        )
    except Exception as error:
        # Typer moved its error classes between modules; this method stayed.
        if not hasattr(error, "format_message"):
            raise
        return _report_usage_error(error.format_message(), as_json="--json" in words)
    if code == ExitCode.PIPE_CLOSED:
        _drop_output()
    return code


def _drop_output() -> None:
    """Drop the buffered output, which would fail again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_usage_error(sentence: str, *, as_json: bool) -> int:
    return _report_failure(usage(sentence[:1].lower() + sentence[1:].rstrip(".")), as_json=as_json)


def _report_failure(error: Failure, *, as_json: bool) -> int:
    Output(as_json=as_json).print_failure(error)
    return error.exit_code
