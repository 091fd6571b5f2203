"""A preview shows what the write then does, or is refused as the write is, whatever the plan."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import PilothouseError
from app.flags.cache import ItemKey
from app.flags.definitions.plan_json import plan_to_json
from app.flags.definitions.plans import ImportItems, Plan
from app.flags.evaluation.evaluator import FlagEvaluator
from app.flags.evaluation.usage import UsageCounter
from app.flags.service import FlagService
from app.flags.writer import WriteRequest
from app.sqlite.state import SQLiteState
from app.web.conditional import ANY_VERSION, IfMatch
from pilothouse_core.diff import Diff
from tests.flags.test_plans import BETA, OTHER, STAFF, SWITCH, plans
from tests.flags.test_writer import Replica
from tests.trials import trials

# What each example starts from: flags and segments, one of the flags archived.
PRESENT = ImportItems((SWITCH, OTHER), (STAFF, BETA), frozenset({"second"}))
numbers = count(1)
matches = st.sampled_from(
    [ANY_VERSION, ANY_VERSION, IfMatch(is_stated=True, versions=frozenset({1, 2}))]
)


def is_sendable(plan: Plan) -> bool:
    """Tell whether a request can hold it: half a surrogate pair is refused before it is read."""
    text = json.dumps(plan_to_json(plan), ensure_ascii=False)
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


sendable_plans = plans.filter(is_sendable)
Outcome = dict[ItemKey, tuple[int, str, Diff]] | tuple[type[Exception], str]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteState]:
    folder: Path = tmp_path_factory.mktemp("previews")
    state = SQLiteState(folder)
    yield state
    asyncio.run(state.close())


def service_of(replica: Replica) -> FlagService:
    counter = UsageCounter(replica.store, FlagEvaluator(replica.sets))
    return FlagService(replica.store, replica.sets, replica.writer, counter)


async def preview_plan(flags: FlagService, name: str, plan: Plan, expected: IfMatch) -> Outcome:
    try:
        preview = await flags.writer.preview(name, plan, expected)
    except PilothouseError as error:
        return type(error), str(error)
    items = [preview.item(edit.kind, edit.name) for edit in preview.edits]
    return {(one.kind, one.name): (one.version, one.definition, one.diff()) for one in items}


async def write_plan(flags: FlagService, name: str, plan: Plan, expected: IfMatch) -> Outcome:
    """Write, and return what the history shows; the version is the one that was replaced."""
    known = flags.environment(name)
    request = WriteRequest("ann", "", "request", expected)
    try:
        items = await flags.writer.write(name, plan, request)
    except PilothouseError as error:
        return type(error), str(error)
    found: dict[ItemKey, tuple[int, str, Diff]] = {}
    for one in items:
        ((newest, _, diff),) = await flags.history(one.kind, name, one.name, 1, None)
        former = known.live_item(one.kind, one.name) or known.archived_item(one.kind, one.name)
        version = 0 if former is None else newest.version - 1
        found[(one.kind, one.name)] = version, newest.definition, diff
    return found


@settings(max_examples=trials(40))
@given(steps=st.lists(st.tuples(sendable_plans, matches), min_size=1, max_size=8))
def test_a_preview_shows_what_the_history_shows_after_the_write(
    state: SQLiteState, steps: Sequence[tuple[Plan, IfMatch]]
) -> None:
    async def run() -> None:
        name = f"e{next(numbers)}"
        # The one that previews has not heard of what the other writes.
        previewing, writing = service_of(Replica(state)), service_of(Replica(state))
        await previewing.sets.refresh()
        await writing.sets.refresh()
        await writing.writer.write(name, PRESENT, WriteRequest("ann", "", "request"))
        for plan, expected in steps:
            before = writing.environment(name).revision

            shown = await preview_plan(previewing, name, plan, expected)
            await writing.sets.refresh()

            assert writing.environment(name).revision == before
            assert await write_plan(writing, name, plan, expected) == shown

    asyncio.run(run())
