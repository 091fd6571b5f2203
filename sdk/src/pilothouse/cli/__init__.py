"""The command line `pilothouse`; needs the extra `cli`."""

import sys


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        # Imports take most of the time of a short command, and Ctrl-C must be quiet then, too.
        from pilothouse.cli.runner import run  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.stderr.write("pilothouse: this needs `pip install 'pilothouse-client[cli]'`\n")
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))
