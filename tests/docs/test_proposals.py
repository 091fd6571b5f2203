"""docs/proposals.md: its story runs as it is written, with tokens and twenty client processes."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Thread
from typing import Any, get_args

import pytest

from app.proposals.model import State
from pilothouse_core.releases.arms import arm_of
from tests.docs.pages import Example, blocks, examples, follow, follow_example
from tests.docs.test_tables import rows, section
from tests.servers.process import wait_until
from tests.servers.service import ROOT, ServiceProcess

PAGE = "docs/proposals.md"
ADMIN = "the-first-token-of-an-administrator"
PATIENCE_SECONDS = 120  # twenty processes start on a busy machine
INSTANCES = 20
PRODUCTION = {"environments": ["production"], "services": ["billing"]}
EVERYWHERE = {"environments": ["*"], "services": ["*"]}
LAYER = "environment=production&service_name=billing"
PROGRAM = """
import sys, time
from pilothouse import Pilothouse
url, token, instance = sys.argv[1:]
def check(data):
    if data["db"]["pool"]["max"] > 100:
        raise ValueError("too many connections")
with Pilothouse(
    url, "billing", "production", token=token, instance=instance, validate=check, flags=False
) as client:
    seen = None
    while True:
        now = client.config.get("db.pool.max")
        if now != seen:
            print(now, flush=True)
            seen = now
        time.sleep(0.05)
"""
# What a reader sets in a shell is there for the next commands.
SHELL = """
trap 'declare -p ID URL >variables 2>/dev/null || true' EXIT
touch variables
. ./variables
"""


@dataclass
class Story:
    """The service of the story, and its instances with all values that each has had."""

    service: ServiceProcess
    token: str
    folder: Path
    seen: dict[str, list[int]] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        answer = self.service.request(method, path, body, headers=headers)
        assert answer.status < 300, answer
        return answer.json()

    def tell(self, heading: str) -> Iterator[None]:
        """Run the blocks below a heading one by one, as in one shell."""
        for block in blocks(PAGE, heading):
            for example in examples(block.text):
                commands = f"{SHELL}{example.commands}"
                follow_example(Example(commands, example.parts), self.service.url, self.folder)
            yield

    @contextmanager
    def instances(self, names: Sequence[str]) -> Iterator[None]:
        """Run instances until the end; their values are read as they come."""
        with ExitStack() as stack:
            for name in names:
                argv = (sys.executable, "-c", PROGRAM, self.service.url, self.token, name)
                process = stack.enter_context(Popen(argv, stdout=PIPE, text=True, cwd=ROOT))
                stack.callback(process.kill)
                self.seen[name] = []
                Thread(target=self._read, args=(name, process.stdout), daemon=True).start()
            yield

    def _read(self, name: str, lines: Any) -> None:
        for line in lines:
            self.seen[name].append(int(line))

    def wait_for(self, value: int) -> None:
        wait_until(
            lambda: all(each[-1:] == [value] for each in self.seen.values()),
            f"every instance has {value}",
            PATIENCE_SECONDS,
        )

    def candidate(self, prefix: str) -> str:
        """Return the name of an instance that the running release gives the change first.

        Another name, if an instance that runs has ended the release already.
        """
        releases = self.ask("GET", "/api/v1/releases?state=running")["items"]
        if not releases:
            return prefix
        [release] = releases
        names = (f"{prefix}-{number}" for number in range(1000))
        share = round(release["share"] * 1000)
        return next(name for name in names if arm_of(release["id"], name, share) == "candidate")

    def refuse(self, instance: str, value: int) -> None:
        """Wait until the release is over, which an instance with the change has refused."""
        wait_until(
            lambda: self.ask("GET", "/api/v1/proposals")["items"][0]["state"] == "aborted",
            "the release is taken back",
            PATIENCE_SECONDS,
        )
        self.wait_for(value)
        assert self.seen[instance] == [value]
        answer = self.ask("GET", f"/api/v1/config/db.pool.max?{LAYER}")
        assert answer["value"] == value


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(settings) as service:
        told = Story(service, "", tmp_path)
        monkeypatch.setenv("ADMIN", ADMIN)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        for name, role in (("author", "editor"), ("reviewer", "publisher"), ("publisher",) * 2):
            body = {"name": name, "class": "operator", "roles": [role], **EVERYWHERE}
            made = told.ask("POST", "/api/v1/tokens", body)
            monkeypatch.setenv(name.upper(), made["token"])
        machine = {"name": "billing", "class": "service", **PRODUCTION}
        told.token = told.ask("POST", "/api/v1/tokens", machine)["token"]
        told.ask("PATCH", f"/api/v1/config?{LAYER}", {"set": {"db.pool.max": 20}})
        yield told


@pytest.mark.slow
def test_the_story_is_as_the_page_tells_it(story: Story) -> None:
    names = [f"pod-{number}" for number in range(INSTANCES - 1)]
    with ExitStack() as running:
        running.enter_context(story.instances(names))
        story.wait_for(20)
        for heading, old, new in (
            ("### A worked story", 20, 80),
            ("### The same at the command line", 80, 90),
        ):
            blocks_told = story.tell(heading)
            next(blocks_told)
            late = story.candidate(f"late-{new}")
            running.enter_context(story.instances([late]))
            story.refuse(late, old)
            next(blocks_told)
            story.wait_for(new)

    bad = {400, 500} & {value for values in story.seen.values() for value in values}
    assert bad == set()
    [last, first] = story.ask("GET", "/api/v1/proposals")["items"]
    assert (first["state"], last["state"]) == ("applied", "applied")


@pytest.mark.parametrize("heading", ["### From a program", "## Promotion"])
def test_what_follows_is_as_the_page_shows_it(heading: str) -> None:
    with ServiceProcess({}) as service:
        follow(PAGE, service.url, heading=heading)


def test_every_state_is_in_the_table_and_leads_to_states() -> None:
    text = section(PAGE, "## Proposals")
    states = set(get_args(State))

    table = [row for row in rows(text) if row[0].strip("`") in states]
    assert sorted(row[0].strip("`") for row in table) == sorted(states)
    followers = {name for row in table for name in re.findall("`(\\w+)`", row[2])}
    assert followers <= states | {"unschedule"}
