"""A command line from its words to its exit code."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import typer
from typer.main import get_command

from pilothouse.cli import access, changes, config, flags, services
from pilothouse.cli.commands import group
from pilothouse.cli.exits import ExitCode, Failure, failure, usage
from pilothouse.cli.output import Output

_WORDS = "Configurations, feature flags and the registry of a Pilothouse service."


def _app() -> typer.Typer:
    app = typer.Typer(
        name="pilothouse", help=_WORDS, no_args_is_help=True, pretty_exceptions_enable=False
    )
    group(app)
    for name, words, branch in (
        ("config", "Configurations: read, write, compare, roll back.", config.app),
        ("flags", "Feature flags: define and evaluate.", flags.app),
        ("services", "The registry: who is there.", services.app),
        ("changes", "The change log.", changes.app),
        ("token", "Tokens of machines and people.", access.tokens),
    ):
        group(branch)
        app.add_typer(branch, name=name, help=words, no_args_is_help=True)
    access.add_to(app)
    return app


app = _app()
_command = get_command(app)  # once: it takes longer than most commands


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit code; never raises for what users do."""
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
        _let_go_of_output()
        return _failed(failure("file", sentence, ExitCode.FAILED), as_json="--json" in words)
    except Exception as error:
        # Typer has moved its errors between modules; what they can tell has stayed.
        if not hasattr(error, "format_message"):
            raise
        return _refused(error.format_message(), as_json="--json" in words)
    if code == ExitCode.PIPE_CLOSED:
        _let_go_of_output()
    return code


def _let_go_of_output() -> None:
    """What is left in the buffer would fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(sentence: str, *, as_json: bool) -> int:
    return _failed(usage(sentence[:1].lower() + sentence[1:].rstrip(".")), as_json=as_json)


def _failed(told: Failure, *, as_json: bool) -> int:
    Output(as_json=as_json).failed(told)
    return told.exit_code
