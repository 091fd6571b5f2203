"""Discovery: who is there, and where to go."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.access.caller import Calling
from app.access.model import Right
from app.changes.revisions import REVISION_HEADER, Following, hold, reaches_revision, reflected
from app.registry.answers import discovery_answer, shown, target, url_answer
from app.registry.balancing import Strategy
from app.registry.errors import RegistryInDoubt
from app.registry.router import REGISTRY, Registry, ServiceName
from app.registry.schemas import (
    CheckedOut,
    DiscoveredOut,
    InstanceOut,
    ResultOut,
    ServiceOut,
    ServicesOut,
    ServiceSummary,
    TargetsOut,
    UrlOut,
)
from app.registry.service import RegistryService
from app.web.bodies import StrictRoute
from app.web.conditional import Known, etag, matches, not_modified
from app.web.freshness import Fresh, Freshness, carried, marked_when_stale
from app.web.openapi import READ, TAGGED, UNCHANGED
from app.web.paging import Cursor, Limit, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.waiting import Wait

router = APIRouter(
    prefix=REGISTRY,
    tags=["registry"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)
_Zone = Annotated[str | None, Query(description="Only, or first, instances of this zone.")]


def _is_stale(registry: RegistryService, fresh: Freshness) -> bool:
    return registry.is_stale or fresh.stale_seconds() is not None


async def _say_revision(response: Response, registry: RegistryService, follower: Following) -> None:
    revision = await reflected(follower, lambda: registry.view.revision)
    response.headers[REVISION_HEADER] = str(revision)


@router.get("/services", responses=READ, summary="List services")
async def list_services(
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    caller: Calling,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ServicesOut:
    caller.demand(Right.DISCOVER)
    await _say_revision(response, registry, follower)
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [name for name in registry.view.services if name > after]
    items = []
    for name in rest[:limit]:
        service = registry.view.service(name)
        up = sum(seen.status == "up" for seen in service.seen)
        items.append(ServiceSummary(service_name=name, instances=len(service.seen), up=up))
    more = encode_cursor(rest[limit - 1]) if len(rest) > limit else None
    return ServicesOut(items=items, stale=_is_stale(registry, fresh), next=more)


@router.get(
    "/services/{service}",
    responses=READ,
    summary="All instances of a service, whatever their state",
)
async def get_service(
    service: ServiceName,
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    caller: Calling,
) -> ServiceOut:
    caller.demand(Right.DISCOVER)
    await _say_revision(response, registry, follower)
    items = []
    for seen in registry.service(service).seen:
        key = (seen.service, seen.id)
        row = registry.view.row(*key)
        heard = row.heartbeat_at if row is not None and row.lease == "heartbeat" else None
        items.append(InstanceOut.model_validate(shown(seen, heard, registry.checker.last.get(key))))
    return ServiceOut(
        service_name=service,
        items=items,
        stale=_is_stale(registry, fresh),
        protected=registry.view.protection.covers(service),
    )


@router.get(
    "/services/{service}/url",
    response_model=UrlOut,
    responses=READ,
    summary="One instance, by a strategy of balancing",
)
async def get_url(
    service: ServiceName,
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    caller: Calling,
    strategy: Strategy = "round_robin",
    key: Annotated[
        str | None, Query(description="`hash`: the same key goes to the same instance.")
    ] = None,
    zone: _Zone = None,
) -> Response:
    caller.demand(Right.DISCOVER)
    await _say_revision(response, registry, follower)
    choice = registry.choose(service, strategy, zone, key)
    body = url_answer(
        choice,
        strategy,
        stale=_is_stale(registry, fresh),
        protected=registry.view.protection.covers(service),
    )
    return Response(body, headers=carried(response), media_type="application/json")


@router.post("/services/{service}/health", summary="Check all instances of a service now")
async def check_service(service: ServiceName, registry: Registry, caller: Calling) -> CheckedOut:
    """Each with a `health_check_url` by one probe of at most 2 s; the others as they are known."""
    caller.demand(Right.REGISTER, service=service)
    results = [
        ResultOut(
            instance_id=seen.id,
            healthy=probe.is_healthy,
            reason=probe.reason,
            milliseconds=round(probe.seconds * 1000, 1),
            status=seen.status,
        )
        for seen, probe in await registry.check(service)
    ]
    return CheckedOut(service_name=service, results=results)


@router.get(
    "/discover/{service}",
    response_model=DiscoveredOut,
    responses=TAGGED | UNCHANGED,
    summary="The instances of a service that can be used",
)
async def discover(
    service: ServiceName,
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    caller: Calling,
    zone: _Zone = None,
    tag: Annotated[str | None, Query(description="Only instances with this tag.")] = None,
    version: Annotated[str | None, Query(description="Only instances of this version.")] = None,
) -> Any:
    caller.demand(Right.DISCOVER)

    def answer() -> tuple[bytes, str]:
        return discovery_answer(
            registry.service(service),
            zone,
            tag,
            version,
            stale=_is_stale(registry, fresh),
            protected=registry.view.protection.covers(service),
        )

    await hold(lambda: answer()[1], known, wait, registry.view, fresh, caller.stay)
    await _say_revision(response, registry, follower)
    body, digest = answer()
    headers = {**carried(response), "ETag": etag(digest)}
    if matches(known, headers["ETag"]):
        return not_modified(headers["ETag"], carried(response))
    return Response(body, headers=headers, media_type="application/json")


@router.get("/prometheus", summary="Targets for Prometheus' HTTP service discovery")
async def prometheus(registry: Registry, fresh: Fresh, caller: Calling) -> list[TargetsOut]:
    """All registered instances; 500 when in doubt, and Prometheus keeps the targets it has."""
    caller.demand(Right.DISCOVER)
    if _is_stale(registry, fresh):
        raise RegistryInDoubt("a server behind the registry is away: the list may lack somebody")
    return [
        TargetsOut.model_validate(target(seen))
        for name in registry.view.services
        for seen in registry.view.service(name).seen
    ]
