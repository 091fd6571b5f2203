"""Command line: `python -m app serve | migrate | openapi | token | audit`."""

import argparse
import asyncio
import json
import signal
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

from pydantic import ValidationError

from app.commands import audit, tokens
from app.commands.settings import load_command_settings
from app.garbage_collection import CollectionLimiter
from app.main import create_app
from app.postgres.engine import FAILURES
from app.postgres.failures import explain_failure
from app.postgres.migration import migrate
from app.production_checks import StartRefused
from app.redaction import Redactor
from app.server import Server, bind_sockets, local_url
from app.settings import explain_flaws, load_settings

_FAILED = 1
_REFUSED = 2
_GREETING = """\
Pilothouse serves at {url} (try /docs); stop it with Ctrl-C. From another terminal:
  curl -X POST {url}/api/v1/config -d '{{"key":"database.host","value":"db1"}}'"""


def serve(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # of a terminal that is closed; see Server
    stated = {"host": arguments.host, "port": arguments.port}
    settings = load_settings({name: value for name, value in stated.items() if value is not None})
    app = create_app(settings)
    sockets = bind_sockets(settings)

    def greet() -> None:
        if settings.log_format == "text":  # for people; what reads JSON has the line `serving`
            print(_GREETING.format(url=local_url(settings)), flush=True)

    server = Server(app, settings, greet)
    CollectionLimiter().start()
    try:
        server.run(sockets)
    except SystemExit:  # uvicorn's, when the application does not start; the reason is logged
        return _FAILED if getattr(app.state, "refused", None) is None else _REFUSED
    return 0 if server.started else _FAILED


def migrate_database(_: argparse.Namespace) -> int:
    url = load_command_settings().database_url
    if url is None:
        print("DATABASE_URL is not set: there is nothing to migrate", file=sys.stderr)
        return _REFUSED
    try:
        asyncio.run(migrate(url.get_secret_value()))
    except FAILURES as error:
        print(
            f"the database could not be brought up to date: {explain_failure(error)}",
            file=sys.stderr,
        )
        return 1
    return 0


def print_openapi(_: argparse.Namespace) -> int:
    print(json.dumps(create_app().openapi(), indent=2, sort_keys=True, ensure_ascii=False))
    return 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app")
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve", help="serve the API")
    serving.add_argument("--host", help="address to listen on, instead of HOST")
    serving.add_argument("--port", help="port to listen on, instead of PORT")
    serving.set_defaults(run=serve)
    commands.add_parser("migrate", help="bring the database up to date").set_defaults(
        run=migrate_database
    )
    commands.add_parser("openapi", help="print the OpenAPI document").set_defaults(
        run=print_openapi
    )
    tokens.add_commands(commands)
    audit.add_commands(commands)
    arguments = parser.parse_args(words)
    sys.excepthook = _print_crash
    try:
        return int(arguments.run(arguments))
    except StartRefused as refused:
        for reason in refused.reasons:
            print(f"refused to start: {reason}", file=sys.stderr)
    except ValidationError as invalid:
        for flaw in explain_flaws(invalid):
            print(f"refused to start: {flaw}", file=sys.stderr)
    return _REFUSED


def _print_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    story = "".join(traceback.format_exception(kind, error, trace))
    print(Redactor().redact(story), end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
