"""Request and response bodies of promotions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.actors import actor_name
from app.proposals.promotion.comparer import Comparison, Route
from app.proposals.promotion.model import (
    ABSENT,
    MOST_ROWS,
    MOST_SERVICES,
    PRESELECTED,
    UNKNOWN,
    Base,
    Pin,
    Row,
    RowKey,
    RowKind,
    State,
)
from app.proposals.promotion.plan import ChosenRow
from app.proposals.promotion.promoter import PromotedPart, Status
from app.web.openapi import NAME
from app.web.request_body import RequestBody
from pilothouse_core.keys import canonical_key

Name = Annotated[str, Field(json_schema_extra=NAME)]
_KEY = Annotated[str, Field(min_length=1, max_length=1024)]
_LONGEST_PINNED = 500


class RouteIn(RequestBody):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=False)

    source: Name = Field(alias="from", description="The environment that is promoted.")
    target: Name = Field(alias="to", description="The environment that is promoted to.")
    services: list[Name] = Field(
        default_factory=list,
        max_length=MOST_SERVICES,
        description="Their own layers are compared; `_shared` is a service here.",
    )
    flags: bool = Field(default=False, description="Compare flags and segments too.")


class CompareIn(RouteIn):
    overlay: dict[Name, dict[_KEY, Any]] = Field(
        default_factory=dict,
        description="Values by service and key that win over the source, such as host names.",
    )

    def route(self) -> Route:
        return Route(self.source, self.target, self.services, self.flags, self.overlay)


class ValueOut(BaseModel):
    value: Any = Field(description="Secrets are masked; a flag or segment is its definition.")

    @classmethod
    def of(cls, value: Any) -> "ValueOut | None":
        return None if value is ABSENT or value is UNKNOWN else cls(value=value)


class BaseOut(BaseModel):
    version: int = Field(description="Version in the source; 0: the source had none.")
    at: datetime
    by: str = Field(description="Who promoted it.")


class RowOut(BaseModel):
    kind: RowKind
    service_name: str = Field(description="Empty for flags and segments.")
    key: str = Field(description="The key, or the name of the flag or segment.")
    state: State = Field(
        description="`same`; `new`, `changed`, `removed`: only the source has changed since the "
        "last promotion; `kept`: only the target has; `both`: a conflict; `pinned`; `secret`."
    )
    selected: bool = Field(description="A promotion of all takes it without being asked.")
    value_asked: bool = Field(description="A secret: a promotion needs a value for the target.")
    overlaid: bool = Field(description="`source` is what the overlay says.")
    base: ValueOut | None = Field(description="What was promoted last; null: nothing is known.")
    source: ValueOut | None = Field(description="null: the source has none.")
    target: ValueOut | None = Field(description="null: the target has none.")
    promoted: BaseOut | None = Field(description="The last promotion of it; null: there was none.")

    @classmethod
    def of(cls, row: Row, base: Base | None) -> "RowOut":
        kind, service, key = row.subject
        return cls(
            kind=kind,
            service_name=service,
            key=key,
            state=row.state,
            selected=row.state in PRESELECTED,
            value_asked=row.asks_value,
            overlaid=row.is_overlaid,
            base=ValueOut.of(row.base),
            source=ValueOut.of(row.source),
            target=ValueOut.of(row.target),
            promoted=None
            if base is None
            else BaseOut(version=base.version, at=base.at, by=actor_name(base.actor)),
        )


class ComparisonOut(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(alias="from", description="The environment that would be promoted.")
    target: str = Field(alias="to", description="The environment that would be promoted to.")
    compared: str = Field(
        description="For a promotion: it is refused if either side has changed since."
    )
    counts: dict[str, int] = Field(description="The number of rows by state.")
    rows: list[RowOut] = Field(description="By kind, service and key.")

    @classmethod
    def of(cls, route: Route, comparison: Comparison) -> "ComparisonOut":
        counts: dict[str, int] = {}
        for row in comparison.rows:
            counts[row.state] = counts.get(row.state, 0) + 1
        return cls(
            source=route.source,
            target=route.target,
            compared=comparison.tag,
            counts=counts,
            rows=[RowOut.of(row, comparison.bases.get(row.subject)) for row in comparison.rows],
        )


class ChosenRowIn(RequestBody):
    kind: RowKind
    service_name: str = Field("", max_length=63, description="Of a key; empty otherwise.")
    key: _KEY = Field(description="The key, or the name of the flag or segment.")
    value: Any = Field(
        None, description="Takes the place of what the source has; required for a secret."
    )

    def chosen_row(self) -> ChosenRow:
        is_config = self.kind == "config"
        key = canonical_key(self.key) if is_config else self.key
        value = self.value if "value" in self.model_fields_set else ABSENT
        return ChosenRow(RowKey(self.kind, self.service_name, key), value)


class PromotionIn(RouteIn):
    rows: list[ChosenRowIn] = Field(
        min_length=1, max_length=MOST_ROWS, description="Rows of the comparison, each once."
    )
    compared: str | None = Field(
        None, max_length=64, description="`compared` of the comparison that the rows are from."
    )
    comment: str = Field("", max_length=1000, description="Reason; kept in the history.")

    def route(self) -> Route:
        return Route(self.source, self.target, self.services, self.flags)


class PromotedPartOut(BaseModel):
    service_name: str = Field(description="Empty: all flags and segments.")
    status: Status
    version: int = Field(description="The version in the target; 0 for flags, and if it failed.")
    revision: int = Field(description="Of the change; 0: none was made.")
    code: str = Field(description="Of the problem, or empty.")
    detail: str

    @classmethod
    def of(cls, part: PromotedPart) -> "PromotedPartOut":
        error = part.error
        return cls(
            service_name=part.service,
            status=part.status,
            version=part.version,
            revision=part.revision,
            code="" if error is None else error.code,
            detail="" if error is None else str(error),
        )


class PromotionOut(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(alias="from", description="The environment that was promoted.")
    target: str = Field(alias="to", description="The environment that was promoted to.")
    dry_run: bool
    parts: list[PromotedPartOut] = Field(description="Flags first, then each service.")

    @classmethod
    def of(cls, route: Route, parts: Sequence[PromotedPart], *, dry_run: bool) -> "PromotionOut":
        return cls(
            source=route.source,
            target=route.target,
            dry_run=dry_run,
            parts=[PromotedPartOut.of(part) for part in parts],
        )


class PinIn(RequestBody):
    environment: Name = Field(description="The environment that is promoted to.")
    kind: RowKind = "config"
    service_name: str = Field("", max_length=63, description="Of a key; empty otherwise.")
    key: Annotated[str, Field(min_length=1, max_length=_LONGEST_PINNED)] = Field(
        description="A key with all below it, or the name of a flag or segment."
    )
    comment: str = Field("", max_length=1000, description="Why each environment has its own.")


class PinOut(BaseModel):
    environment: str
    kind: RowKind
    service_name: str
    key: str
    comment: str
    actor: str
    at: datetime | None

    @classmethod
    def of(cls, pin: Pin) -> "PinOut":
        return cls(
            environment=pin.environment,
            kind=pin.kind,
            service_name=pin.service,
            key=pin.key,
            comment=pin.comment,
            actor=actor_name(pin.actor),
            at=pin.at,
        )
