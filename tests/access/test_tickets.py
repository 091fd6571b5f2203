"""Tickets: exactly how long one lives, and whose it is."""

from dataclasses import replace

import pytest

from app.access.errors import TokenRefused
from app.access.model import Principal, Right
from app.access.tickets import STEP_SECONDS, TICKET_SECONDS, StreamTickets

BEGIN = 1_800_000_000  # the beginning of ten minutes
ANN = Principal("token:page", (), token_id="0123456789abcdef")


class Clock:
    def __init__(self, now: float = BEGIN) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> StreamTickets:
    return StreamTickets(bytes(32), clock)


def life(tickets: StreamTickets, clock: Clock, ticket: str) -> float:
    """Return for how long a ticket is accepted from now on, to the millisecond."""
    begin = clock.now
    accepted, refused = 0, 10_000_000
    while refused - accepted > 1:
        middle = (accepted + refused) // 2
        clock.now = begin + middle / 1000
        try:
            tickets.verify(ticket)
        except TokenRefused:
            refused = middle
        else:
            accepted = middle
    clock.now = begin
    return refused / 1000


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [(0, 3600), (1, 3599), (299.5, 3300.5), (599, 3001), (599.999, 3000.001), (600, 3600)],
)
def test_a_ticket_lives_between_fifty_minutes_and_an_hour(
    tickets: StreamTickets, clock: Clock, moment: float, seconds: float
) -> None:
    clock.now = BEGIN + moment

    lived = life(tickets, clock, tickets.issue(ANN, "staging"))

    assert lived == pytest.approx(seconds, abs=0.0011)
    assert TICKET_SECONDS - STEP_SECONDS <= lived <= TICKET_SECONDS


def test_a_ticket_ends_with_the_token_it_was_issued_for(
    tickets: StreamTickets, clock: Clock
) -> None:
    ticket = tickets.issue(replace(ANN, expires_at=BEGIN + 7.5), "staging")

    assert life(tickets, clock, ticket) == 7.5


def test_tickets_of_the_same_ten_minutes_are_the_same(tickets: StreamTickets, clock: Clock) -> None:
    first = tickets.issue(ANN, "staging")
    clock.now += STEP_SECONDS - 1
    same = tickets.issue(ANN, "staging")
    clock.now += 1
    other = tickets.issue(ANN, "staging")

    assert first == same != other


def test_a_ticket_opens_the_events_of_one_environment(tickets: StreamTickets) -> None:
    holder = tickets.verify(tickets.issue(ANN, "staging"))

    assert holder.name == ANN.name
    assert holder.token_id == ANN.token_id
    assert [right for right in Right if holder.may(right, "staging", "shop")] == [Right.EVALUATE]
    assert not any(holder.may(right, "production", "shop") for right in Right)
