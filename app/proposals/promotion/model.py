"""Rows of a comparison of two environments, and what was promoted between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

RowKind = Literal["config", "flag", "segment"]
State = Literal["same", "new", "changed", "removed", "kept", "both", "pinned", "secret"]

ABSENT: Final[Any] = object()  # no value there
UNKNOWN: Final[Any] = object()  # nothing was promoted, or what was is no longer kept
# What a promotion of all takes: everything but conflicts.
PRESELECTED: Final[frozenset[State]] = frozenset({"new", "changed", "removed"})
MOST_SERVICES: Final = 100
MOST_ROWS: Final = 20_000


class RowKey(NamedTuple):
    """What a row is about: a key of a service, or a flag or segment, which has no service."""

    kind: RowKind
    service: str
    key: str


@dataclass(frozen=True, slots=True)
class Row:
    """One key, flag or segment in both environments; ABSENT and UNKNOWN stand for no value.

    `asks_value`: the source has a secret, and a promotion needs a value for the target.
    `is_overlaid`: `source` is what the overlay of the request says.
    """

    subject: RowKey
    state: State
    base: Any = field(repr=False)
    source: Any = field(repr=False)
    target: Any = field(repr=False)
    asks_value: bool = False
    is_overlaid: bool = False


@dataclass(frozen=True, slots=True)
class Base:
    """The source version of a subject that was promoted last; 0: the source had none."""

    subject: RowKey
    version: int
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Promotion:
    """What was promoted from one environment to another, by source versions."""

    source: str
    target: str
    versions: Sequence[tuple[RowKey, int]]
    actor: str


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """What no promotion changes in an environment: a key and all below it, a flag, a segment."""

    environment: str
    kind: RowKind
    service: str
    key: str
    actor: str = field(default="", compare=False)
    comment: str = field(default="", compare=False)
    at: datetime | None = field(default=None, compare=False)

    @property
    def place(self) -> tuple[str, str, str, str]:
        return self.environment, self.kind, self.service, self.key
