"""Whatever is done to a chain of rows is found, and named by the first row that it was done to."""

import hashlib
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.chain import BEGINNING, ChainHead, ChainRow, ChainVerifier
from app.hash_chain import FIRST_HASH, HASHED_FIELDS, epoch_microseconds, hash_row
from tests.access.chains import Fields, broken_row, chain, chain_rows, fields, head

FIELD = st.none() | st.text(max_size=8) | st.integers()
ROW = st.tuples(*[FIELD] * (len(HASHED_FIELDS) - 1))


def renumber(rows: list[ChainRow], by: int) -> list[ChainRow]:
    return [row._replace(seq=row.seq + by) for row in rows]


# What a hash covers


def test_a_hash_is_made_of_the_length_and_the_text_of_each_field() -> None:
    encoded = FIRST_HASH + b"1:1" + b"3:ana" + b"-" + b"0:" + b"2:" + "é".encode()

    assert hash_row(FIRST_HASH, (1, "ana", None, "", "é")) == hashlib.sha256(encoded).digest()


@given(st.lists(FIELD, max_size=6), st.lists(FIELD, max_size=6))
def test_no_two_rows_have_one_hash(one: list[str | int | None], other: list[str | int]) -> None:
    def text_fields(row: list[str | int | None]) -> list[str | None]:
        return [None if field is None else str(field) for field in row]

    assert (hash_row(FIRST_HASH, one) == hash_row(FIRST_HASH, other)) == (
        text_fields(one) == text_fields([*other])
    )


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_is_told_to_the_microsecond(at: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=epoch_microseconds(at)) == at


# A chain as it was written


@given(st.lists(ROW, max_size=20), st.integers(1, 30), st.sets(st.integers(0, 19)))
def test_what_was_written_is_in_order(many: list[Fields], batch: int, signed: set[int]) -> None:
    rows = chain_rows(many)
    heads = [head([row]) for number, row in enumerate(rows) if number in signed]

    assert broken_row(rows, head(rows) if rows else BEGINNING, heads, batch) is None


def test_who_trusts_a_row_begins_after_it() -> None:
    rows = chain(20)
    changed = rows[3]._replace(fields=fields(99))

    checker = ChainVerifier(after=head(rows[:9]), heads=[head(rows[:3]), head(rows[:12])])

    assert broken_row([*rows[:3], changed, *rows[4:]]) is not None
    assert checker.verify_rows(rows[9:]) is None
    assert (checker.finish(head(rows)), checker.rows, checker.last) == (None, 11, head(rows))


# What is done to it


@pytest.mark.parametrize("place", range(len(HASHED_FIELDS) - 1))
def test_a_row_that_says_something_else_is_changed(place: int) -> None:
    rows = chain(20)
    said = list(rows[8].fields)
    said[place] = "other" if said[place] != 9 else 10
    rows[8] = rows[8]._replace(fields=tuple(said))

    found = broken_row(rows, head(rows))

    assert found is not None
    assert (found.seq, found.fault) == (9, "changed")


def test_a_row_that_is_changed_with_its_hash_is_found_by_the_next() -> None:
    rows = chain(20)
    rows[8] = chain_rows([fields(99)], head(rows[:8]))[0]

    found = broken_row(rows, head(rows))

    assert found is not None
    assert (found.seq, found.fault) == (9, "changed")


def test_a_last_row_that_is_changed_with_its_hash_is_found_by_the_head() -> None:
    rows = chain(20)
    changed = [*rows[:19], *chain_rows([fields(99)], head(rows[:19]))]

    found = broken_row(changed, head(rows))

    assert found is not None
    assert (found.seq, found.fault) == (20, "changed")


@pytest.mark.parametrize("count", [1, 4])
def test_rows_that_are_gone_were_deleted(count: int) -> None:
    rows = chain(20)

    left = broken_row([*rows[:8], *rows[8 + count :]], head(rows))
    closed = broken_row([*rows[:8], *renumber(rows[8 + count :], -count)], head(rows))

    for found in (left, closed):
        assert found is not None
        assert (found.seq, found.fault) == (9, "deleted")


