"""The services that have a document, kept up to date as if all pointers were looked through."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.changes.follower import Follower
from app.changes.log.embedded.ports import embedded_ports
from app.changes.log.port import LogPorts
from app.changes.model import Entity, Pointer
from app.configs.documents.pairs import PresentDocuments
from app.configs.model import DocumentId
from app.sqlite.state import SQLiteState

Move = tuple[str, str, str, bool]
moves = st.lists(
    st.tuples(
        st.sampled_from(["config", "flag"]),
        st.sampled_from(["default", "test"]),
        st.sampled_from(["_shared", "a", "b", "a/ana"]),
        st.booleans(),
    ),
    max_size=12,
)


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[LogPorts]:
    state = SQLiteState(tmp_path)
    yield embedded_ports(state)
    asyncio.run(state.close())


def advance(follower: Follower, number: int, move: Move) -> None:
    kind, environment, name, deleted = move
    entity = Entity(kind, environment, name, f"{kind}/{environment}/{name}")
    follower.advance_pointer(Pointer(entity, number, number, deleted, datetime.now(UTC), "ana"))


def services_in(follower: Follower) -> dict[str, set[str]]:
    services: dict[str, set[str]] = {}
    for pointer in follower.pointers.values():
        entity = pointer.entity
        if entity.kind == "config" and not pointer.deleted and "/" not in entity.name:
            services.setdefault(entity.environment, set()).add(entity.name)
    return services


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves, moves)
def test_they_are_those_that_the_pointers_name(
    ports: LogPorts, earlier: list[Move], later: list[Move]
) -> None:
    follower = Follower(ports.log)
    for number, move in enumerate(earlier, 1):
        advance(follower, number, move)
    present = PresentDocuments(follower)
    for number, move in enumerate(later, len(earlier) + 1):
        advance(follower, number, move)

    assert present.services == services_in(follower)


def test_changes_are_added_without_changing_what_is_present(ports: LogPorts) -> None:
    follower = Follower(ports.log)
    advance(follower, 1, ("config", "test", "a", False))
    present = PresentDocuments(follower)

    after = present.services_after(
        {
            DocumentId("test", "a"): False,
            DocumentId("default", "b"): True,
            DocumentId("default", "b", "ana"): False,
            DocumentId("other", "c"): False,
        }
    )

    assert after == {"default": {"b"}}
    assert present.services == {"test": {"a"}}


def test_a_log_that_was_replaced_is_read_again(ports: LogPorts) -> None:
    follower = Follower(ports.log)
    present = PresentDocuments(follower)
    advance(follower, 1, ("config", "test", "a", False))

    follower.listeners.report_log_replaced()

    assert present.services == {"test": {"a"}}
