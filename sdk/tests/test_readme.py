"""Every example of the README runs as it stands, against the real service."""

import re
from pathlib import Path

import pytest

from tests.servers.service import ServiceProcess

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(
    example: str, service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "http://127.0.0.1:8082" in example

    exec(example.replace("http://127.0.0.1:8082", service.url), {"__name__": "example"})
