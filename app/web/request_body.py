"""Base class of all models of JSON request bodies."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

_MOST_MEMBERS = 100  # at most half of them are listed in a problem


class RequestBody(BaseModel):
    """A body with declared members only; types are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_few_unknown_members(cls, body: Any) -> Any:
        """Drop most unknown members: each costs an error, and few errors are listed.

        100,000 of them would block the event loop for 0.4 s.
        """
        if not isinstance(body, dict) or len(body) <= _MOST_MEMBERS:
            return body
        known = cls.model_fields
        unknown = [name for name in body if name not in known][:_MOST_MEMBERS]
        return {name: body[name] for name in (*known, *unknown) if name in body}
