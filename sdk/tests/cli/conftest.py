"""What tests of the command line may ask for."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.tests.cli.terminal import Terminal
from tests.servers.service import ServiceProcess

ADMIN = "the-first-token-of-an-administrator"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def service() -> Iterator[ServiceProcess]:
    """One real service for all commands, which asks who they are."""
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(settings) as process:
        yield process


@pytest.fixture
def nowhere(tmp_path: Path) -> Terminal:
    """A terminal to which no service was named."""
    return Terminal(tmp_path / "home")


@pytest.fixture
def pilothouse(nowhere: Terminal, service: ServiceProcess) -> Terminal:
    """An administrator's terminal, with a service name of the test's own."""
    nowhere.variables = {
        "PILOTHOUSE_URL": service.url,
        "PILOTHOUSE_TOKEN": ADMIN,
        "PILOTHOUSE_SERVICE": f"orders-{next(_numbers)}",
    }
    return nowhere
