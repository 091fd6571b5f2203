"""Request and response schemas of the registry; the core validates registrations."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.web.openapi import INSTANCE_ID, NAME
from app.web.request_body import RequestBody

Name = Annotated[str, Field(json_schema_extra=NAME)]
InstanceId = Annotated[str, Field(json_schema_extra=INSTANCE_ID)]
Status = Literal["starting", "up", "suspect", "down", "draining"]
Epoch = Annotated[
    int | None,
    Field(
        ge=0,
        lt=2**53,
        description="Epoch of the registration; an outdated one changes nothing (409).",
    ),
]


class RegisterIn(RequestBody):
    service_name: Name
    service_url: str = Field(description="Absolute, without a query.")
    health_check_url: str | None = Field(
        None, description="Probed by the service; without it the instance sends heartbeats."
    )
    instance_id: InstanceId | None = Field(
        None, description="Default: a digest of service and URL, always the same."
    )
    metadata: dict[str, Any] | None = Field(None, description="Strings by name, at most 16 KiB.")
    tags: list[str] | None = None
    weight: int | None = Field(None, description="0 to 1000, default 100; 0 is never chosen.")
    zone: Name | None = None
    version: str | None = None
    ttl_seconds: int | None = Field(
        None,
        description="Default 30. Without a heartbeat for one ttl: suspect; for two: removed.",
    )
    warmup_seconds: float | None = Field(
        None, description="Time in which the share of a new instance grows linearly; default 0."
    )

    def members(self) -> dict[str, Any]:
        return {name: value for name, value in self if value is not None}


class LeaseOut(BaseModel):
    kind: Literal["heartbeat", "probe"]
    ttl_seconds: int | None = Field(description="null: the service probes the instance.")
    heartbeat_url: str | None = Field(description="Where to PUT heartbeats, well within the ttl.")


class RegisteredOut(BaseModel):
    service_name: str
    instance_id: str
    epoch: int = Field(
        description="Epoch of this registration; send it to guard against outdated requests."
    )
    lease: LeaseOut


class AddressWarningOut(BaseModel):
    pointer: str = Field(description="Where in the registration, as a JSON pointer.")
    code: Literal["unspecified_address", "loopback_address"]
    detail: str


class RegistrationOut(RegisteredOut):
    warnings: list[AddressWarningOut] = Field(
        default_factory=list,
        description="Addresses that most clients cannot reach; the instance is registered anyway.",
    )


class DeregisterIn(RequestBody):
    service_name: Name
    instance_id: InstanceId | None = None
    service_url: str | None = Field(None, description="Instead of the id.")
    epoch: Epoch = None


class DeregisteredOut(BaseModel):
    service_name: str
    instance_id: str
    status: Literal["deregistered"] = "deregistered"


class HeartbeatIn(RequestBody):
    epoch: Epoch = None


class DrainIn(RequestBody):
    epoch: Epoch = None
    grace_seconds: float = Field(30, ge=0, le=86_400)


class DrainedOut(BaseModel):
    service_name: str
    instance_id: str
    status: Literal["draining"] = "draining"
    removed_at: datetime


class CheckOut(BaseModel):
    at: datetime
    healthy: bool
    reason: str


class InstanceOut(BaseModel):
    service_name: str
    instance_id: str
    service_url: str
    address: str
    port: int
    scheme: str
    health_check_url: str | None = None
    metadata: dict[str, str]
    tags: list[str]
    weight: int
    warmup_seconds: float
    zone: str | None
    version: str | None
    status: Status
    foreign: bool = Field(description="Registered directly in ZooKeeper, not through this service.")
    epoch: int | None
    registered_at: datetime | None
    last_heartbeat: datetime | None = Field(None, description="As known to this replica.")
    last_check: CheckOut | None = Field(None, description="By this replica, since it started.")


class DiscoveredOut(BaseModel):
    items: list[InstanceOut]
    stale: bool = Field(
        description="A registry backend is unavailable: this is the last known view."
    )
    protected: bool = Field(
        description="Too many instances fell silent at once: they are kept for ten ttl."
    )


class ServiceOut(DiscoveredOut):
    service_name: str


class ServiceSummary(BaseModel):
    service_name: str
    instances: int
    up: int
    protected: bool


class ServicesOut(BaseModel):
    items: list[ServiceSummary]
    stale: bool
    next: str | None = None


class UrlOut(BaseModel):
    service_name: str
    instance_id: str
    url: str
    strategy: str
    zone_local: bool = Field(description="All candidates were in the requested zone.")
    panicked: bool = Field(
        description="Too few instances are healthy: unhealthy ones were candidates too."
    )
    stale: bool
    protected: bool


class CheckedOut(BaseModel):
    service_name: str
    results: list["ResultOut"]


class ResultOut(BaseModel):
    instance_id: str
    healthy: bool
    reason: str
    milliseconds: float
    status: Status


class ReleasedOut(BaseModel):
    service_name: str | None = Field(description="null: of all services.")
    released: int = Field(description="Number of silent instances that are no longer protected.")


class TargetsOut(BaseModel):
    """One group of Prometheus' HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]
