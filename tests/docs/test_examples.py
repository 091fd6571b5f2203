"""The examples of the documentation run as they are written and answer what they show."""

import re
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from pilothouse_core import strict_yaml
from sdk.tests.cli.page import follow_commands
from sdk.tests.cli.terminal import Terminal
from tests.docs.pages import ADDRESS, Example, absent, blocks, examples, follow, run
from tests.servers.program import INTEROP
from tests.servers.service import ROOT, ServiceProcess

# In the order in which a new user reads them.
PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/configuration-guide.md",
    "docs/schemas.md",
    "docs/templates.md",
    "docs/feature-flags.md",
    "docs/webhooks.md",
    "docs/SERVICE_REGISTRY_DEVELOPER_GUIDE.md",
    "docs/TESTING_HEALTH_MONITORING.md",
)
CLIENT_PAGES = (
    "docs/client/flags.md",
    "docs/client/registry.md",
    "docs/client/testing.md",
    "docs/client/settings.md",
    "docs/client/hot-reload.md",
)
SCRIPT = re.compile(r"^```js\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTED = "// -> "


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess({}) as service:
        yield service


def test_pages_followed_in_order_on_one_service_answer_what_they_show(
    service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("env.template", "env.schema.json"):  # a reader has the repository before them
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    for variable in ("CONFIG_DIR", "APP_DB_PASSWORD_FILE"):
        monkeypatch.setenv(variable, "")  # so that what a page sets is taken back
        monkeypatch.delenv(variable)

    for page in (*PAGES, *CLIENT_PAGES):
        follow(page, service.url)
    follow_commands(Terminal(tmp_path, {"PILOTHOUSE_URL": service.url}))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_can_be_followed_alone(page: str, service: ServiceProcess) -> None:
    follow(page, service.url)


def test_the_guide_of_folders_and_its_workflow_run_in_a_folder_of_their_own(
    service: ServiceProcess, tmp_path: Path
) -> None:
    page = "docs/gitops.md"
    follow(page, service.url, tmp_path)
    (tmp_path / "installation/schemas").mkdir()
    (tmp_path / "installation/schemas/shop.yaml").write_text("schema: {required: [db]}\n")

    [workflow] = [block.text for block in blocks(page) if block.language == "yaml"]
    steps = strict_yaml.loads(workflow)["jobs"]["pilothouse"]["steps"]
    commands = [step["run"] for step in steps if step.get("run", "").startswith("pilothouse ")]
    checked, planned, applied = (
        run(Example(command), service.url, tmp_path) for command in commands
    )

    assert checked.returncode == planned.returncode == applied.returncode == 0, (checked, planned)
    assert "0 errors" in checked.stderr
    assert "+ schema shop: added" in planned.stdout
    assert "1 of 1 changes written" in applied.stdout


def test_every_script_prints_what_the_page_shows(service: ServiceProcess) -> None:
    page = "docs/feature-flags.md"
    follow(page, service.url)

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


@pytest.mark.parametrize("page", [*PAGES, *CLIENT_PAGES])
def test_every_request_a_page_shows_is_tested(page: str) -> None:
    untested = [
        block.text
        for block in blocks(page)
        if block.is_shell and not block.is_tested and "curl " in block.text
    ]

    assert untested == []


def test_an_answer_that_is_not_as_shown_is_noticed(service: ServiceProcess) -> None:
    shown = f'curl {ADDRESS}/live\n# -> "alive" ... "status"\ncurl {ADDRESS}/nowhere\n'

    out_of_order, refused = examples(shown)

    assert absent(out_of_order, run(out_of_order, service.url).stdout) == '"status"'
    assert run(refused, service.url).returncode != 0
    assert not refused.is_refused
    assert service.request("GET", "/nowhere").status == HTTPStatus.NOT_FOUND


def test_the_readme_begins_with_the_two_commands_and_make_knows_them() -> None:
    first = next(blocks("README.md"))
    commands = [line.partition("#")[0].strip() for line in first.text.splitlines()]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert commands == ["make run", "make test"]
    assert {"run", "test"} <= set(targets)


def test_the_vault_page_shows_the_policy_as_it_is() -> None:
    policy = (ROOT / "docs/policies/pilothouse.hcl").read_text()

    assert f"```hcl\n{policy}```\n" in (ROOT / "docs/VAULT_INTEGRATION.md").read_text()
