"""Routes of registration: register, heartbeat, drain, deregister."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from starlette.convertors import StringConvertor, register_url_convertor

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.changes.revisions import REVISION_HEADER
from app.registry.api.schemas import (
    AddressWarningOut,
    DeregisteredOut,
    DeregisterIn,
    DrainedOut,
    DrainIn,
    HeartbeatIn,
    LeaseOut,
    RegisteredOut,
    RegisterIn,
    RegistrationOut,
    ReleasedOut,
)
from app.registry.environments import Requester
from app.registry.errors import BadInstance
from app.registry.model import InstanceRow
from app.registry.service import RESERVED_SUFFIXES, RegistryService
from app.web.bodies import StrictRoute
from app.web.openapi import INSTANCE_ID, NAME, with_headers
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

REGISTRY = "/api/v1/registry"
Registry = Annotated[RegistryService, from_state("registry")]
_NESTED = "Services registered directly in ZooKeeper may have a path: `team/orders`."
ServiceName = Annotated[str, Path(json_schema_extra=NAME)]
ServicePath = Annotated[str, Path(description=_NESTED, json_schema_extra=NAME)]
InstanceId = Annotated[str, Path(json_schema_extra=INSTANCE_ID)]


class _ServicePath(StringConvertor):
    """The name of a service, also with parts (`team/orders`), without reserved suffixes."""

    regex = rf"[^/]+(?:/(?!(?:{'|'.join(RESERVED_SUFFIXES)})(?:/|$))[^/]+)*"


register_url_convertor("service", _ServicePath())
router = APIRouter(prefix=REGISTRY, tags=["registry"], route_class=StrictRoute, responses=PROBLEMS)
_LOGGED = with_headers("X-Revision")


def requester_of(caller: Caller) -> Requester:
    return Requester(caller.actor(), caller.request_id, caller.source or None, caller)


def _lease(row: InstanceRow) -> LeaseOut:
    if row.lease == "probe":
        return LeaseOut(kind="probe", ttl_seconds=None, heartbeat_url=None)
    url = f"{REGISTRY}/services/{row.service}/instances/{row.instance_id}/heartbeat"
    return LeaseOut(kind="heartbeat", ttl_seconds=int(row.ttl_seconds), heartbeat_url=url)


def _registered_out(row: InstanceRow) -> RegisteredOut:
    return RegisteredOut(
        service_name=row.service,
        instance_id=row.instance_id,
        epoch=row.epoch,
        lease=_lease(row),
    )


@router.post(
    "/register",
    status_code=201,
    responses=with_headers("X-Revision", status=201) | _LOGGED,
    summary="Register an instance",
)
async def register(
    body: RegisterIn, response: Response, registry: Registry, caller: CurrentCaller
) -> RegistrationOut:
    """A registered id is replaced (200): its registration begins a new epoch.

    With `environment` in its metadata the instance belongs to that environment: registering,
    renewing, draining, removing or replacing it requires the right to register there.
    """
    caller.demand(Right.REGISTER, service=body.service_name)
    requester = requester_of(caller)
    registered = await registry.register(body.members(), requester)
    response.status_code = 201 if registered.created else 200
    response.headers[REVISION_HEADER] = str(registered.row.revision)
    return RegistrationOut(
        **dict(_registered_out(registered.row)),
        warnings=[
            AddressWarningOut(pointer="/service_url", code=warning.code, detail=warning.detail)
            for warning in registry.warnings(registered.row, requester)
        ],
    )


@router.post("/deregister", responses=_LOGGED, summary="Deregister an instance")
async def deregister(
    body: DeregisterIn, response: Response, registry: Registry, caller: CurrentCaller
) -> DeregisteredOut:
    caller.demand(Right.REGISTER, service=body.service_name)
    instance_id = body.instance_id
    if instance_id is None:
        if body.service_url is None:
            raise BadInstance("/instance_id", "is missing, and so is service_url", "missing")
        instance_id = registry.id_of(body.service_name, body.service_url)
    row = await registry.deregister(
        body.service_name, instance_id, body.epoch, requester_of(caller)
    )
    response.headers[REVISION_HEADER] = str(row.revision)
    return DeregisteredOut(service_name=row.service, instance_id=row.instance_id)


@router.put("/services/{service}/instances/{instance_id}/heartbeat", summary="Send a heartbeat")
async def heartbeat(
    service: ServiceName,
    instance_id: InstanceId,
    registry: Registry,
    caller: CurrentCaller,
    body: Annotated[HeartbeatIn | None, Body()] = None,
) -> RegisteredOut:
    """404: the instance is not registered, or no longer, and has to register again."""
    caller.demand(Right.REGISTER, service=service)
    epoch = None if body is None else body.epoch
    return _registered_out(
        await registry.heartbeat(service, instance_id, epoch, requester_of(caller))
    )


@router.post(
    "/services/{service}/instances/{instance_id}/drain",
    responses=_LOGGED,
    summary="Remove an instance from discovery now, and from the registry after a grace period",
)
async def drain(
    service: ServiceName,
    instance_id: InstanceId,
    response: Response,
    registry: Registry,
    caller: CurrentCaller,
    body: Annotated[DrainIn | None, Body()] = None,
) -> DrainedOut:
    caller.demand(Right.REGISTER, service=service)
    drain_in = body or DrainIn()
    row = await registry.drain(
        service, instance_id, drain_in.epoch, drain_in.grace_seconds, requester_of(caller)
    )
    assert row.draining_until is not None
    response.headers[REVISION_HEADER] = str(row.revision)
    return DrainedOut(
        service_name=row.service, instance_id=row.instance_id, removed_at=row.draining_until
    )


@router.post(
    "/services/{service}/release", summary="End the protection of the silent instances of a service"
)
async def release_service(
    service: ServiceName, registry: Registry, caller: CurrentCaller
) -> ReleasedOut:
    """Instances silent for two ttl are removed at once, the others when they are due.

    Requires the right to register the service in all environments.
    """
    caller.demand(Right.REGISTER, environment="*", service=service)
    released = await registry.release(service, requester_of(caller))
    return ReleasedOut(service_name=service, released=released)


@router.post("/release", summary="End the protection of all silent instances")
async def release_all(registry: Registry, caller: CurrentCaller) -> ReleasedOut:
    """As for one service. Requires the right to register all services in all environments."""
    caller.demand(Right.REGISTER, environment="*", service="*")
    released = await registry.release(None, requester_of(caller))
    return ReleasedOut(service_name=None, released=released)
