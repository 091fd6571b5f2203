"""Instances as they are sent and answered; the core judges what a registration holds."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.web.openapi import NAME

Name = Annotated[str, Field(json_schema_extra=NAME)]
Status = Literal["starting", "up", "suspect", "down", "draining"]
Epoch = Annotated[
    int | None,
    Field(ge=0, lt=2**53, description="Of the registration; an older one changes nothing (409)."),
]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RegisterIn(_In):
    service_name: Name
    service_url: str = Field(description="Absolute, without a query.")
    health_check_url: str | None = Field(
        None, description="Probed by the service; without it the instance sends heartbeats."
    )
    instance_id: Name | None = Field(
        None, description="Default: a digest of service and URL, the same each time."
    )
    metadata: dict[str, Any] | None = Field(None, description="Texts by name, at most 16 KiB.")
    tags: list[str] | None = None
    weight: int | None = Field(None, description="0 to 1000, default 100; 0 is never balanced to.")
    zone: Name | None = None
    version: str | None = None
    ttl_seconds: int | None = Field(
        None,
        description="Default 30. Without a heartbeat for one of them: suspect; for two: removed.",
    )
    warmup_seconds: float | None = Field(
        None, description="While it is new, its share grows linearly; default 0."
    )

    def members(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class LeaseOut(BaseModel):
    kind: Literal["heartbeat", "probe"]
    ttl_seconds: int | None = Field(description="null: the service probes the instance.")
    heartbeat_url: str | None = Field(description="Where to PUT heartbeats, well within the ttl.")


class RegisteredOut(BaseModel):
    service_name: str
    instance_id: str
    epoch: int = Field(description="Of this registration; sent back, it guards against a late one.")
    lease: LeaseOut


class DeregisterIn(_In):
    service_name: Name
    instance_id: Name | None = None
    service_url: str | None = Field(None, description="Instead of the id.")
    epoch: Epoch = None


class DeregisteredOut(BaseModel):
    service_name: str
    instance_id: str
    status: Literal["deregistered"] = "deregistered"


class HeartbeatIn(_In):
    epoch: Epoch = None


class DrainIn(_In):
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
    foreign: bool = Field(description="Registered by others, directly in ZooKeeper.")
    epoch: int | None
    registered_at: datetime | None
    last_heartbeat: datetime | None = Field(None, description="As far as this replica knows.")
    last_check: CheckOut | None = Field(None, description="By this replica, since it started.")


class DiscoveredOut(BaseModel):
    items: list[InstanceOut]
    stale: bool = Field(description="A server behind the registry is away: the last known view.")
    protected: bool = Field(description="Too many vanished at once: nobody is evicted.")


class ServiceOut(DiscoveredOut):
    service_name: str


class ServiceSummary(BaseModel):
    service_name: str
    instances: int
    up: int


class ServicesOut(BaseModel):
    items: list[ServiceSummary]
    stale: bool
    next: str | None = None


class UrlOut(BaseModel):
    service_name: str
    instance_id: str
    url: str
    strategy: str
    zone_local: bool = Field(description="All candidates were of the zone that was asked for.")
    panicked: bool = Field(description="Too few are healthy: the unhealthy took part as well.")
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


class TargetsOut(BaseModel):
    """One group of Prometheus' HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]
