"""Services that start releases, with everything embedded and on real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proposals.releasing import ReleasingService


@pytest.fixture(scope="session")
def releasing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasingService]:
    folder: Path = tmp_path_factory.mktemp("bodies")
    with ReleasingService({}, folder) as service:
        yield service
