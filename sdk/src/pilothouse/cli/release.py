"""Commands `pilothouse release` and `pilothouse readers`: which instances have which version."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.output import moment

app = typer.Typer()

_RELEASES = "/api/v1/releases"
ReleaseId = Annotated[str, typer.Argument(help="The release's id.", metavar="ID")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")]


@command(app, "list")
def list_(
    session: Session,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(help="running, held, finishing, done or aborted; may be repeated."),
    ] = None,
    limit: Limit = 20,
) -> None:
    """List releases, the newest first."""
    page = session.api.page(_RELEASES, limit, state=state)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (item["id"], item["state"], _place(item), _progress(item), moment(item["started_at"]))
        for item in page["items"]
    ]
    session.output.table(("id", "state", "of", "who has it", "started"), rows, ("cyan",))
    return None


@command(app)
def show(session: Session, release_id: ReleaseId) -> None:
    """Show who has the change of a release, and what they report."""
    release = session.api.get(f"{_RELEASES}/{segment(release_id)}").object()
    if session.output.as_json:
        return session.output.document(release)
    return _print_release(session, release)


@command(app, "next")
def advance(session: Session, release_id: ReleaseId, *, comment: Comment = "") -> None:
    """Take the next step now; after the last one, the change is written for all."""
    _move(session, release_id, "next", comment)


@command(app)
def hold(session: Session, release_id: ReleaseId, *, comment: Comment = "") -> None:
    """Stay at the step until it is resumed; signals still take it back."""
    _move(session, release_id, "hold", comment)


@command(app)
def resume(session: Session, release_id: ReleaseId, *, comment: Comment = "") -> None:
    """Continue a release that is held; the time of its step begins again."""
    _move(session, release_id, "resume", comment)


@command(app)
def abort(session: Session, release_id: ReleaseId, *, comment: Comment = "") -> None:
    """Take the change back from every instance."""
    _move(session, release_id, "abort", comment)


def list_readers(session: Session, limit: Limit = 100) -> None:
    """List instances with the version that each has read last.

    Of `--service` and `--environment` only, where these are stated.
    """
    profile = session.profile
    page = session.api.page(
        "/api/v1/readers", limit, environment=profile.environment, service_name=profile.service
    )
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            f"{item['environment']}/{item['service_name']}",
            item["instance"],
            item["revision"],
            item["arm"],
            item["outcome"],
            moment(item["read_at"]),
        )
        for item in page["items"]
    ]
    session.output.table(("of", "instance", "revision", "arm", "outcome", "read"), rows, ("cyan",))
    return None


def _move(session: Session, release_id: str, action: str, comment: str) -> None:
    path = f"{_RELEASES}/{segment(release_id)}/{action}"
    release = session.api.send("POST", path, json={"comment": comment}).object()
    if session.output.as_json:
        return session.output.document(release)
    return _print_release(session, release)


def _print_release(session: Session, release: Mapping[str, Any]) -> None:
    reports = release["reports"]
    of = f"{release['id']} of {_place(release)}"
    session.output.say(f"{of} is {release['state']}: {_progress(release)}")
    if release["signal"]:
        session.output.say(f"taken back by: {release['signal']}")
    session.output.say(f"{reports['adopted']} adopted it, {reports['refused']} refused it")
    session.output.say(f"it changes {', '.join(release['keys'])}, as {release['proposal']} says")


def _place(release: Mapping[str, Any]) -> str:
    return f"{release['environment']}/{release['service_name'] or release['flag']}"


def _progress(release: Mapping[str, Any]) -> str:
    """Return who has the change."""
    steps = len(release["plan"]["steps"])
    step = "the bake" if release["step"] >= steps else f"step {release['step'] + 1} of {steps}"
    if release["state"] in {"done", "finishing"}:
        return "all instances"
    if release["state"] == "aborted":
        return "no instance"
    if release["share"] is None:
        return f"{len(release['instances'])} instances, {step}"
    return f"{release['share']:g} % of the instances, {step}"
