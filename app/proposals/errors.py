"""What is wrong with a proposal, and what may not be done with it."""

from collections.abc import Iterable, Mapping, Sequence

from app.errors import (
    Conflict,
    Invalid,
    NotFound,
    PilothouseError,
    PreconditionFailed,
    TooLarge,
    Unavailable,
)

_MOST_NAMED = 50


class ProposalsUnavailable(Unavailable):
    """The store of proposals does not answer."""

    code = "proposals_unavailable"


class ProposalNotFound(NotFound):
    """No such proposal, or one that the caller may not read."""

    code = "proposal_not_found"

    def __init__(self, proposal_id: str) -> None:
        super().__init__(f"there is no proposal {proposal_id[:80]!r}")


class ProposalMoved(Conflict):
    """The row has another version by now; the change has to be computed again."""

    code = "proposal_moved"

    def __init__(self, proposal_id: str) -> None:
        super().__init__(f"the proposal {proposal_id!r} has just been changed")


class TooManyProposals(Conflict):
    """As many proposals are open as may be."""

    code = "too_many_proposals"

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} proposals are open, as many as may be; apply or withdraw some")


class RoundMoved(Conflict):
    """The review is of another round than the current one."""

    code = "round_moved"

    def __init__(self, current: int) -> None:
        super().__init__(f"the proposal is in round {current}", round=current)


class StaleRound(PreconditionFailed):
    """`If-Match` states another round."""

    code = "stale_round"

    def __init__(self, current: int) -> None:
        super().__init__(f"the proposal is in round {current}", round=current)


class WrongState(Conflict):
    """The proposal is in a state in which this cannot be done."""

    code = "proposal_state"

    def __init__(self, action: str, state: str) -> None:
        super().__init__(f"a proposal that is {state} cannot be {action}", state=state)


class ApprovalsMissing(Conflict):
    """The policies ask for more approvals than the proposal has."""

    code = "approvals_missing"

    def __init__(self, needed: int, given: int) -> None:
        super().__init__(
            f"the proposal has {given} of the {needed} approvals that it needs",
            needed=needed,
            given=given,
        )


class SelfApproval(Conflict):
    """The reviewer is an author of a round, or related to one."""

    code = "self_approval"

    def __init__(self) -> None:
        super().__init__(
            "the authors of a proposal, and all tokens related to theirs, cannot approve it"
        )


class ReviewerUnknown(Conflict):
    """Access is open, so no reviewer is known."""

    code = "reviewer_unknown"

    def __init__(self) -> None:
        super().__init__("while access is open, no caller is known, so none can approve or refuse")


class ReviewerNotAsked(Conflict):
    """A policy does not count approvals of this reviewer."""

    code = "reviewer_not_asked"

    def __init__(self, why: str) -> None:
        super().__init__(f"a policy does not count this review: {why}")


class TooManyReviews(Conflict):
    """The proposal has as many reviews and remarks as may be."""

    code = "too_many_reviews"

    def __init__(self, most: int) -> None:
        super().__init__(f"a proposal has at most {most} reviews and remarks")


class ProposalStale(Conflict):
    """`places` has, for each stale item, its number and the keys that were changed since."""

    code = "proposal_stale"

    def __init__(self, places: Sequence[tuple[int, Sequence[str]]]) -> None:
        super().__init__(
            "what the proposal changes was changed since; make a new round of it",
            stale=[{"item": number, "keys": list(keys)[:_MOST_NAMED]} for number, keys in places],
        )


class ChecksFailed(Invalid):
    """The checks of a proposal found what keeps it from being applied."""

    code = "checks_failed"

    def __init__(self, flaws: Sequence[Mapping[str, object]]) -> None:
        super().__init__("the checks of the proposal have failed")
        self.flaws = flaws


class WindowClosed(Conflict):
    """A policy allows no changes at this time."""

    code = "window_closed"

    def __init__(self, policy: str) -> None:
        super().__init__(f"the policy {policy!r} allows no changes at this time", policy=policy)


class BadSchedule(Invalid):
    """The time at which the proposal is to be applied cannot be used."""

    code = "bad_schedule"

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.flaws = ({"pointer": "#/at", "detail": why, "code": self.code},)


class BadRound(Invalid):
    """Another round states its items or a rebase, one of them."""

    code = "bad_round"

    def __init__(self) -> None:
        super().__init__("another round states either `items` or `rebase`")


class BadItem(Invalid):
    """An item cannot be proposed; `number` counts from 0."""

    code = "bad_item"

    def __init__(self, number: int, why: str, member: str = "") -> None:
        super().__init__(f"item {number}: {why}")
        place = f"#/items/{number}" + (f"/{member}" if member else "")
        self.flaws = ({"pointer": place, "detail": why, "code": self.code},)


class ItemRefused(Invalid):
    """An item cannot be proposed as it could not be written.

    `error` says why; its flaws are in a `member` of the item, or in the item itself.
    """

    code = "item_refused"

    def __init__(self, number: int, error: PilothouseError, member: str = "") -> None:
        super().__init__(f"item {number}: {error}", item=number, reason=error.code)
        flaws = error.flaws if isinstance(error, Invalid) else ()
        place = f"#/items/{number}" + (f"/{member}" if member else "")
        self.flaws = [
            {**flaw, "pointer": place + str(flaw.get("pointer", "")).removeprefix("#")}
            for flaw in flaws
        ] or [{"pointer": f"#/items/{number}", "detail": str(error), "code": error.code}]


class ItemsOverlap(Invalid):
    """Two items of the proposal change the same thing."""

    code = "items_overlap"

    def __init__(self, first: int, second: int, what: str) -> None:
        super().__init__(f"items {first} and {second} both change {what}")
        self.flaws = ({"pointer": f"#/items/{second}", "detail": str(self), "code": self.code},)


class NothingProposed(Invalid):
    """An item changes nothing."""

    code = "nothing_proposed"

    def __init__(self, number: int) -> None:
        super().__init__(f"item {number} changes nothing")
        self.flaws = ({"pointer": f"#/items/{number}", "detail": str(self), "code": self.code},)


class RebaseConflict(Conflict):
    """`keys` of items by their numbers: they were changed since, to something else."""

    code = "rebase_conflict"

    def __init__(self, places: Iterable[tuple[int, Sequence[str]]]) -> None:
        super().__init__(
            "some of what the proposal changes was changed since: say which side is kept",
            conflicts=[
                {"item": number, "keys": list(keys)[:_MOST_NAMED]} for number, keys in places
            ],
        )


class BodyTaken(Conflict):
    """Another caller has written the same round."""

    code = "round_taken"

    def __init__(self, name: str) -> None:
        super().__init__(f"the round {name!r} exists already")


class BodyMissing(NotFound):
    """What the proposal sets was destroyed in the store."""

    code = "proposal_body_missing"

    def __init__(self, name: str) -> None:
        super().__init__(f"what the round {name!r} sets does not exist any more")


class BodyTooLarge(TooLarge):
    """What the proposal sets is larger than the store takes."""

    code = "proposal_too_large"

    def __init__(self, size: int, most: int) -> None:
        super().__init__(
            f"the proposal takes {size} bytes, and at most {most} can be stored", limit=most
        )
