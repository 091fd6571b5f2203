"""Commands `pilothouse services`: the registry."""

from typing import Annotated, Any

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.exit_codes import ExitCode, Failure
from pilothouse.cli.output import moment
from pilothouse.cli.signals import Ending, noticing_signals
from pilothouse.cli.values import pairs

app = typer.Typer()

_REGISTRY = "/api/v1/registry"
_BEATS_PER_LEASE = 3
Service = Annotated[str, typer.Argument(help="The service.", metavar="SERVICE")]


@command(app, "list")
def list_(session: Session) -> None:
    """List services with the number of their instances."""
    page = session.api.page(f"{_REGISTRY}/services")
    if session.output.as_json:
        return session.output.document(page)
    rows = [(item["service_name"], item["instances"], item["up"]) for item in page["items"]]
    session.output.table(("service", "instances", "up"), rows, ("cyan",))
    return None


@command(app)
def discover(
    session: Session,
    service_name: Service,
    *,
    zone: Annotated[str | None, typer.Option(help="Only instances of this zone.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only instances with this tag.")] = None,
    version: Annotated[str | None, typer.Option(help="Only instances of this version.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All instances, whatever their state.")
    ] = False,
) -> None:
    """List the instances of a service that can be used.

    With --environment only those with this environment in their metadata.
    """
    # Not that of the profile: it would hide instances without an environment.
    environment = session.options.environment
    filters = {"zone": zone, "tag": tag, "version": version, "environment": environment}
    query: dict[str, Any] = {} if every else filters
    path = "services" if every else "discover"
    answer = session.api.get(f"{_REGISTRY}/{path}/{segment(service_name)}", **query).object()
    if session.output.as_json:
        return session.output.document(answer)
    columns = ("instance_id", "service_url", "status", "version", "zone", "weight")
    rows = [[item[column] for column in columns] for item in answer["items"]]
    session.output.table(("instance", "url", *columns[2:]), rows, ("cyan",))
    if answer["stale"]:
        session.output.note("a registry backend is unavailable: this is the last known state")
    if answer["protected"]:
        session.output.note(
            "unusually many instances fell silent at once, so they are kept for ten of their ttl;"
            f" if they are dead, run: pilothouse services release {service_name}"
        )
    return None


@command(app)
def register(
    session: Session,
    service_name: Service,
    service_url: Annotated[str, typer.Argument(help="The URL of the instance.", metavar="URL")],
    *,
    instance_id: Annotated[
        str | None, typer.Option("--id", help="Default: a digest of service and URL.")
    ] = None,
    health_check_url: Annotated[
        str | None,
        typer.Option("--health-check-url", help="Probed by the service, instead of heartbeats."),
    ] = None,
    ttl: Annotated[
        int | None, typer.Option("--ttl", help="How many seconds a heartbeat is valid.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag. Repeatable.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="NAME=VALUE. Repeatable.")
    ] = None,
    weight: Annotated[int | None, typer.Option(help="0 to 1000.")] = None,
    zone: Annotated[str | None, typer.Option()] = None,
    version: Annotated[str | None, typer.Option()] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Send heartbeats until Ctrl-C or SIGTERM, then deregister."),
    ] = False,
) -> None:
    """Register an instance; without --keep or a health check its lease expires."""
    stated = {
        "service_name": service_name,
        "service_url": service_url,
        "instance_id": instance_id,
        "health_check_url": health_check_url,
        "ttl_seconds": ttl,
        "tags": tag or None,
        "metadata": pairs(metadata or (), name="--metadata") or None,
        "weight": weight,
        "zone": zone,
        "version": version,
    }
    body = {name: value for name, value in stated.items() if value is not None}
    if keep:
        with noticing_signals() as ending:
            _keep(session, _register(session, body, keep=True), body, ending)
    else:
        _register(session, body, keep=False)


def _register(session: Session, body: dict[str, Any], *, keep: bool) -> dict[str, Any]:
    registration = session.api.send("POST", f"{_REGISTRY}/register", json=body).object()
    if not session.output.as_json:
        session.output.say(
            f"{registration['service_name']} {registration['instance_id']} is registered"
        )
    elif keep:
        session.output.line(registration)
    else:
        session.output.document(registration)
    return registration


def _keep(
    session: Session, registration: dict[str, Any], body: dict[str, Any], ending: Ending
) -> None:
    """Send heartbeats until a stop signal, then deregister."""
    leaving = {
        "service_name": registration["service_name"],
        "instance_id": registration["instance_id"],
    }
    try:
        while True:
            lease = registration["lease"]
            ending.pause((lease["ttl_seconds"] or 30) / _BEATS_PER_LEASE)
            if lease["heartbeat_url"]:
                registration = _beat(session, registration, body, ending)
    except KeyboardInterrupt:
        if ending.exit_code is None:  # Ctrl-C
            raise
        raise typer.Exit(ending.exit_code) from None
    finally:
        session.api.send(
            "POST", f"{_REGISTRY}/deregister", json={**leaving, "epoch": registration["epoch"]}
        )


def _beat(
    session: Session, registration: dict[str, Any], body: dict[str, Any], ending: Ending
) -> dict[str, Any]:
    """Send a heartbeat; register again if the registration is gone."""
    try:
        url = registration["lease"]["heartbeat_url"]
        with ending.interrupting(session.api.interrupt):
            return session.api.send("PUT", url, json={"epoch": registration["epoch"]}).object()
    except Failure as refused:
        if refused.exit_code == ExitCode.UNAVAILABLE:
            session.output.note_outage(refused)
            return registration
        if refused.exit_code != ExitCode.NOT_FOUND:
            raise
    return session.api.send("POST", f"{_REGISTRY}/register", json=body).object()


@command(app)
def drain(
    session: Session,
    service_name: Service,
    instance: Annotated[str, typer.Argument(help="The instance's id.", metavar="INSTANCE")],
    *,
    grace: Annotated[float, typer.Option(min=0, help="Seconds until it is removed.")] = 30,
) -> None:
    """Take an instance out of discovery, and later out of the registry."""
    path = f"{_REGISTRY}/services/{segment(service_name)}/instances/{segment(instance)}/drain"
    answer = session.api.send("POST", path, json={"grace_seconds": grace}).object()
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(
        f"{service_name} {instance} is drained, and is removed at {moment(answer['removed_at'])}"
    )
    return None


@command(app)
def release(
    session: Session,
    service_name: Annotated[
        str | None, typer.Argument(help="The service.", metavar="SERVICE", show_default=False)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Of every service.")] = False,
) -> None:
    """Release silent instances that self-preservation keeps."""
    if every is (service_name is not None):
        raise typer.BadParameter("name one service, or use --all")
    path = "release" if service_name is None else f"services/{segment(service_name)}/release"
    answer = session.api.send("POST", f"{_REGISTRY}/{path}").object()
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(
        f"{service_name or 'all services'}: {answer['released']} silent instances released"
    )
    return None
