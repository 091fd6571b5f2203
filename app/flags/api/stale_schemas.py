"""Response bodies of the list of stale flags."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.flags.stale import Reason, StaleFlag


class StalenessOut(BaseModel):
    reason: Reason = Field(
        description="`one_value`: all users are served the same value; `not_evaluated`; `expired`: "
        "the time in its tag `expires=` has passed."
    )
    since: datetime = Field(
        description="For `one_value`, at the earliest when the flag was last written."
    )
    days: int = Field(description="Whole days since then.")
    variant: str | None = Field(
        None, description="For `one_value`: the variant; null: the caller's default."
    )


class StaleFlagOut(BaseModel):
    name: str
    environment: str
    owner: str = Field(description="Empty: the flag names none.")
    tags: list[str]
    enabled: bool
    version: int
    created_at: datetime
    updated_at: datetime
    age_days: int = Field(description="Whole days since the flag was created.")
    last_evaluated_at: datetime | None
    expires_at: datetime | None = Field(
        description="The time in the tag `expires=TIME` of the flag; null: it has none."
    )
    reasons: list[StalenessOut] = Field(description="Every reason that holds, at least one.")

    @classmethod
    def of(cls, flag: StaleFlag, now: datetime) -> "StaleFlagOut":
        return cls(
            name=flag.item.name,
            environment=flag.item.environment,
            owner=flag.owner,
            tags=list(flag.tags),
            enabled=flag.enabled,
            version=flag.item.version,
            created_at=flag.item.created_at,
            updated_at=flag.item.at,
            age_days=max((now - flag.item.created_at).days, 0),
            last_evaluated_at=flag.last_evaluated_at,
            expires_at=flag.expires_at,
            reasons=[
                StalenessOut(
                    reason=one.reason,
                    since=one.since,
                    days=max((now - one.since).days, 0),
                    variant=one.variant,
                )
                for one in flag.reasons
            ],
        )
