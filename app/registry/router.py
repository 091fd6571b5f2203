"""Registration: instances come, say that they live, and go."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Response

from app.access.caller import Calling
from app.access.model import Caller, Right
from app.changes.revisions import REVISION_HEADER
from app.registry.errors import BadInstance
from app.registry.rows import Row
from app.registry.schemas import (
    DeregisteredOut,
    DeregisterIn,
    DrainedOut,
    DrainIn,
    HeartbeatIn,
    LeaseOut,
    RegisteredOut,
    RegisterIn,
)
from app.registry.service import RegistryService, Requester
from app.web.bodies import StrictRoute
from app.web.openapi import NAME, carrying
from app.web.problem import PROBLEMS
from app.web.state import from_state

REGISTRY = "/api/v1/registry"
Registry = Annotated[RegistryService, from_state("registry")]
ServiceName = Annotated[str, Path(json_schema_extra=NAME)]
InstanceId = Annotated[str, Path(json_schema_extra=NAME)]

router = APIRouter(prefix=REGISTRY, tags=["registry"], route_class=StrictRoute, responses=PROBLEMS)
_LOGGED = carrying("X-Revision")


def _requester(caller: Caller) -> Requester:
    return Requester(caller.actor(), caller.request_id, caller.source or None)


def _lease(row: Row) -> LeaseOut:
    if row.lease == "probe":
        return LeaseOut(kind="probe", ttl_seconds=None, heartbeat_url=None)
    url = f"{REGISTRY}/services/{row.service}/instances/{row.instance_id}/heartbeat"
    return LeaseOut(kind="heartbeat", ttl_seconds=int(row.ttl_seconds), heartbeat_url=url)


def _registered(row: Row) -> RegisteredOut:
    return RegisteredOut(
        service_name=row.service,
        instance_id=row.instance_id,
        epoch=row.epoch,
        lease=_lease(row),
    )


@router.post(
    "/register",
    status_code=201,
    responses=carrying("X-Revision", status=201) | _LOGGED,
    summary="Register an instance",
)
async def register(
    body: RegisterIn, response: Response, registry: Registry, caller: Calling
) -> RegisteredOut:
    """An id that is registered already is replaced (200): its registration begins a new epoch."""
    caller.demand(Right.REGISTER, service=body.service_name)
    registered = await registry.register(body.members(), _requester(caller))
    response.status_code = 201 if registered.created else 200
    response.headers[REVISION_HEADER] = str(registered.row.revision)
    return _registered(registered.row)


@router.post("/deregister", responses=_LOGGED, summary="Take an instance out")
async def deregister(
    body: DeregisterIn, response: Response, registry: Registry, caller: Calling
) -> DeregisteredOut:
    caller.demand(Right.REGISTER, service=body.service_name)
    instance_id = body.instance_id
    if instance_id is None:
        if body.service_url is None:
            raise BadInstance("/instance_id", "is missing, and so is service_url", "missing")
        instance_id = registry.id_of(body.service_name, body.service_url)
    row = await registry.deregister(body.service_name, instance_id, body.epoch, _requester(caller))
    response.headers[REVISION_HEADER] = str(row.revision)
    return DeregisteredOut(service_name=row.service, instance_id=row.instance_id)


@router.put(
    "/services/{service}/instances/{instance_id}/heartbeat", summary="Say that an instance lives"
)
async def heartbeat(
    service: ServiceName,
    instance_id: InstanceId,
    registry: Registry,
    caller: Calling,
    body: Annotated[HeartbeatIn | None, Body()] = None,
) -> RegisteredOut:
    """404: it is not registered (any more), and has to register again."""
    caller.demand(Right.REGISTER, service=service)
    epoch = None if body is None else body.epoch
    return _registered(await registry.heartbeat(service, instance_id, epoch))


@router.post(
    "/services/{service}/instances/{instance_id}/drain",
    responses=_LOGGED,
    summary="Take an instance out of discovery, and soon out of the registry",
)
async def drain(
    service: ServiceName,
    instance_id: InstanceId,
    response: Response,
    registry: Registry,
    caller: Calling,
    body: Annotated[DrainIn | None, Body()] = None,
) -> DrainedOut:
    caller.demand(Right.REGISTER, service=service)
    asked = body or DrainIn()
    row = await registry.drain(
        service, instance_id, asked.epoch, asked.grace_seconds, _requester(caller)
    )
    assert row.draining_until is not None
    response.headers[REVISION_HEADER] = str(row.revision)
    return DrainedOut(
        service_name=row.service, instance_id=row.instance_id, removed_at=row.draining_until
    )
