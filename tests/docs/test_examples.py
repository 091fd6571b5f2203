"""The examples of the documentation run as they are written and answer what they show."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from tests.servers.program import INTEROP
from tests.servers.service import ROOT, ServiceProcess

PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/configuration-guide.md",
    "docs/feature-flags.md",
    "docs/SERVICE_REGISTRY_DEVELOPER_GUIDE.md",
    "docs/TESTING_HEALTH_MONITORING.md",
)
# What an example says, and what it is replaced with here.
ADDRESS = "http://127.0.0.1:8082"
PYTHON = ".venv/bin/python"

MARK = "<!-- tested -->\n"
BLOCK = re.compile(rf"({re.escape(MARK)})?```(?:sh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SCRIPT = re.compile(r"^```js\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ANSWER = "# ->"
PRINTED = "// -> "
LEFT_OUT = " ... "
REFUSAL = re.compile(r'"status":[45]\d\d')

# A refused request fails its command, and its problem is told all the same.
CURL = 'curl() { command curl --fail-with-body --silent --show-error "$@"; }\n'
CURL_WAS_REFUSED = 22


@dataclass(frozen=True, slots=True)
class Example:
    """Commands, and the parts of their output in the order in which the page shows them."""

    commands: str
    parts: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return CURL_WAS_REFUSED if any(map(REFUSAL.search, self.parts)) else 0


def blocks(page: str) -> Iterator[tuple[bool, str]]:
    """Yield every block of commands and whether it is marked as tested."""
    for found in BLOCK.finditer((ROOT / page).read_text()):
        yield found[1] is not None, found[2]


def examples(block: str) -> Iterator[Example]:
    commands: list[str] = []
    parts: list[str] = []
    for line in block.splitlines():
        if line.startswith(ANSWER):
            parts += line.removeprefix(ANSWER).strip().split(LEFT_OUT)
            continue
        if parts:
            yield Example("\n".join(commands), parts)
            commands, parts = [], []
        commands.append(line.removeprefix("$ "))
    if "".join(commands).strip():
        yield Example("\n".join(commands), parts)


def run(example: Example, address: str) -> subprocess.CompletedProcess[str]:
    commands = example.commands.replace(ADDRESS, address).replace(PYTHON, sys.executable)
    return subprocess.run(
        ("bash", "-e", "-o", "pipefail", "-c", CURL + commands),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def absent(example: Example, output: str) -> str | None:
    """Return the first part that the output does not hold after the parts before it."""
    position = 0
    for part in example.parts:
        position = output.find(part, position)
        if position < 0:
            return part
        position += len(part)
    return None


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess({}) as service:
        yield service


@pytest.mark.parametrize("page", PAGES)
def test_every_example_answers_what_the_page_shows(page: str, service: ServiceProcess) -> None:
    found = [example for tested, block in blocks(page) if tested for example in examples(block)]

    for example in found:
        done = run(example, service.url)
        told = f"{example.commands}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == example.exit_code, told
        assert absent(example, done.stdout) is None, told

    assert found


def test_every_script_prints_what_the_page_shows(service: ServiceProcess) -> None:
    page = "docs/feature-flags.md"
    for example in (found for tested, block in blocks(page) if tested for found in examples(block)):
        run(example, service.url)

    scripts = SCRIPT.findall((ROOT / page).read_text())
    for script in scripts:
        shown = [line.removeprefix(PRINTED) for line in script.splitlines() if PRINTED in line]
        # Nobody leaves the page here.
        code = f"{script.replace(ADDRESS, service.url)}\nprocess.exit();"
        done = subprocess.run(
            ("node", "--input-type=module", "--eval", code),
            cwd=INTEROP,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert (done.returncode, done.stdout.splitlines()) == (0, shown), done.stderr

    assert scripts


@pytest.mark.parametrize("page", PAGES)
def test_every_request_a_page_shows_is_tested(page: str) -> None:
    untested = [block for tested, block in blocks(page) if not tested and "curl " in block]

    assert untested == []


def test_an_answer_that_is_not_as_shown_is_noticed(service: ServiceProcess) -> None:
    shown = f'curl {ADDRESS}/live\n# -> "alive" ... "status"\ncurl {ADDRESS}/nowhere\n'

    out_of_order, refused = examples(shown)

    assert absent(out_of_order, run(out_of_order, service.url).stdout) == '"status"'
    assert run(refused, service.url).returncode == CURL_WAS_REFUSED != refused.exit_code
    assert service.request("GET", "/nowhere").status == HTTPStatus.NOT_FOUND


def test_the_readme_begins_with_the_two_commands_and_make_knows_them() -> None:
    _, first = next(blocks("README.md"))
    commands = [line.partition("#")[0].strip() for line in first.splitlines()]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert commands == ["make run", "make test"]
    assert {"run", "test"} <= set(targets)


def test_the_vault_page_shows_the_policy_as_it_is() -> None:
    policy = (ROOT / "docs/policies/pilothouse.hcl").read_text()

    assert f"```hcl\n{policy}```\n" in (ROOT / "docs/VAULT_INTEGRATION.md").read_text()
