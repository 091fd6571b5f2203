"""What others have published and cannot be run here is missed by its name, and not skipped."""

import re
from pathlib import Path

import pytest

from tests.servers.choice import ServerMissing
from tests.servers.curator import start_curator
from tests.servers.prometheus import start_prometheus


def test_without_java_or_maven_the_error_says_what_curator_needs(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    for program, missing in (("java", "no `java` on the PATH"), ("mvn", "no `mvn` on the PATH")):
        with pytest.raises(ServerMissing, match=re.escape(missing)):
            start_curator(environment)
        (tmp_path / program).touch(mode=0o755)


def test_without_prometheus_and_apt_the_error_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing, match="no `prometheus` on the PATH, and only root with apt"):
        start_prometheus("http://127.0.0.1:9", [], {"PATH": str(tmp_path)})
