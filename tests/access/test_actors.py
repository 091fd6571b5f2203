"""How actors are stored, and told apart again."""

import pytest

from app.access.model import ANYBODY, Caller, Principal
from app.access.tokens.model import generate_token
from app.actors import actor_name, split_actor, stored_actor


@pytest.mark.parametrize("name", ["ci", "a.b-c_d", "x" * 63])
def test_a_token_is_stored_with_its_id(name: str) -> None:
    token_id, _ = generate_token("client")

    stored = stored_actor(f"token:{name}", token_id)

    assert split_actor(stored) == (f"token:{name}", token_id)
    assert actor_name(stored) == f"token:{name}"


@pytest.mark.parametrize(
    "stored", ["user:ana", "user:ana#7", "anonymous", "external", "pilothouse", "", "token:ci", "#"]
)
def test_whatever_else_stands_there_is_a_name(stored: str) -> None:
    assert split_actor(stored) == (stored, None)


def test_the_log_has_the_id_and_a_person_has_none() -> None:
    token = Principal("token:ci", (), token_id="0123456789abcdef")

    assert Caller(token, "r").actor("ana") == "token:ci#0123456789abcdef"
    assert Caller(Principal("user:ana", ()), "r").actor() == "user:ana"
    assert Caller(ANYBODY, "r").actor("ana") == "ana"
    assert Caller(ANYBODY, "r").actor() == "anonymous"
