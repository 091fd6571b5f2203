"""`python -m app token create | list | revoke`: tokens by whoever holds the store itself."""

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
from app.access.minting import Wanted, made
from app.access.model import Role
from app.access.port import Event, TokenStore
from app.access.tokens import CLASSES, Token
from app.errors import Unavailable
from app.settings import Settings
from app.wiring import open_tokens

ACTOR: Final = "command"
_EVENT: Final = Event(ACTOR, "")
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

Act = Callable[[TokenStore, bytes, argparse.Namespace], Awaitable[None]]


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `token` to the commands of a parser."""
    parser = commands.add_parser("token", help="make, list and revoke tokens")
    acts = parser.add_subparsers(required=True)
    creating = acts.add_parser("create", help="make a token and print it, once")
    creating.add_argument("--class", dest="token_class", choices=CLASSES, required=True)
    creating.add_argument("--name", help="its changes are `token:NAME`'s; default: its class")
    for member in ("environment", "service"):
        creating.add_argument(
            f"--{member}",
            dest=f"{member}s",
            metavar="PATTERN",
            action="append",
            help="may be repeated; without it, all",
        )
    creating.add_argument(
        "--role", dest="roles", action="append", choices=get_args(Role), help="may be repeated"
    )
    creating.add_argument(
        "--expires-in", type=_duration, metavar="90d", help="minutes, hours, days or weeks"
    )
    creating.set_defaults(run=lambda arguments: _run(_create, arguments))
    acts.add_parser("list", help="list tokens, without their secrets").set_defaults(
        run=lambda arguments: _run(_list, arguments)
    )
    revoking = acts.add_parser("revoke", help="make a token invalid for good")
    revoking.add_argument("id")
    revoking.set_defaults(run=lambda arguments: _run(_revoke, arguments))


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("not a duration such as 30m, 12h, 90d or 4w")
    return int(found[1]) * _UNITS[found[2]]


def _run(act: Act, arguments: argparse.Namespace) -> int:
    # What is printed may be a token: nothing else may stand beside it.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))

    async def acting() -> None:
        async with open_tokens(Settings()) as (store, key):
            await act(store, key, arguments)

    try:
        asyncio.run(acting())
    except (BadToken, TokenNotFound, Unavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _create(store: TokenStore, key: bytes, arguments: argparse.Namespace) -> None:
    now = datetime.now(UTC)
    wanted = Wanted(
        name=arguments.name or arguments.token_class,
        token_class=arguments.token_class,
        environments=arguments.environments or ["*"],
        services=arguments.services or ["*"],
        roles=arguments.roles or [],
        expires_at=None if arguments.expires_in is None else now + arguments.expires_in,
    )
    token, text = made(wanted, key, ACTOR, now)
    await store.create(token, _EVENT)
    print(text)
    print(f"token {token.id} is made; it is shown only now", file=sys.stderr)


async def _list(store: TokenStore, _: bytes, __: argparse.Namespace) -> None:
    print("\t".join(_HEAD))
    after = None
    while page := await store.page(after, _PAGE):
        for token in page:
            print("\t".join(_line(token)))
        after = page[-1].created_at, page[-1].id


def _line(token: Token) -> tuple[str, ...]:
    return (
        token.id,
        token.token_class,
        token.state(time()),
        token.name,
        ",".join(token.environments),
        ",".join(token.services),
        ",".join(token.roles) or "-",
        _moment(token.expires_at),
        _moment(token.last_used_at),
    )


def _moment(at: datetime | None) -> str:
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _revoke(store: TokenStore, _: bytes, arguments: argparse.Namespace) -> None:
    await store.revoke(arguments.id, _EVENT)
    print(f"token {arguments.id} is revoked", file=sys.stderr)
