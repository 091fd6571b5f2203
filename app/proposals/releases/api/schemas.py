"""Bodies of requests and answers about releases and readers."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.actors import actor_name
from app.proposals.releases.model import Release
from app.proposals.releases.readers.model import LONGEST_CODE, Reader, ReportCounts
from app.web.openapi import INSTANCE_ID, NAME
from app.web.request_body import RequestBody
from pilothouse_core.bucketing import percent
from pilothouse_core.releases.arms import TOTAL
from pilothouse_core.releases.plan import plan_json

StateName = Literal["running", "held", "finishing", "done", "aborted"]
ArmName = Literal["candidate", "stable"]
Comment = Annotated[str, Field(max_length=1000)]
Instance = Annotated[
    str,
    Field(
        max_length=128,
        pattern=INSTANCE_ID["pattern"],
        description="Id of the instance, as in its reads.",
    ),
]
Arm = Annotated[
    ArmName, Field(description="`candidate`: with the change of the release; `stable`: without.")
]
OutcomeName = Annotated[
    Literal["adopted", "refused"],
    Field(description="`refused`: the instance keeps what it had before."),
]
_OF_ALERTMANAGER = "Of Alertmanager; not used."
AlertText = Annotated[str | None, Field(max_length=10_000)]
Labels = dict[str, Any] | None
Code = Annotated[
    str,
    Field(
        max_length=LONGEST_CODE,
        pattern=r"^[A-Za-z0-9_.:-]*$",
        description="What refused it, such as the name of an exception; never a value.",
    ),
]


class MoveIn(RequestBody):
    comment: Comment = ""


class ReleaseAbortIn(RequestBody):
    """A reason; or what Alertmanager sends to a webhook, of which only `status` is used."""

    comment: Comment = ""
    status: Literal["firing", "resolved"] | None = Field(
        None, description="Of Alertmanager; `resolved` aborts nothing."
    )
    version: AlertText = Field(None, description=_OF_ALERTMANAGER)
    receiver: AlertText = Field(None, description=_OF_ALERTMANAGER)
    group_key: AlertText = Field(None, alias="groupKey", description=_OF_ALERTMANAGER)
    external_url: AlertText = Field(None, alias="externalURL", description=_OF_ALERTMANAGER)
    truncated_alerts: int | None = Field(
        None, alias="truncatedAlerts", description=_OF_ALERTMANAGER
    )
    group_labels: Labels = Field(None, alias="groupLabels", description=_OF_ALERTMANAGER)
    common_labels: Labels = Field(None, alias="commonLabels", description=_OF_ALERTMANAGER)
    common_annotations: Labels = Field(
        None, alias="commonAnnotations", description=_OF_ALERTMANAGER
    )
    alerts: list[dict[str, Any]] | None = Field(None, max_length=1000, description=_OF_ALERTMANAGER)


class ReleaseReportIn(RequestBody):
    instance: Instance
    arm: Arm
    outcome: OutcomeName
    code: Code = ""


class ReaderReportIn(RequestBody):
    environment: str = Field(json_schema_extra=NAME)
    service_name: str = Field(json_schema_extra=NAME)
    instance: Instance
    outcome: OutcomeName
    code: Code = ""


class ReportsOut(BaseModel):
    """Instances with the candidate that have reported."""

    adopted: int = Field(description="Those that use the candidate.")
    refused: int = Field(description="Those that have kept what they had.")


class ReleaseOut(BaseModel):
    id: str = Field(description="Id of the release: the salt of its buckets.")
    state: StateName = Field(
        description="`finishing`: the change is being written, and every instance has it."
    )
    kind: Literal["config", "flag"] = Field(description="What is released.")
    environment: str
    service_name: str | None
    flag: str | None = Field(description="The flag that is released, null for a configuration.")
    plan: dict[str, Any] = Field(description="Steps, signals and what else was asked for.")
    step: int = Field(description="Counted from 0; the one after the last is the bake.")
    step_since: datetime = Field(description="When its time began (RFC 3339, UTC).")
    share: float | None = Field(
        description="The percentage of instances with the candidate; null where they are counted."
    )
    instances: list[str] = Field(description="Those with the candidate, where they are counted.")
    keys: list[str] = Field(description="The keys that it changes.")
    proposal: str | None = Field(description="The proposal that it applies.")
    round: int | None = Field(description="The round of the proposal.")
    version: int = Field(description="Grows with each change of the release, for `If-Match`.")
    signal: str | None = Field(description="What aborted it.")
    started_at: datetime = Field(description="When it was started (RFC 3339, UTC).")
    started_by: str = Field(description="Who started it.")
    ended_at: datetime | None = Field(description="When it was done or aborted; null: not yet.")
    updated_by: str
    comment: str
    reports: ReportsOut = Field(description="What instances with the candidate have reported.")

    @classmethod
    def of(cls, release: Release, counts: ReportCounts | None) -> "ReleaseOut":
        share, subject = release.share, release.subject
        return cls(
            id=release.id,
            state=release.state,
            kind=subject.kind,
            environment=subject.environment,
            service_name=None if subject.kind == "flag" else subject.service,
            flag=subject.flag or None,
            plan=plan_json(release.plan),
            step=release.step,
            step_since=release.step_since,
            share=None if share is None else percent(share, TOTAL),
            instances=sorted(release.members),
            keys=list(release.keys),
            proposal=None if release.item is None else release.item.proposal,
            round=None if release.item is None else release.item.round,
            version=release.version,
            signal=release.signal or None,
            started_at=release.started_at,
            started_by=actor_name(release.started_by),
            ended_at=release.ended_at,
            updated_by=actor_name(release.actor),
            comment=release.comment,
            reports=ReportsOut(
                adopted=0 if counts is None else counts.adopted,
                refused=0 if counts is None else counts.refused,
            ),
        )


class ReaderOut(BaseModel):
    environment: str
    service_name: str
    instance: str = Field(description="Id of the instance.")
    etag: str | None = Field(description="Of the configuration that it has read last.")
    revision: int | None = Field(description="Of the newest change in it.")
    release: str | None = Field(description="The release that was running then.")
    arm: ArmName | None = Field(description="Its arm in that release.")
    read_at: datetime | None = Field(description="When it has read last (RFC 3339, UTC).")
    outcome: Literal["adopted", "refused"] | None = Field(description="What it has reported last.")
    code: str = Field(description="What refused it.")
    reported_at: datetime | None = Field(description="When it has reported last (RFC 3339, UTC).")

    @classmethod
    def of(cls, reader: Reader) -> "ReaderOut":
        return cls(
            environment=reader.place.environment,
            service_name=reader.place.service,
            instance=reader.place.instance,
            etag=reader.etag or None,
            revision=reader.revision or None,
            release=reader.release,
            arm=reader.arm,
            read_at=reader.read_at,
            outcome=reader.outcome,
            code=reader.code,
            reported_at=reader.reported_at,
        )
