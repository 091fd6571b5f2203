"""What a write is, what came of it, and how far one attempt at it has come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from app.changes.model import Idempotency, Intent
from app.configs.documents.edits import Edit
from app.configs.errors import StaleWrite
from app.configs.model import Body, DocumentId, Draft, Finding
from app.rules.judging.model import Pair, Problem
from app.rules.policies.model import NO_AUTHORITY, Authority
from app.web.conditional import ANY_VERSION, IfMatch
from app.workers import LARGE_TEXT, is_large_request

Notice = Finding | Problem
# Shares of the time of a write, from its start:
_QUEUE_SHARE = 0.45  # behind other writers of the same document, then 503
_BEGIN_SHARE = 0.65  # until the log must have the intent, or nothing is sent: 503
_STORE_SHARE = 0.75  # until the store must have answered
_ANSWER_SHARE = 0.95  # until the client is answered


@dataclass(frozen=True, slots=True)
class Write:
    """One write request; `expected`: the current versions that it accepts.

    `may_read`: of which configurations the writer may be shown what a schema finds there.
    """

    document: DocumentId
    edit: Edit
    actor: str
    request_id: str
    comment: str = ""
    expected: IfMatch = ANY_VERSION
    replaces: bool = False  # the edit needs nothing of what the current version says
    idempotency: Idempotency | None = None
    source: str | None = None  # the address it came from
    authority: Authority = NO_AUTHORITY  # where a policy asks for a proposal
    release: str | None = None  # the release that this write is the end of
    may_read: Callable[[Pair], bool] = field(default=lambda _: False, repr=False, compare=False)

    def refuse_unexpected(self, version: int) -> None:
        """Raise StaleWrite if the write does not accept the current version; 0: there is none."""
        if not self.expected.allows(version):
            raise StaleWrite(str(self.document), version)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The version that holds the write; `changed` is false if there was nothing to write."""

    body: Body | None
    revision: int
    changed: bool = True
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Problem, ...] = ()  # of schemas, where the writer may read

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Everything that speaks against what was written."""
        return (*self.findings, *self.warnings)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Until when each step of a write must be done, in seconds from the start of an attempt."""

    queue: float
    begin: float
    store: float
    answer: float

    @classmethod
    def within(cls, seconds: float) -> "Deadlines":
        """Share out the time of a whole write."""
        shares = (_QUEUE_SHARE, _BEGIN_SHARE, _STORE_SHARE, _ANSWER_SHARE)
        return cls(*(seconds * share for share in shares))


@dataclass(frozen=True, slots=True)
class Identity:
    """What an attempt is recognised by: a key, and the keyed digest of the request."""

    key: str
    digest: str


@dataclass(slots=True, repr=False)
class WriteAttempt:
    """One attempt at a write: one intent at most, on one base.

    It is filled in by the steps of the writer: `identity`, if the request has an idempotency key;
    `base` and `draft`; `intent`, with `body` and `text` of the version that it becomes.
    `started` is the time of the event loop from which the deadlines count.

    `may_have_been_sent`: this process or another one may have sent the version to the store. From
    then on a failure is WriteOutcomeUnknown until the store has version base + 1.

    `held_until`: related writes wait no longer than this for a version that was judged, so that it
    is not sent any more.
    """

    write: Write
    started: float
    identity: Identity | None = None
    may_have_been_sent: bool = False
    held_until: float = inf
    authority_facts: Mapping[str, str] = field(default_factory=dict)  # for the audit
    policies_at: int | None = None  # the revision of the newest policy that was asked
    is_blocked: bool = False  # by a write of a related document that has not ended
    base: Body | None = None
    warnings: tuple[Problem, ...] = ()
    draft: Draft = field(init=False)
    intent: Intent = field(init=False)
    body: Body = field(init=False)
    text: str = field(init=False)

    @property
    def document(self) -> DocumentId:
        return self.write.document

    @property
    def is_large(self) -> bool:
        return is_large_write(self.base)


def is_large_write(base: Body | None) -> bool:
    """Whether a write, or the document that it changes, is worked on apart."""
    return is_large_request() or (base is not None and base.size > LARGE_TEXT)
