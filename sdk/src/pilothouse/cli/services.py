"""pilothouse services: the registry."""

import time
from typing import Annotated, Any

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.exits import ExitCode, Failure
from pilothouse.cli.output import moment
from pilothouse.cli.values import pairs

app = typer.Typer()

_REGISTRY = "/api/v1/registry"
_BEATS_PER_LEASE = 3
Service = Annotated[str, typer.Argument(help="The service.", metavar="SERVICE")]


@command(app, "list")
def list_(session: Session) -> None:
    """List services with the number of their instances."""
    found = session.api.page(f"{_REGISTRY}/services")
    if session.output.as_json:
        return session.output.document(found)
    rows = [(item["service_name"], item["instances"], item["up"]) for item in found["items"]]
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
        bool, typer.Option("--all", help="Whatever their state, not only those to be used.")
    ] = False,
) -> None:
    """List the instances of a service that can be used."""
    query: dict[str, Any] = {} if every else {"zone": zone, "tag": tag, "version": version}
    path = "services" if every else "discover"
    found = session.api.get(f"{_REGISTRY}/{path}/{segment(service_name)}", **query).object()
    if session.output.as_json:
        return session.output.document(found)
    columns = ("instance_id", "service_url", "status", "version", "zone", "weight")
    rows = [[item[column] for column in columns] for item in found["items"]]
    session.output.table(("instance", "url", *columns[2:]), rows, ("cyan",))
    if found["stale"]:
        session.output.note("a server behind the registry is away: this is the last known state")
    return None


@command(app)
def register(
    session: Session,
    service_name: Service,
    service_url: Annotated[str, typer.Argument(help="Where the instance is.", metavar="URL")],
    *,
    instance_id: Annotated[
        str | None, typer.Option("--id", help="Default: a digest of service and URL.")
    ] = None,
    health_check_url: Annotated[
        str | None, typer.Option("--health-check-url", help="Probed instead of heartbeats.")
    ] = None,
    ttl: Annotated[int | None, typer.Option("--ttl", help="Seconds a heartbeat counts.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May stand often.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="NAME=VALUE; may stand often.")
    ] = None,
    weight: Annotated[int | None, typer.Option(help="0 to 1000.")] = None,
    zone: Annotated[str | None, typer.Option()] = None,
    version: Annotated[str | None, typer.Option()] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Send heartbeats until Ctrl-C, then deregister.")
    ] = False,
) -> None:
    """Register an instance; without --keep or a health check its lease runs out."""
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
    found = session.api.send("POST", f"{_REGISTRY}/register", json=body).object()
    if session.output.as_json:
        session.output.line(found) if keep else session.output.document(found)
    else:
        session.output.say(f"{service_name} {found['instance_id']} is registered")
    if keep:
        _keep(session, found, body)


def _keep(session: Session, found: dict[str, Any], body: dict[str, Any]) -> None:
    leaving = {
        "service_name": found["service_name"],
        "instance_id": found["instance_id"],
    }
    try:
        while True:
            lease = found["lease"]
            time.sleep((lease["ttl_seconds"] or 30) / _BEATS_PER_LEASE)
            if lease["heartbeat_url"]:
                found = _beat(session, found, body)
    finally:
        session.api.send(
            "POST", f"{_REGISTRY}/deregister", json={**leaving, "epoch": found["epoch"]}
        )


def _beat(session: Session, found: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Send a heartbeat; whoever is no longer registered registers again."""
    try:
        url = found["lease"]["heartbeat_url"]
        return session.api.send("PUT", url, json={"epoch": found["epoch"]}).object()
    except Failure as refused:
        if refused.exit_code == ExitCode.UNAVAILABLE:
            session.output.lost(refused)
            return found
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
    """Take an instance out of discovery, and soon out of the registry."""
    path = f"{_REGISTRY}/services/{segment(service_name)}/instances/{segment(instance)}/drain"
    found = session.api.send("POST", path, json={"grace_seconds": grace}).object()
    if session.output.as_json:
        return session.output.document(found)
    session.output.say(
        f"{service_name} {instance} drains, and is gone at {moment(found['removed_at'])}"
    )
    return None
