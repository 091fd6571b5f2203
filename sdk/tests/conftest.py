"""What every test of the client may ask for."""

from collections.abc import Iterator

import pytest

from sdk.tests.scripted import ScriptedServer
from tests.servers.service import ServiceProcess
from tests.trials import load_profile

load_profile()

ADMIN = "the-first-token-of-an-administrator"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def service() -> Iterator[ServiceProcess]:
    """The real service with everything embedded; each test has names of its own and kills none."""
    with ServiceProcess({}) as process:
        yield process


@pytest.fixture(scope="session")
def guarded_service() -> Iterator[ServiceProcess]:
    """The real service, asking who is there."""
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(settings) as process:
        yield process


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server
