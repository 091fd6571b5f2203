"""F. A release: two controllers, two replicas, two clients, one row in Postgres, one document.

Client 0 has the candidate from the first step on, client 1 once all have it. Controllers read the
row and write what they decide by compare-and-set on its version; they crash between any two steps.
The database freezes for a while: nothing is read from it or written to it. A replica follows the
log in order, and clients read again what it has followed.

What is promised: each step is taken once, and not before its time; what was refused is not written;
the end writes the document once; a client that has the new value loses it only by an abort, and
after one none has it.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from tests.models.checker import Case, main

STEPS = 2  # the second one gives the candidate to all
Event = tuple[str, int]  # a state of the release and its step, or ("written", 0)
Step = tuple[str, "State"]
T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """What is left out in the cases.

    `compares`: a decision is written only over the version that it was made from. `records_end`:
    the end is recorded before the document is written, and nothing is aborted from then on.
    `has_key`: the write at the end has a key of its own, so that it is made once. `serves_end`:
    the candidate is served to all until the end is complete. `writes_first`: the end is complete
    only after the write. `keeps_last`: a replica without the database serves the last known step.
    """

    compares: bool = True
    records_end: bool = True
    has_key: bool = True
    serves_end: bool = True
    writes_first: bool = True
    keeps_last: bool = True
    crashes: int = 2
    freezes: int = 1


class Row(NamedTuple):
    state: str = "running"
    step: int = 0
    version: int = 1


class Controller(NamedTuple):
    at: str = "idle"  # or what it has decided
    version: int = 0  # of the row that it has read


class Client(NamedTuple):
    position: int = 0  # of the log, that it has read at
    has_new: bool = False


class State(NamedTuple):
    row: Row = Row()
    is_due: bool = False  # the time of the step is over
    is_refused: bool = False
    log: tuple[Event, ...] = (("running", 0),)
    writes: int = 0
    controllers: tuple[Controller, ...] = (Controller(),) * 2
    replicas: tuple[int, ...] = (0, 0)  # positions in the log
    clients: tuple[Client, ...] = (Client(),) * 2
    is_frozen: bool = False
    crashes: int = 2
    freezes: int = 1
    bad: str | None = None


def put(values: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    return (*values[:at], value, *values[at + 1 :])


class Release:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def initial(self) -> State:
        return State(crashes=self.rules.crashes, freezes=self.rules.freezes)

    def steps(self, state: State) -> Iterator[Step]:
        if state.bad:
            return
        yield from _environment(state)
        for number in (0, 1):
            if not state.is_frozen:
                yield from self._controller_steps(state, number)
                if state.replicas[number] < len(state.log):
                    position = state.replicas[number] + 1
                    followed = put(state.replicas, number, position)
                    yield f"replica {number} follows", state._replace(replicas=followed)
            for client in (0, 1):
                yield from self._reads(state, number, client)

    def always(self, state: State) -> str | None:
        if state.bad:
            return state.bad
        if state.writes > 1:
            return "the end has written twice"
        if state.writes and state.row.state == "aborted":
            return "what was taken back has been written"
        return None

    def settled_flaw(self, state: State) -> str | None:
        if state.is_frozen:
            return None
        if state.is_refused and state.row.state == "running":
            return "a refused release goes on"
        if state.row.state == "finishing":
            return "the end is never complete"
        if state.row.state == "done" and state.writes != 1:
            return "it is done, and nothing was written"
        is_new = state.row.state == "done"
        if state.row.state != "running" and any(c.has_new != is_new for c in state.clients):
            return f"a client is on the wrong value, {state.row.state}"
        return None

    # Controllers

    def _controller_steps(self, state: State, number: int) -> Iterator[Step]:
        controller, row = state.controllers[number], state.row
        if controller.at == "idle":
            decision = self._decision(state)
            if decision:
                decided = Controller(decision, row.version)
                yield (
                    f"controller {number} decides to {decision}",
                    _with_controller(state, number, decided),
                )
            return
        after = _with_controller(state, number, Controller())
        if controller.at == "write":
            yield f"controller {number} writes", self._write_document(after, number, controller)
        elif self.rules.compares and controller.version != row.version:
            yield f"controller {number} comes too late", after
        else:
            yield (
                f"controller {number} records {controller.at}",
                self._record_write(after, controller),
            )

    def _decision(self, state: State) -> str | None:
        row = state.row
        if row.state == "finishing":
            is_written = state.writes or not self.rules.writes_first
            return "complete" if is_written else "write"
        if row.state != "running":
            return None
        if state.is_refused:
            return "abort"
        if not state.is_due:
            return None
        if row.step < STEPS - 1:
            return "advance"
        return "finish" if self.rules.records_end else "write"

    def _write_document(self, state: State, number: int, controller: Controller) -> State:
        is_repeated = self.rules.has_key and state.writes
        if not is_repeated:
            state = state._replace(writes=state.writes + 1, log=(*state.log, ("written", 0)))
        return _with_controller(state, number, Controller("complete", controller.version))

    def _record_write(self, state: State, controller: Controller) -> State:
        row, action = state.row, controller.at
        if action == "advance" and not state.is_due:
            return state._replace(bad="a step was left before its time")
        if row.state == "aborted":
            return state._replace(bad=f"{action} after an abort")
        name = {"advance": "running", "abort": "aborted", "finish": "finishing", "complete": "done"}
        step = row.step + (action == "advance")
        changed = Row(name[action], step, row.version + 1)
        log = (*state.log, (changed.state, step))
        return state._replace(row=changed, is_due=False, log=log)

    # Clients

    def _reads(self, state: State, replica: int, client: int) -> Iterator[Step]:
        """A client that has heard of a change reads again, and never what is older."""
        position, held = state.replicas[replica], state.clients[client]
        is_lost = state.is_frozen and not self.rules.keeps_last
        if position <= held.position and not (is_lost and held.has_new):
            return
        has_new = self._has_new(state.log[:position], client, is_lost=is_lost)
        after = state._replace(clients=put(state.clients, client, Client(position, has_new)))
        is_aborted = ("aborted", state.row.step) in state.log[:position]
        if held.has_new and not has_new and not is_aborted:
            after = after._replace(bad=f"client {client} has lost the new value without an abort")
        yield f"client {client} reads from {replica}", after

    def _has_new(self, log: tuple[Event, ...], client: int, *, is_lost: bool) -> bool:
        if ("written", 0) in log:
            return True
        states = [event for event in log if event[0] != "written"]
        if is_lost or not states:
            return False
        name, step = states[-1]
        if name == "finishing":
            return self.rules.serves_end
        return name == "running" and client <= step


def _with_controller(state: State, number: int, controller: Controller) -> State:
    return state._replace(controllers=put(state.controllers, number, controller))


def _environment(state: State) -> Iterator[Step]:
    if state.row.state == "running" and not state.is_due:
        yield "!the time of the step is over", state._replace(is_due=True)
    if not state.is_refused and state.row.state == "running" and not state.is_frozen:
        yield "!an instance refuses", state._replace(is_refused=True)
    if state.freezes and not state.is_frozen:
        frozen = state._replace(is_frozen=True, freezes=state.freezes - 1)
        yield "!the database freezes", frozen
    if state.is_frozen:
        yield "!the database answers again", state._replace(is_frozen=False)
    for number, controller in enumerate(state.controllers):
        if state.crashes and controller.at != "idle":
            crashed = _with_controller(state, number, Controller())
            yield f"!controller {number} dies", crashed._replace(crashes=state.crashes - 1)


def with_rules(**changes: object) -> Callable[[], Release]:
    return lambda: Release(replace(Rules(), **changes))  # type: ignore[arg-type]  # of each field


RUNS = {
    "seeded": Case(
        "violation",
        "SEEDED BUG: a decision is written whatever the row has become",
        with_rules(compares=False, crashes=0, freezes=0),
    ),
    "ablate-record": Case(
        "violation",
        "the document is written before the end is recorded: an abort comes between",
        with_rules(records_end=False, crashes=0, freezes=0),
    ),
    "ablate-key": Case(
        "violation",
        "the write at the end has no key: after a crash it is made twice",
        with_rules(has_key=False),
    ),
    "ablate-serving": Case(
        "violation",
        "the candidate is not served any more once the end is recorded: values flap",
        with_rules(serves_end=False, crashes=0, freezes=0),
    ),
    "ablate-order": Case(
        "violation",
        "the end is complete before the document is written: values flap",
        with_rules(writes_first=False, crashes=0, freezes=0),
    ),
    "ablate-last": Case(
        "violation",
        "a replica without the database serves the stable value",
        with_rules(keeps_last=False, crashes=0),
    ),
    "quiet": Case("pass", "no crash, no outage", with_rules(crashes=0, freezes=0)),
    "crashes": Case("pass", "two crashes at any step", with_rules(freezes=0)),
    "frozen": Case("pass", "an outage of the database, and a crash", with_rules(crashes=1)),
}

if __name__ == "__main__":
    sys.exit(main("F. releases", RUNS, sys.argv[1:]))
