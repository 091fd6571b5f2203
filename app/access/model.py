"""Who is asking, and what they may see."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is the actor of what this caller changes; None where callers are not known."""

    name: str | None
    may_reveal: bool
    sees_fingerprints: bool
    request_id: str

    def actor(self, remark: str | None = None) -> str:
        """Return who stands in the log: the caller, else whom the request names."""
        return self.name or remark or "anonymous"
