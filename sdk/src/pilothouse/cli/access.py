"""Commands `pilothouse login`, `token` and `audit`."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.api import Api, segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.exit_codes import ExitCode, Failure, failure, usage
from pilothouse.cli.output import moment
from pilothouse.cli.profiles import DEFAULT_PROFILE, Profile, config_file, read_profile, store
from pilothouse.cli.values import STDIN, read_argument

tokens = typer.Typer()

_TOKENS = "/api/v1/tokens"
_AUDIT = "/api/v1/audit"
_AUDIT_COLUMNS = ("seq", "at", "actor", "action", "kind", "environment", "name", "source")
_ANY = ["*"]


def add_to(app: typer.Typer) -> None:
    """Register the commands that belong to no group."""
    command(app)(login)
    command(app)(audit)


def login(session: Session) -> None:
    """Save URL and token in the profile (--profile), once the service has accepted them.

    Prompts for the token, or reads it from standard input with `--token -`; --service and
    --environment are saved as well.
    """
    options = session.options
    name = options.profile or DEFAULT_PROFILE
    before = _before(name)
    url = options.url or session_url(session, before)
    token = read_argument(options.token, name="TOKEN", is_secret=True).strip()
    if not token:
        raise usage("the token is empty")
    proxy = options.proxy or before.proxy
    _check(url, token, proxy or os.environ.get("PILOTHOUSE_PROXY") or None)
    kept = Profile(
        url=url,
        token=token,
        service=options.service or before.service,
        environment=options.environment or before.environment,
        proxy=proxy,
    )
    try:
        file = store(name, kept)
    except OSError as error:
        sentence = f"{config_file()} cannot be written: {error.strerror}"
        raise failure("file", sentence, ExitCode.FAILED) from None
    if session.output.as_json:
        session.output.document({"profile": name, "url": url, "file": str(file)})
    session.output.say(f"{url} accepted the token; it is saved in {file} as profile {name}")


def _before(name: str) -> Profile:
    try:
        return read_profile(name)
    except Failure:
        return Profile()  # the profile is created now


def session_url(session: Session, before: Profile) -> str:
    return before.url or str(session.profile.url)


def _check(url: str, token: str, proxy: str | None) -> None:
    """Raise Failure unless the service knows the token, whatever rights it has."""
    api = Api(url, token, proxy)
    try:
        api.get("/api/v1/feature-flags", limit=1)
    except Failure as refused:
        if refused.problem.get("status") != 403:  # noqa: PLR2004 - a valid token without this right
            raise
    finally:
        api.close()


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment_ = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise typer.BadParameter("not an RFC 3339 time such as 2027-01-31T12:00:00Z") from None
    if moment_.tzinfo is None:
        raise typer.BadParameter("a time needs its zone, such as Z")
    return text


@command(tokens)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="The name of the token's owner.", metavar="NAME")],
    *,
    token_class: Annotated[
        Literal["service", "client", "operator", "admin"], typer.Option("--class")
    ],
    environments: Annotated[
        list[str] | None, typer.Option("--environments", help="A pattern. Repeatable.")
    ] = None,
    services: Annotated[
        list[str] | None, typer.Option("--services", help="A pattern. Repeatable.")
    ] = None,
    roles: Annotated[list[str] | None, typer.Option("--role", help="A role. Repeatable.")] = None,
    expires_at: Annotated[
        str | None,
        typer.Option("--expires-at", help="An RFC 3339 time.", callback=_time),
    ] = None,
) -> None:
    """Create a token. It is printed once, and cannot be shown again.

    Without --environments and --services: those of --environment and --service, else all.
    """
    options = session.options
    body: dict[str, Any] = {
        "name": name,
        "class": token_class,
        "environments": environments or ([options.environment] if options.environment else _ANY),
        "services": services or ([options.service] if options.service else _ANY),
    }
    body |= {"roles": roles} if roles else {}
    body |= {"expires_at": expires_at} if expires_at else {}
    made = session.api.send("POST", _TOKENS, json=body).object()
    if session.output.as_json:
        return session.output.document(made)
    session.output.note(f"token {made['id']}; it is shown only once:")
    session.output.raw(f"{made['token']}\n")
    return None


@command(tokens, "list")
def list_(session: Session) -> None:
    """List tokens, without their secret texts."""
    page = session.api.page(_TOKENS)
    if session.output.as_json:
        return session.output.document(page)
    columns = ("id", "name", "class", "state", "environments", "services", "expires", "last used")
    rows = [
        (
            item["id"],
            item["name"],
            item["class"],
            item["state"],
            ", ".join(item["environments"]),
            ", ".join(item["services"]),
            moment(item["expires_at"]),
            moment(item["last_used_at"]),
        )
        for item in page["items"]
    ]
    session.output.table(columns, rows, ("cyan",))
    return None


@command(tokens)
def revoke(
    session: Session,
    token_id: Annotated[str, typer.Argument(help="The token's id.", metavar="ID")],
) -> None:
    """Revoke a token; requests with it are refused within a second."""
    path = f"{_TOKENS}/{segment(token_id)}"
    session.api.send("DELETE", path)
    if session.output.as_json:
        session.output.document(session.api.get(path).object())
    session.output.say(f"{token_id} is revoked")


def audit(
    session: Session,
    *,
    actor: Annotated[str | None, typer.Option(help="Only of this actor.")] = None,
    action: Annotated[str | None, typer.Option(help="Only created, revealed, ...")] = None,
    kind: Annotated[str | None, typer.Option(help="Only config, flag, token, ...")] = None,
    name: Annotated[str | None, typer.Option(help="Only this service, flag, ...")] = None,
    since: Annotated[int | None, typer.Option(min=0, help="Only rows after this number.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Only at this RFC 3339 time and later.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Only before this time.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most this many rows.")
    ] = 100,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write all rows as JSON lines to this file, or to `-`."),
    ] = None,
) -> None:
    """Show who did what, oldest first: every write, reveal and denial."""
    query = {
        "actor": actor,
        "action": action,
        "kind": kind,
        "name": name or session.options.service,
        "environment": session.options.environment,
        "since_seq": since,
        "from": from_,
        "to": to,
    }
    if export is not None:
        return _export(session, export, query)
    page = session.api.page(_AUDIT, limit, **query)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        [moment(item[column]) if column == "at" else item.get(column) for column in _AUDIT_COLUMNS]
        for item in page["items"]
    ]
    session.output.table(_AUDIT_COLUMNS, rows)
    return None


def _export(session: Session, path: Path, query: dict[str, Any]) -> None:
    if str(path) == STDIN:
        for item in session.api.items(_AUDIT, **query):
            session.output.line(item)
        return
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for item in session.api.items(_AUDIT, **query):
                file.write(json.dumps(item, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        sentence = f"{path} cannot be written: {error.strerror}"
        raise failure("file", sentence, ExitCode.FAILED) from None
    if session.output.as_json:
        session.output.document({"file": str(path), "rows": count})
    session.output.say(f"{count} rows are in {path}")
