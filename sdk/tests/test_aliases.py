"""Public names of earlier releases stay importable, with a warning."""

from importlib import import_module

import pytest

import pilothouse
from pilothouse import compat, config_state, sync

ALIASES = [
    ("pilothouse", "Pace", sync.RefreshPolicy),
    ("pilothouse.following", "Pace", sync.RefreshPolicy),
    ("pilothouse.following", "Resource", sync.Resource),
    ("pilothouse.classic", "ConfigWatcher", compat.ConfigWatcher),
    ("pilothouse.configuration", "state_of", config_state.state_of),
]


@pytest.mark.parametrize(("module", "name", "target"), ALIASES)
def test_an_earlier_name_is_an_alias(module: str, name: str, target: object) -> None:
    with pytest.warns(DeprecationWarning, match=r"pilothouse\..+ is deprecated: use pilothouse\."):
        assert getattr(import_module(module), name) is target


@pytest.mark.parametrize(
    "module",
    ["pilothouse", "pilothouse.following", "pilothouse.classic", "pilothouse.configuration"],
)
def test_any_other_name_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        getattr(import_module(module), "Nothing")  # noqa: B009 - mypy knows that it is absent


def test_attaching_has_its_earlier_name() -> None:
    client = pilothouse.AsyncPilothouse
    assert client.attached is client.attach_and_wait
