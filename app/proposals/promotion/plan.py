"""What the chosen rows of a comparison change in the target. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.configs.secrets import holds_secret
from app.flags.definitions.plans import StatedItem
from app.proposals.promotion.comparer import Comparison
from app.proposals.promotion.comparison import sections_of
from app.proposals.promotion.errors import RowsRefused
from app.proposals.promotion.model import ABSENT, UNKNOWN, Row, RowKey
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.trees import SECRET, is_secret


@dataclass(frozen=True, slots=True)
class ChosenRow:
    """A row to be promoted; `value` takes the place of what the source has, ABSENT for that."""

    subject: RowKey
    value: Any = field(default=ABSENT, repr=False)


@dataclass(frozen=True, slots=True)
class DocumentPlan:
    """What is set and removed in the layer of one service; `expected`: see Comparison."""

    service: str
    set: Mapping[str, Any] = field(repr=False)
    unset: tuple[str, ...]
    expected: int


@dataclass(frozen=True, slots=True)
class PromotionPlan:
    """What a promotion changes: each document, and all flags and segments together.

    `chosen`: the rows with the versions of
    the source that they come from; `agreeing`: those of rows that are the same on both sides.
    """

    documents: Sequence[DocumentPlan]
    items: tuple[StatedItem, ...]
    chosen: Sequence[tuple[RowKey, int]]
    agreeing: Sequence[tuple[RowKey, int]]


def plan_promotion(comparison: Comparison, chosen: Sequence[ChosenRow]) -> PromotionPlan:
    """Return what the chosen rows change; rows that are the same already change nothing.

    Raises RowsRefused for rows that are not in the comparison, are chosen twice or are pinned, for
    secrets without a value, and where neither source nor row has one.
    """
    rows = {row.subject: row for row in comparison.rows}
    for each in chosen:  # a key that neither side has yet, with a value of its own
        kind, service, _ = each.subject
        if each.value is not ABSENT and kind == "config" and service in comparison.expected:
            rows.setdefault(each.subject, Row(each.subject, "new", UNKNOWN, ABSENT, ABSENT))
    _refuse_rows(rows, chosen)
    taken = [
        each for each in chosen if rows[each.subject].state != "same" or each.value is not ABSENT
    ]
    services = dict.fromkeys(
        each.subject.service for each in taken if each.subject.kind == "config"
    )
    return PromotionPlan(
        [_document_plan(comparison, rows, service, taken) for service in services],
        tuple(_stated_items(comparison, rows, taken)),
        [(each.subject, _source_version(comparison, each.subject)) for each in taken],
        [
            (row.subject, _source_version(comparison, row.subject))
            for row in comparison.rows
            if row.state == "same" and not row.is_overlaid
        ],
    )


def _refuse_rows(rows: Mapping[RowKey, Row], chosen: Sequence[ChosenRow]) -> None:
    seen: set[RowKey] = set()
    refused: list[tuple[int, str]] = []
    for number, each in enumerate(chosen):
        reason = _refusal(rows.get(each.subject), each, is_twice=each.subject in seen)
        if reason:
            refused.append((number, reason))
        seen.add(each.subject)
    if refused:
        raise RowsRefused(refused)


def _refusal(row: Row | None, each: ChosenRow, *, is_twice: bool) -> str:
    """Return why a row cannot be promoted, "" if it can."""
    if is_twice:
        return "is chosen twice"
    if row is None:
        return "is not in the comparison of these environments"
    if row.state == "pinned":
        return "is pinned: no promotion changes it"
    return _value_refusal(row, each)


def _value_refusal(row: Row, each: ChosenRow) -> str:
    if each.value is not ABSENT:
        return "" if each.subject.kind == "config" else "takes no value"
    if row.state == "secret":
        return "is a secret, which is not taken from the source: it needs a value"
    is_kept = row.state == "kept" or each.subject.kind == "segment"
    if row.source is ABSENT and is_kept:
        return "is only in the target: there is nothing to promote"
    return ""


def _stated_items(
    comparison: Comparison, rows: Mapping[RowKey, Row], taken: Sequence[ChosenRow]
) -> Iterator[StatedItem]:
    """Yield the flags, and then the segments, on top of the versions that were compared."""
    for subject in sorted(each.subject for each in taken):
        base = comparison.versions.get(subject, (0, 0))[1]
        if subject.kind == "segment":
            segment = read_segment(comparison.plain[subject])
            yield StatedItem("segment", subject.key, segment, base=base)
        elif subject.kind == "flag":
            row = rows[subject]
            is_gone = row.source is ABSENT
            flag = read_flag(row.target if is_gone else row.source)
            yield StatedItem("flag", subject.key, flag, is_archived=is_gone, base=base)


def _document_plan(
    comparison: Comparison,
    rows: Mapping[RowKey, Row],
    service: str,
    taken: Sequence[ChosenRow],
) -> DocumentPlan:
    set_: dict[str, Any] = {}
    unset: list[str] = []
    for each in taken:
        if (each.subject.kind, each.subject.service) != ("config", service):
            continue
        row, key = rows[each.subject], each.subject.key
        if each.value is not ABSENT:
            set_[key] = _secret_to_seal(each.value) if row.state == "secret" else each.value
        elif row.source is ABSENT:
            unset.append(key)
        else:
            set_[key] = comparison.plain[each.subject]
    unset += _keys_in_the_way(comparison, service, set_)
    return DocumentPlan(service, set_, tuple(unset), comparison.expected[service])


def _keys_in_the_way(comparison: Comparison, service: str, set_: Mapping[str, Any]) -> list[str]:
    """Return the leaves that only the target has, above or below keys that are set."""
    below = {section for key in set_ for section in sections_of(key)}
    return [
        row.subject.key
        for row in comparison.rows
        if row.subject[:2] == ("config", service)
        and row.source is ABSENT
        and (row.subject.key in below or not set_.keys().isdisjoint(sections_of(row.subject.key)))
    ]


def _secret_to_seal(value: Any) -> Any:
    """Return a value as a client sends one that is to be encrypted."""
    if is_secret(value) or holds_secret(value):
        return value
    return {SECRET: {"value": value}}


def _source_version(comparison: Comparison, subject: RowKey) -> int:
    place = RowKey("config", subject.service, "") if subject.kind == "config" else subject
    return comparison.versions[place][0]