def test_the_first_row_can_be_missed() -> None:
    rows = chain(5)

    found = broken_row(rows[1:], head(rows))

    assert found is not None
    assert (found.seq, found.fault) == (1, "deleted")


def test_rows_that_nobody_wrote_were_inserted() -> None:
    rows = chain(20)
    new = ChainRow(9, rows[7].hash, bytes(32), fields(99))
    linked = chain_rows([fields(99)], head(rows[:8]))[0]
    beside = [*rows, new], [new, *rows], [*rows, linked], [linked, *rows]
    between = [[*rows[:8], one, *renumber(rows[8:], 1)] for one in (new, linked)]

    for stored in (*beside, *between):
        found = broken_row(stored, head(rows))
        assert found is not None
        assert found.fault == "inserted"
        assert found.seq == 9


def test_rows_behind_the_last_were_inserted() -> None:
    rows = chain(20)

    found = broken_row(chain(22), head(rows))

    assert found is not None
    assert (found.seq, found.fault) == (21, "inserted")


@pytest.mark.parametrize(("one", "other"), [(9, 10), (9, 15), (1, 20)])
def test_rows_that_stand_in_each_others_places_are_reordered(one: int, other: int) -> None:
    rows = chain(20)
    first, second = rows[one - 1], rows[other - 1]
    rows[one - 1] = second._replace(seq=one)
    rows[other - 1] = first._replace(seq=other)

    found = broken_row(rows, head(chain(20)))

    assert found is not None
    assert (found.seq, found.fault) == (one, "reordered")


def test_an_end_that_is_cut_off_is_missed_by_the_head_and_by_what_was_signed() -> None:
    rows = chain(20)

    by_head = broken_row(rows[:15], head(rows))
    by_signed = broken_row(rows[:15], head(rows[:15]), [head(rows[:4]), head(rows[:18])])

    for found in (by_head, by_signed):
        assert found is not None
        assert (found.seq, found.fault) == (16, "truncated")


def test_a_chain_that_is_written_anew_is_not_the_signed_one() -> None:
    rows = chain(20)
    signed = [head(rows[:4]), head(rows[:10]), head(rows[:18])]
    anew = [*rows[:7], *chain_rows([fields(n, "x") for n in range(8, 21)], head(rows[:7]))]

    found = broken_row(anew, head(anew), signed)

    assert found is not None
    assert (found.seq, found.fault) == (5, "rewritten")
    assert "rows 5 to 10" in found.detail


def test_of_several_heads_at_one_row_each_is_compared() -> None:
    rows = chain(5)

    assert broken_row(rows, head(rows), [head(rows[:3]), head(rows[:3])]) is None
    assert broken_row(rows, head(rows), [head(rows[:3]), ChainHead(3, bytes(32))]) is not None


# Anything at all, drawn from a seed

DONE = ("changed", "deleted", "inserted", "reordered", "truncated")


def tamper_with(draw: Random, rows: list[ChainRow], what: str) -> tuple[list[ChainRow], int]:
    """Do something to a chain; returns it and the first row that it was done to."""
    number = draw.randrange(1, len(rows) + 1)
    before, row, behind = rows[: number - 1], rows[number - 1], rows[number:]
    match what:
        case "changed":
            said = list(row.fields)
            place = draw.randrange(len(said))
            said[place] = f"{said[place]}!"
            return [*before, row._replace(fields=tuple(said)), *behind], number
        case "deleted" if behind:
            return [*before, *behind], number
        case "inserted":
            new = ChainRow(number, row.previous, draw.randbytes(32), fields(draw.randrange(10**6)))
            return [*before, new, *renumber([row, *behind], 1)], number
        case "reordered" if behind:
            other = draw.choice(behind)
            behind[other.seq - number - 1] = row._replace(seq=other.seq)
            return [*before, other._replace(seq=number), *behind], number
    return before, number


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_done_is_named(seed: int) -> None:
    draw = Random(seed)
    rows = chain(draw.randrange(2, 60))
    what = DONE[seed % len(DONE)]

    stored, number = tamper_with(draw, list(rows), what)

    found = broken_row(stored, head(rows), batch=draw.randrange(1, 20))
    assert found is not None
    is_cut = len(stored) == number - 1
    assert (found.seq, found.fault) == (number, "truncated" if is_cut else what)
