"""`python -m app token create | list | revoke`: manages tokens in the store itself."""

import argparse
import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final, get_args

import structlog

from app.access.errors import BadToken, TokenNotFound
from app.access.identity import COMMAND
from app.access.model import Role
from app.access.tokens.creation import TokenRequest, create_token
from app.access.tokens.model import CLASSES, Token
from app.access.tokens.port import ChangeOrigin, TokenStore
from app.commands.settings import load_command_settings
from app.errors import Unavailable
from app.wiring import open_token_store

_EVENT: Final = ChangeOrigin(COMMAND.name, "")
_PAGE: Final = 1000
_DURATION: Final = re.compile(r"([1-9][0-9]{0,4})([mhdw])", re.ASCII)
_UNITS: Final = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_HEAD: Final = (
    "ID",
    "CLASS",
    "STATE",
    "NAME",
    "ENVIRONMENTS",
    "SERVICES",
    "ROLES",
    "EXPIRES",
    "LAST USED",
)

TokenAction = Callable[[TokenStore, bytes, argparse.Namespace], Awaitable[None]]


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `token` to the commands of a parser."""
    parser = commands.add_parser("token", help="create, list and revoke tokens")
    acts = parser.add_subparsers(required=True)
    creating = acts.add_parser("create", help="create a token and print it, once")
    creating.add_argument("--class", dest="token_class", choices=CLASSES, required=True)
    creating.add_argument(
        "--name", help="the actor of its changes is `token:NAME`; default: CLASS-token"
    )
    for member in ("environment", "service"):
        creating.add_argument(
            f"--{member}",
            dest=f"{member}s",
            metavar="PATTERN",
            action="append",
            help="repeatable; default: all",
        )
    creating.add_argument(
        "--role", dest="roles", action="append", choices=get_args(Role), help="repeatable"
    )
    creating.add_argument(
        "--expires-in", type=_parse_duration, metavar="90d", help="minutes, hours, days or weeks"
    )
    creating.set_defaults(run=lambda arguments: _run_with_store(_create_token, arguments))
    acts.add_parser("list", help="list tokens, without their secrets").set_defaults(
        run=lambda arguments: _run_with_store(_list_tokens, arguments)
    )
    revoking = acts.add_parser("revoke", help="revoke a token permanently")
    revoking.add_argument("id")
    revoking.set_defaults(run=lambda arguments: _run_with_store(_revoke_token, arguments))


def _parse_duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("not a duration such as 30m, 12h, 90d or 4w")
    return int(match[1]) * _UNITS[match[2]]


def _run_with_store(act: TokenAction, arguments: argparse.Namespace) -> int:
    # Standard output may be a token, and must have nothing else.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))

    async def run() -> None:
        async with open_token_store(load_command_settings()) as (store, key):
            await act(store, key, arguments)

    try:
        asyncio.run(run())
    except (BadToken, TokenNotFound, Unavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _create_token(store: TokenStore, key: bytes, arguments: argparse.Namespace) -> None:
    now = datetime.now(UTC)
    wanted = TokenRequest(
        name=arguments.name or f"{arguments.token_class}-token",
        token_class=arguments.token_class,
        environments=arguments.environments or ["*"],
        services=arguments.services or ["*"],
        roles=arguments.roles or [],
        expires_at=None if arguments.expires_in is None else now + arguments.expires_in,
    )
    token, text = create_token(wanted, key, COMMAND, now)
    await store.create(token, _EVENT)
    print(text)
    print(f"token {token.id} is created; it is shown only once", file=sys.stderr)


async def _list_tokens(store: TokenStore, _: bytes, __: argparse.Namespace) -> None:
    print("\t".join(_HEAD))
    after = None
    while page := await store.page(after, _PAGE):
        for token in page:
            print("\t".join(_token_columns(token)))
        after = page[-1].created_at, page[-1].id


def _token_columns(token: Token) -> tuple[str, ...]:
    return (
        token.id,
        token.token_class,
        token.state(time()),
        token.name,
        ",".join(token.environments),
        ",".join(token.services),
        ",".join(token.roles) or "-",
        _format_time(token.expires_at),
        _format_time(token.last_used_at),
    )


def _format_time(at: datetime | None) -> str:
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _revoke_token(store: TokenStore, _: bytes, arguments: argparse.Namespace) -> None:
    await store.revoke(arguments.id, _EVENT)
    print(f"token {arguments.id} is revoked", file=sys.stderr)
