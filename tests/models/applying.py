"""G. Applying a proposal: two items on two documents, and two holders who may both act.

A holder has the claim, or believes so. It reads the row of the proposal, writes item after item by
protocol A, and records the outcome of each in the row. Holders die and begin again; other writers
change the documents meanwhile, with keys of the item (a clash) or without (a neighbour).

Protocol A is folded to what matters here: an intent on base N either becomes version N + 1, or is
lost once another version has that number; its request may arrive late. An item may be refused, by a
schema that has changed, say; a moment later it may pass.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from tests.models.checker import Case, main

ITEMS = (0, 1)
CLASH = ("clash",)
FAILED = {"stale", "refused", "unanswered"}
Step = tuple[str, "State"]
T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """What is decided otherwise in the cases, and what the environment does.

    `has_key`: the intents of an item are found under its key, whoever began them. `is_pinned`: an
    item is written on the version that the row names. `waits`: for an item without an answer.
    `compares`: the row is replaced only as it was read. `closes`: before an item is called refused,
    its key is closed, unless an intent has been begun under it. `undoes`: `on_failure: undo`.
    `records`: a failure is recorded before anything is undone. `undo_base`: what is undone is
    "applied", the version that the item has become, or the "newest" one. `withdrawals`: by the
    author, before it is started.
    """

    has_key: bool = True
    is_pinned: bool = True
    waits: bool = True
    compares: bool = True
    closes: bool = True
    undoes: bool = False
    records: bool = True
    undo_base: str = "applied"
    others: tuple[str, ...] = ("clash", "neighbour")
    deaths: int = 1
    refusals: int = 1
    withdrawals: int = 1


class Row(NamedTuple):
    state: str = "approved"
    pins: tuple[int, ...] = (1, 1)
    outcomes: tuple[str, ...] = ("", "")
    version: int = 0


class Intent(NamedTuple):
    state: str  # open | applied | lost | closed
    base: int
    holder: int


class Holder(NamedTuple):
    at: str = "idle"
    row: Row = Row()


class State(NamedTuple):
    """Slots 0 and 1 are the items, 2 and 3 what undoes them."""

    documents: tuple[tuple[str, ...], ...] = (("before",), ("before",))  # who wrote each version
    intents: tuple[tuple[Intent, ...], ...] = ((), (), (), ())
    requests: frozenset[tuple[int, int]] = frozenset()  # by slot and number of the intent
    row: Row = Row()
    holders: tuple[Holder, ...] = (Holder(), Holder())
    others: tuple[tuple[str, int], ...] = ()  # writes to come
    deaths: int = 1
    refusals: int = 1
    withdrawals: int = 1
    is_withdrawn: bool = False


def put(values: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    return (*values[:at], value, *values[at + 1 :])


def author(slot: int, number: int) -> str:
    return f"{'item' if slot in ITEMS else 'undo'} {number}"


def versions_of(state: State, slot: int) -> list[int]:
    """Return the indices of the versions that a slot has written."""
    word = "item" if slot in ITEMS else "undo"
    document = state.documents[slot % 2]
    return [index for index, who in enumerate(document) if who.startswith(word)]


class Applying:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def initial(self) -> State:
        others = tuple((kind, item) for kind in self.rules.others for item in ITEMS)
        rules = self.rules
        return State(
            others=others,
            deaths=rules.deaths,
            refusals=rules.refusals,
            withdrawals=rules.withdrawals,
        )

    def steps(self, state: State) -> Iterator[Step]:
        for number, holder in enumerate(state.holders):
            if holder.at != "done":
                for label, after in self._holder_steps(state, number, holder):
                    sign = "!" if label.startswith("!") else ""
                    yield f"{sign}holder {number} {label.removeprefix('!')}", after
        yield from _arrivals(state)
        if state.withdrawals and state.row.state == "approved":
            withdrawn = state.row._replace(state="withdrawn", version=state.row.version + 1)
            left = state.withdrawals - 1
            after = state._replace(row=withdrawn, withdrawals=left, is_withdrawn=True)
            yield "!the author withdraws it", after
        for other in state.others:
            kind, item = other
            documents = put(state.documents, item, (*state.documents[item], kind))
            rest = tuple(each for each in state.others if each != other)
            label = f"!a {kind} changes document {item}"
            yield label, state._replace(documents=documents, others=rest)

    def always(self, state: State) -> str | None:
        if state.is_withdrawn and state.row.state != "withdrawn":
            return "it is applied though it was withdrawn"
        flaws = (_order_flaw(state, item) or _outcome_flaw(state, item) for item in ITEMS)
        return next((flaw for flaw in flaws if flaw), None)

    def settled_flaw(self, state: State) -> str | None:
        return "left half applied" if state.row.state in {"applying", "undoing"} else None

    def _holder_steps(self, state: State, number: int, holder: Holder) -> Iterator[Step]:
        if state.deaths:
            yield "!dies", _with_holder(state._replace(deaths=state.deaths - 1), number, Holder())
        match holder.at:
            case "idle":
                yield _next(state, number, state.row)
            case "start":
                yield self._start(state, number, holder.row)
            case "item":
                item = holder.row.outcomes.index("")
                yield from self._write(state, number, holder.row, item)
            case "refused":
                yield self._fail(state, number, holder.row, holder.row.outcomes.index(""))
            case "undo":
                yield from self._undo(state, number, holder.row)
            case "end":
                yield self._end(state, number, holder.row)

    def _start(self, state: State, number: int, row: Row) -> Step:
        if any("clash" in document for document in state.documents):
            return "sees that it is stale", _with_holder(state, number, Holder("done"))
        pins = tuple(len(document) for document in state.documents)
        return self._replace_row(
            state, number, row, "starts", row._replace(state="applying", pins=pins)
        )

    def _write(self, state: State, number: int, row: Row, item: int) -> Iterator[Step]:
        at, intent = self._newest(state, number, item)
        if intent is not None and intent.state == "open":
            yield from self._follow(state, number, row, item, at)
        elif intent is not None and intent.state == "applied":
            outcomes = put(row.outcomes, item, "applied")
            yield self._replace_row(
                state, number, row, f"notes {item}", row._replace(outcomes=outcomes)
            )
        elif intent is not None and intent.state == "closed":
            yield self._record_failure(state, number, row, item, "refused")
        elif self.rules.is_pinned and len(state.documents[item]) != row.pins[item]:
            yield self._pin_again(state, number, row, item)
        else:
            yield (
                f"begins item {item}",
                _with_intent(state, number, item, len(state.documents[item])),
            )
            if state.refusals:
                refused = state._replace(refusals=state.refusals - 1)
                yield (
                    f"!is refused item {item}",
                    _with_holder(refused, number, Holder("refused", row)),
                )

    def _newest(self, state: State, number: int, slot: int) -> tuple[int, Intent | None]:
        """Return the newest intent that this holder finds, with its place."""
        for at in reversed(range(len(state.intents[slot]))):
            intent = state.intents[slot][at]
            if self.rules.has_key or intent.holder == number:
                return at, intent
        return 0, None

    def _follow(self, state: State, number: int, row: Row, slot: int, at: int) -> Iterator[Step]:
        """Decide an open intent by the version after its base, or else send again."""
        intent, document = state.intents[slot][at], state.documents[slot % 2]
        if len(document) > intent.base:
            is_own = document[intent.base] == author(slot, at)
            decided = intent._replace(state="applied" if is_own else "lost")
            intents = put(state.intents, slot, put(state.intents[slot], at, decided))
            yield f"sees {slot} {decided.state}", state._replace(intents=intents)
            return
        if (slot, at) not in state.requests:
            yield f"sends {slot} again", state._replace(requests=state.requests | {(slot, at)})
        if not self.rules.waits:
            if slot in ITEMS:
                yield self._record_failure(state, number, row, slot, "unanswered")
            else:
                yield self._note_kept(state, number, row, slot % 2)

    def _pin_again(self, state: State, number: int, row: Row, item: int) -> Step:
        if "clash" in state.documents[item]:
            return self._record_failure(state, number, row, item, "stale")
        pins = put(row.pins, item, len(state.documents[item]))
        return self._replace_row(state, number, row, f"pins {item} again", row._replace(pins=pins))

    def _fail(self, state: State, number: int, row: Row, item: int) -> Step:
        if not self.rules.records:
            after = Row("undoing", row.pins, put(row.outcomes, item, "refused"), row.version)
            return "undoes at once", _with_holder(state, number, Holder("undo", after))
        if not self.rules.closes:
            return self._record_failure(state, number, row, item, "refused")
        _, newest = self._newest(state, number, item)
        if newest is not None and newest.state not in {"lost", "closed"}:
            return "finds an intent under the key", _with_holder(state, number, Holder("item", row))
        closed = (*state.intents[item], Intent("closed", 0, number))
        after_closing = state._replace(intents=put(state.intents, item, closed))
        return f"closes the key of {item}", _with_holder(after_closing, number, Holder("item", row))

    def _record_failure(self, state: State, number: int, row: Row, item: int, why: str) -> Step:
        outcomes = put(row.outcomes, item, why)
        follows = "undoing" if self.rules.undoes else row.state
        label = f"notes {item} {why}"
        return self._replace_row(
            state, number, row, label, row._replace(outcomes=outcomes, state=follows)
        )

    def _undo(self, state: State, number: int, row: Row) -> Iterator[Step]:
        if "applied" not in row.outcomes:
            yield "has undone all", _with_holder(state, number, Holder("end", row))
            return
        item = row.outcomes.index("applied")
        slot, (written, *_) = item + 2, versions_of(state, item)
        at, intent = self._newest(state, number, slot)
        if intent is not None and intent.state == "open":
            yield from self._follow(state, number, row, slot, at)
        elif intent is not None and intent.state == "applied":
            outcomes = put(row.outcomes, item, "undone")
            yield self._replace_row(
                state, number, row, f"notes {item} undone", row._replace(outcomes=outcomes)
            )
        elif self.rules.undo_base == "newest":
            yield f"undoes {item}", _with_intent(state, number, slot, len(state.documents[item]))
        elif len(state.documents[item]) > written + 1:
            yield self._note_kept(state, number, row, item)
        else:
            yield f"undoes {item}", _with_intent(state, number, slot, written + 1)

    def _note_kept(self, state: State, number: int, row: Row, item: int) -> Step:
        outcomes = put(row.outcomes, item, "kept")
        return self._replace_row(
            state, number, row, f"keeps {item}", row._replace(outcomes=outcomes)
        )

    def _end(self, state: State, number: int, row: Row) -> Step:
        left = {outcome for outcome in row.outcomes if outcome in {"applied", "kept"}}
        end = "partly" if left else "undone" if "undone" in row.outcomes else "not applied"
        if row.outcomes == ("applied", "applied"):
            end = "applied"
        return self._replace_row(state, number, row, f"ends: {end}", row._replace(state=end))

    def _replace_row(self, state: State, number: int, row: Row, label: str, new: Row) -> Step:
        """Replace the row, if it is as it was read, and go on with what it says then."""
        if self.rules.compares and state.row != row:
            return "finds the row moved", _with_holder(state, number, Holder())
        after = new._replace(version=state.row.version + 1)
        return label, _next(state._replace(row=after), number, after)[1]


def _with_holder(state: State, number: int, holder: Holder) -> State:
    return state._replace(holders=put(state.holders, number, holder))


def _next(state: State, number: int, row: Row) -> Step:
    """Let a holder go on with a row as it has read it."""
    has_failed = any(outcome in FAILED for outcome in row.outcomes)
    match row.state:
        case "approved":
            at = "start"
        case "applying":
            at = "end" if has_failed or "" not in row.outcomes else "item"
        case "undoing":
            at = "undo"
        case _:
            at = "done"
    return "reads the row", _with_holder(state, number, Holder(at, row))


def _with_intent(state: State, number: int, slot: int, base: int) -> State:
    intents = (*state.intents[slot], Intent("open", base, number))
    return state._replace(
        intents=put(state.intents, slot, intents),
        requests=state.requests | {(slot, len(intents) - 1)},
    )


def _arrivals(state: State) -> Iterator[Step]:
    for request in state.requests:
        slot, at = request
        document, base = state.documents[slot % 2], state.intents[slot][at].base
        after = state._replace(requests=state.requests - {request})
        if len(document) == base:
            documents = put(state.documents, slot % 2, (*document, author(slot, at)))
            yield f"{slot} lands", after._replace(documents=documents)
        else:
            yield f"{slot} is refused by Vault", after


def _order_flaw(state: State, item: int) -> str | None:
    """Say what is wrong with the versions of a document."""
    written, undone = versions_of(state, item), versions_of(state, item + 2)
    if len(written) > 1 or len(undone) > 1:
        return f"item {item} was written or undone twice"
    if written and "clash" in state.documents[item][: written[0]]:
        return f"item {item} was written over a newer value of its own key"
    if undone and undone[0] != written[0] + 1:
        return f"undoing item {item} has overwritten a newer version"
    return None


def _outcome_flaw(state: State, item: int) -> str | None:
    """Say what is wrong with the outcome of an item, once the proposal has ended."""
    if state.row.state in {"approved", "applying", "undoing"}:
        return None
    written, undone = versions_of(state, item), versions_of(state, item + 2)
    is_there, outcome = bool(written) and not undone, state.row.outcomes[item]
    if is_there != (outcome in {"applied", "kept"}) or bool(undone) != (outcome == "undone"):
        where = "there" if is_there else "not there"
        return f"item {item} is said to be {outcome or 'not tried'} and is {where}"
    if outcome == "kept" and state.documents[item][-1].startswith("item"):
        return f"item {item} is said to be written since, and is not"
    return None


def stop(**changes: object) -> Callable[[], Applying]:
    return lambda: Applying(replace(Rules(), **changes))  # type: ignore[arg-type]


def undo(**changes: object) -> Callable[[], Applying]:
    few = Rules(undoes=True, others=CLASH, deaths=0)
    return lambda: Applying(replace(few, **changes))  # type: ignore[arg-type]


RUNS = {
    "stop": Case("pass", "every kind of other writer, a death, a refusal", stop()),
    "stop-deaths": Case(
        "pass", "two deaths, two refusals", stop(deaths=2, refusals=2, others=CLASH)
    ),
    "stop-few": Case("pass", "one death, one refusal, clashes", stop(others=CLASH)),
    "undo": Case("pass", "undone after a refusal or a clash", undo()),
    "undo-death": Case("pass", "the same, and a holder dies", undo(deaths=1)),
    "undo-others": Case("pass", "every kind of other writer", undo(others=Rules.others, deaths=1)),
    "seeded": Case(
        "violation", "SEEDED BUG: each holder writes under a key of its own", stop(has_key=False)
    ),
    "ablate-pin": Case("violation", "no demanded base", stop(is_pinned=False, others=CLASH)),
    "ablate-wait": Case("violation", "an unanswered item is called failed", stop(waits=False)),
    "ablate-close": Case(
        "violation", "a refused item is recorded, its key is left open", stop(closes=False)
    ),
    "ablate-compare": Case(
        "violation", "the row is started whatever it says by then", stop(compares=False)
    ),
    "blind": Case(
        "pass",
        "the same without withdrawals: harmless, as the keys decide what is written",
        stop(compares=False, withdrawals=0, others=CLASH),
    ),
    "ablate-undo-record": Case(
        "violation", "a holder undoes before it has recorded the failure", undo(records=False)
    ),
    "ablate-undo-key": Case(
        "violation", "each holder undoes under a key of its own", undo(has_key=False)
    ),
    "ablate-undo-base": Case("violation", "undone on the newest version", undo(undo_base="newest")),
    "ablate-undo-wait": Case(
        "violation", "what is unanswered is said to be kept", undo(waits=False, refusals=1)
    ),
}

if __name__ == "__main__":
    sys.exit(main("G. applying a proposal", RUNS, sys.argv[1:]))
