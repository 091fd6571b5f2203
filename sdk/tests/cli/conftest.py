"""What tests of the command line may ask for."""

import itertools
from pathlib import Path

import pytest

from sdk.tests.cli.terminal import Terminal
from tests.servers.service import ServiceProcess

_numbers = itertools.count()


@pytest.fixture
def nowhere(tmp_path: Path) -> Terminal:
    """A terminal that no service was named to."""
    return Terminal(tmp_path / "home")


@pytest.fixture
def pilothouse(nowhere: Terminal, service: ServiceProcess) -> Terminal:
    """A terminal at the module's service, with a service name of the test's own."""
    name = f"orders-{next(_numbers)}"
    nowhere.variables = {"PILOTHOUSE_URL": service.url, "PILOTHOUSE_SERVICE": name}
    return nowhere
