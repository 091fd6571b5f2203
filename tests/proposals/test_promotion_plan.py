"""A promotion of flags and segments states the versions that were compared."""

import json
from typing import Any

from app.flags.definitions.plans import StatedItem
from app.flags.definitions.representations import definition_text
from app.proposals.promotion.comparer import Comparison
from app.proposals.promotion.model import ABSENT, UNKNOWN, Row, RowKey, RowKind, State
from app.proposals.promotion.plan import ChosenRow, plan_promotion
from tests.flags.test_plans import STAFF, SWITCH

FLAG = json.loads(definition_text(SWITCH))
SEGMENT = json.loads(definition_text(STAFF))


def planned_item(kind: RowKind, state: State, source: Any, target: Any, version: int) -> StatedItem:
    name = (target if source is ABSENT else source)["name"]
    subject = RowKey(kind, "", name)
    row = Row(subject, state, UNKNOWN, source, target)
    plain = {} if source is ABSENT else {subject: source}
    comparison = Comparison([row], {subject: (3, version)}, {}, plain, {})
    [item] = plan_promotion(comparison, [ChosenRow(subject)]).items
    return item


def test_a_flag_is_written_on_top_of_the_version_that_was_compared() -> None:
    item = planned_item("flag", "both", FLAG, {**FLAG, "enabled": not FLAG["enabled"]}, 7)

    assert item == StatedItem("flag", SWITCH.name, SWITCH, is_archived=False, base=7)


def test_a_new_segment_is_written_only_where_there_is_none() -> None:
    item = planned_item("segment", "new", SEGMENT, ABSENT, 0)

    assert item == StatedItem("segment", STAFF.name, STAFF, base=0)


def test_a_flag_that_is_gone_in_the_source_is_archived() -> None:
    item = planned_item("flag", "removed", ABSENT, FLAG, 2)

    assert item == StatedItem("flag", SWITCH.name, SWITCH, is_archived=True, base=2)
