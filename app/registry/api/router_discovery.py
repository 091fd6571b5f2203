"""Routes of discovery and load balancing."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    hold_until_changed,
    min_revision_dependency,
    wait_until_followed,
)
from app.registry.api.responses import (
    InstanceFilter,
    discovery_response,
    instance_members,
    prometheus_target,
    url_response,
)
from app.registry.api.router import REGISTRY, Registry, ServicePath, requester_of
from app.registry.api.schemas import (
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
from app.registry.balancing import Strategy
from app.registry.errors import BadInstanceEnvironment, RegistryInDoubt
from app.registry.service import RegistryService
from app.registry.view import InstanceView
from app.web.bodies import StrictRoute
from app.web.conditional import IfNoneMatch, etag, matches, not_modified
from app.web.freshness import Fresh, Freshness, adds_stale_header, headers_so_far
from app.web.openapi import NAME, READ, TAGGED, UNCHANGED
from app.web.paging import Cursor, Limit, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.responses import model_response
from app.web.wait_preference import Wait
from app.workers import in_slices, run_apart
from pilothouse_core.names import is_name

_MANY = 20  # instances, whose encoding takes about as long as starting a thread
router = APIRouter(
    prefix=REGISTRY,
    tags=["registry"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
_ENVIRONMENT = (
    "Only instances with exactly this environment in their metadata, which only callers with rights"
    " there can register."
)


def _validated_environment(environment: str | None) -> str | None:
    if environment is not None and not is_name(environment):
        raise BadInstanceEnvironment(environment)
    return environment


_Environment = Annotated[str | None, Query(description=_ENVIRONMENT, json_schema_extra=NAME)]
_Zone = Annotated[str | None, Query(description="Only, or preferably, instances of this zone.")]


def _is_stale(registry: RegistryService, fresh: Freshness) -> bool:
    return registry.is_stale or fresh.stale_seconds() is not None


async def _set_revision(response: Response, registry: RegistryService, follower: Following) -> None:
    revision = await wait_until_followed(follower, lambda: registry.view.revision)
    response.headers[REVISION_HEADER] = str(revision)


@router.get("/services", responses=READ, summary="List services")
async def list_services(
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ServicesOut:
    caller.demand(Right.DISCOVER)
    await _set_revision(response, registry, follower)
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [name for name in registry.view.services if name > after]

    def summary(name: str) -> ServiceSummary:
        service = registry.view.service(name)
        up = sum(seen.status == "up" for seen in service.instances)
        protected = registry.view.protection.covers(name)
        return ServiceSummary(
            service_name=name, instances=len(service.instances), up=up, protected=protected
        )

    items = await in_slices(rest[:limit], summary)
    more = encode_cursor(rest[limit - 1]) if len(rest) > limit else None
    return ServicesOut(items=items, stale=_is_stale(registry, fresh), next=more)


@router.get(
    "/services/{service:service}",
    response_model=ServiceOut,
    responses=READ,
    summary="All instances of a service, in any state",
)
async def get_service(
    service: ServicePath,
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    caller: CurrentCaller,
) -> Response:
    caller.demand(Right.DISCOVER)
    await _set_revision(response, registry, follower)

    def instance(seen: InstanceView) -> InstanceOut:
        key = (seen.service, seen.id)
        row = registry.view.row(*key)
        heard = row.heartbeat_at if row is not None and row.lease == "heartbeat" else None
        return InstanceOut.model_validate(
            instance_members(seen, heard, registry.checker.last.get(key))
        )

    items = await in_slices(registry.service(service).instances, instance)
    listing = ServiceOut(
        service_name=service,
        items=items,
        stale=_is_stale(registry, fresh),
        protected=registry.view.protection.covers(service),
    )
    return await model_response(len(items) > _MANY, lambda: listing, headers_so_far(response))


@router.get(
    "/services/{service:service}/url",
    response_model=UrlOut,
    responses=READ,
    summary="One instance, chosen by a load balancing strategy",
)
async def get_url(
    service: ServicePath,
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    caller: CurrentCaller,
    strategy: Strategy = "round_robin",
    key: Annotated[
        str | None, Query(description="`hash`: the same key goes to the same instance.")
    ] = None,
    zone: _Zone = None,
    environment: _Environment = None,
) -> Response:
    caller.demand(Right.DISCOVER)
    _validated_environment(environment)
    await _set_revision(response, registry, follower)
    choice = registry.choose(service, strategy, zone, key, environment)
    body = url_response(
        choice,
        strategy,
        stale=_is_stale(registry, fresh),
        protected=registry.view.protection.covers(service),
    )
    return Response(body, headers=headers_so_far(response), media_type="application/json")


@router.post(
    "/services/{service:service}/health",
    response_model=CheckedOut,
    summary="Check all instances of a service now",
)
async def check_service(
    service: ServicePath, response: Response, registry: Registry, caller: CurrentCaller
) -> Response:
    """Instances with a `health_check_url` are probed once, for at most 2 s; others are reported.

    Instances in environments where the caller may not write are not probed.
    """
    caller.demand(Right.REGISTER, service=service)
    checked = await registry.check(service, requester_of(caller))

    def checked_out() -> CheckedOut:
        results = [
            ResultOut(
                instance_id=seen.id,
                healthy=probe.is_healthy,
                reason=probe.reason,
                milliseconds=round(probe.seconds * 1000, 1),
                status=seen.status,
            )
            for seen, probe in checked
        ]
        return CheckedOut(service_name=service, results=results)

    return await model_response(len(checked) > _MANY, checked_out, headers_so_far(response))


@router.get(
    "/discover/{service:service}",
    response_model=DiscoveredOut,
    responses=TAGGED | UNCHANGED,
    summary="The usable instances of a service",
)
async def discover(
    service: ServicePath,
    response: Response,
    registry: Registry,
    follower: Following,
    fresh: Fresh,
    known: IfNoneMatch,
    wait: Wait,
    caller: CurrentCaller,
    zone: _Zone = None,
    tag: Annotated[str | None, Query(description="Only instances with this tag.")] = None,
    version: Annotated[str | None, Query(description="Only instances of this version.")] = None,
    environment: _Environment = None,
) -> Any:
    caller.demand(Right.DISCOVER)
    criteria = InstanceFilter(zone, tag, version, _validated_environment(environment))

    def answer() -> tuple[bytes, str]:
        return discovery_response(
            registry.service(service),
            criteria,
            stale=_is_stale(registry, fresh),
            protected=registry.view.protection.covers(service),
        )

    await hold_until_changed(
        lambda: answer()[1], known, wait, registry.view, fresh, caller.require_still_valid
    )
    await _set_revision(response, registry, follower)
    body, digest = answer()
    headers = {**headers_so_far(response), "ETag": etag(digest)}
    if matches(known, headers["ETag"]):
        return not_modified(headers["ETag"], headers_so_far(response))
    return Response(body, headers=headers, media_type="application/json")


@router.get(
    "/prometheus",
    response_model=list[TargetsOut],
    summary="Targets for Prometheus' HTTP service discovery",
)
async def prometheus(
    response: Response, registry: Registry, fresh: Fresh, caller: CurrentCaller
) -> Response:
    """All registered instances; 500 if the list may be incomplete: Prometheus keeps its targets."""
    caller.demand(Right.DISCOVER)
    if _is_stale(registry, fresh):
        raise RegistryInDoubt("a registry backend is unavailable: the list may be incomplete")
    services = await in_slices(registry.view.services, registry.view.service)
    seen = [one for service in services for one in service.instances]
    return await run_apart(
        len(seen) > _MANY,
        lambda: JSONResponse([*map(prometheus_target, seen)], headers=headers_so_far(response)),
    )
