"""What is known of the instances that read a configuration. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pilothouse_core.releases.arms import Arm

Outcome = Literal["adopted", "refused"]
MOST_INSTANCES: Final = 10_000  # that report on one release
LONGEST_CODE: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """An instance of a service in an environment."""

    environment: str
    service: str
    instance: str


@dataclass(frozen=True, slots=True)
class Read:
    """What an instance has read last: the entity tag of its effective configuration.

    `revision` is that of the newest change in it; `release` and `arm` are None without a release.
    """

    etag: str
    revision: int
    release: str | None = None
    arm: Arm | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an instance says of what it has read; `code` names why it refused, never a value."""

    outcome: Outcome
    code: str = ""
    release: str | None = None
    arm: Arm | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """What an instance has read last and what it has reported last; times are of the store's clock.

    `release` and `arm` are of the later one of both.
    """

    place: Place
    etag: str
    revision: int
    release: str | None
    arm: Arm | None
    read_at: datetime | None
    outcome: Outcome | None
    code: str
    reported_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReportCounts:
    """How many instances of the candidate of a release have adopted it, and refused it."""

    adopted: int
    refused: int
