"""A provider that is required: it raises where the others use defaults."""

import pytest

from pilothouse import RegistryConfigProvider
from pilothouse.errors import PilothouseError, Unauthenticated, Unavailable
from sdk.tests.scripted import ScriptedServer, configuration, problem

NOBODY = "http://127.0.0.1:9"


def test_a_required_provider_raises_while_the_service_is_away() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        RegistryConfigProvider(NOBODY, "orders", required=True)


def test_a_required_provider_raises_what_the_service_says(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: problem(401, "token_required")

    with pytest.raises(Unauthenticated) as caught:
        RegistryConfigProvider(scripted_server.url, "orders", required=True)

    assert isinstance(caught.value, PilothouseError)
    assert caught.value.code == "token_required"


def test_a_required_provider_holds_what_the_service_answers(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"a": 1})

    with RegistryConfigProvider(scripted_server.url, "orders", required=True) as provider:
        assert provider.get_int("a") == 1


def test_a_provider_that_is_not_required_uses_defaults() -> None:
    with RegistryConfigProvider(NOBODY, "orders") as provider:
        assert provider.get_int("a", 7) == 7
