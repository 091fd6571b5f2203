"""Instances as the service answers them. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, overload

from pilothouse.errors import BadAnswer
from pilothouse_core.balancing import Candidate
from pilothouse_core.instances import environment_in

_USABLE = frozenset({"up", "suspect"})


@dataclass(frozen=True, slots=True)
class DiscoveredInstance:
    """One instance; `registered_at` is in seconds since 1970, None if unknown.

    `is_foreign`: registered by others, directly in ZooKeeper. `status` is `up` or, in doubt,
    `suspect`.
    """

    service_name: str
    instance_id: str
    url: str
    address: str
    port: int
    scheme: str
    status: str
    metadata: Mapping[str, str]
    tags: tuple[str, ...]
    weight: int
    zone: str | None
    version: str | None
    is_foreign: bool
    epoch: int | None
    registered_at: float | None
    warmup_seconds: float

    @property
    def environment(self) -> str | None:
        """The environment that it states in its metadata, None if it states none."""
        return environment_in(self.metadata)

    def matches(
        self,
        zone: str | None,
        tag: str | None,
        version: str | None,
        environment: str | None = None,
    ) -> bool:
        """Return whether the instance matches; None matches all."""
        return (
            (zone is None or self.zone == zone)
            and (environment is None or self.environment == environment)
            and (tag is None or tag in self.tags)
            and (version is None or self.version == version)
        )

    is_asked = matches  # deprecated alias

    def candidate(self, now: float) -> Candidate:
        """Return the candidate for balancing; `now` is in seconds since 1970."""
        return Candidate(
            self.instance_id,
            weight=self.weight,
            zone=self.zone,
            is_healthy=self.status in _USABLE,
            age=inf if self.registered_at is None else now - self.registered_at,
            warmup_seconds=self.warmup_seconds,
        )


@dataclass(frozen=True, slots=True)
class Discovered:
    """A sequence of instances, in the order of their ids.

    `is_stale`: possibly outdated, because the service or a server behind it is unavailable.
    `is_protected`: self-preservation is active, so silent instances are not removed.
    """

    instances: tuple[DiscoveredInstance, ...]
    is_stale: bool
    is_protected: bool

    def __iter__(self) -> Iterator[DiscoveredInstance]:
        return iter(self.instances)

    def __len__(self) -> int:
        return len(self.instances)

    @overload
    def __getitem__(self, place: int) -> DiscoveredInstance: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[DiscoveredInstance, ...]: ...
    def __getitem__(
        self, place: int | slice
    ) -> DiscoveredInstance | tuple[DiscoveredInstance, ...]:
        return self.instances[place]


def read_discovered(body: Mapping[str, Any]) -> Discovered:
    """Read an answer of `discover`; raises BadAnswer."""
    items = body.get("items")
    if not isinstance(items, list):
        raise BadAnswer("an answer without `items`: these are not instances")
    instances = sorted(map(_instance, items), key=lambda one: one.instance_id)
    return Discovered(tuple(instances), body.get("stale") is True, body.get("protected") is True)


def _instance(item: Any) -> DiscoveredInstance:
    try:
        moment, epoch = item["registered_at"], item["epoch"]
        return DiscoveredInstance(
            service_name=str(item["service_name"]),
            instance_id=str(item["instance_id"]),
            url=str(item["service_url"]),
            address=str(item["address"]),
            port=int(item["port"]),
            scheme=str(item["scheme"]),
            status=str(item["status"]),
            metadata={str(name): str(value) for name, value in item["metadata"].items()},
            tags=tuple(map(str, item["tags"])),
            weight=int(item["weight"]),
            zone=_text(item["zone"]),
            version=_text(item["version"]),
            is_foreign=item["foreign"] is True,
            epoch=None if epoch is None else int(epoch),
            registered_at=None if moment is None else _seconds(moment),
            # Services before the client's first release did not send it.
            warmup_seconds=float(item.get("warmup_seconds", 0)),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadAnswer(f"an invalid instance: {type(error).__name__}") from error


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _seconds(moment: str) -> float:
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
