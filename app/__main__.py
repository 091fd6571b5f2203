"""python -m app serve | migrate | openapi | import | token | audit: what an operator types."""

import argparse
import asyncio
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from app import audit_commands, token_commands
from app.database import FAILURES, migrate
from app.importing import import_folder
from app.main import create_app, release
from app.settings import Settings
from app.web.connection import Protocol
from app.wiring import StartRefused

_GRACE_SECONDS = 2
_REFUSED = 2


class _Server(uvicorn.Server):
    """uvicorn that tells the application about a signal before it stops accepting."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        release(self._app)
        super().handle_exit(sig, frame)


def serve(_: argparse.Namespace) -> int:
    settings = Settings()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        http=Protocol,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, app)
    # Code is never garbage: to look through all of it again holds every request for 0.1 s.
    gc.collect()
    gc.freeze()
    server.run()
    return 0 if server.started else 1


def migrate_database(_: argparse.Namespace) -> int:
    url = Settings().database_url
    if url is None:
        print("DATABASE_URL is not set: there is nothing to migrate", file=sys.stderr)
        return _REFUSED
    try:
        asyncio.run(migrate(url.get_secret_value()))
    except FAILURES as error:
        print(f"the database could not be brought up to date: {error}", file=sys.stderr)
        return 1
    return 0


def openapi(_: argparse.Namespace) -> int:
    print(json.dumps(create_app().openapi(), indent=2, sort_keys=True, ensure_ascii=False))
    return 0


def import_(arguments: argparse.Namespace) -> int:
    token = Settings().pilothouse_token
    return asyncio.run(
        import_folder(
            arguments.folder,
            arguments.url,
            token.get_secret_value() if token else None,
            dry_run=arguments.dry_run,
            out=sys.stdout,
        )
    )


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("serve", help="serve the API").set_defaults(run=serve)
    commands.add_parser("migrate", help="bring the database up to date").set_defaults(
        run=migrate_database
    )
    commands.add_parser("openapi", help="print the OpenAPI document").set_defaults(run=openapi)
    importing = commands.add_parser("import", help="import a folder of configuration files")
    importing.add_argument("folder", type=Path, metavar="DIR")
    importing.add_argument("--url", default="http://127.0.0.1:8082", help="the running service")
    importing.add_argument("--dry-run", action="store_true", help="only show what would change")
    importing.set_defaults(run=import_)
    token_commands.add_commands(commands)
    audit_commands.add_commands(commands)
    arguments = parser.parse_args(words)
    try:
        return int(arguments.run(arguments))
    except StartRefused as refused:
        for reason in refused.reasons:
            print(f"refused to start: {reason}", file=sys.stderr)
    except ValidationError as invalid:
        for flaw in invalid.errors(include_input=False, include_url=False):
            name = ".".join(map(str, flaw["loc"])).upper()
            print(f"refused to start: {name}: {flaw['msg']}", file=sys.stderr)
    return _REFUSED


if __name__ == "__main__":
    sys.exit(main())
