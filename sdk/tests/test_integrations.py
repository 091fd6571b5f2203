"""The pages of docs/client: what they show runs as it stands, against the real service."""

import asyncio
import importlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

from pilothouse import get_config
from pilothouse.errors import Unauthenticated
from sdk.tests.cli.terminal import Terminal
from sdk.tests.conftest import ADMIN
from sdk.tests.reload.waiting import until
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess

PAGES = Path(__file__).parents[2] / "docs/client"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\S+\.py)\n")
INTEGRATIONS = ("celery.md", "django.md", "fastapi.md", "flask.md", "kubernetes.md", "scripts.md")
FLAGS = ("new-checkout", "new-template", "report-as-table")
_numbers = itertools.count()


def blocks(page: str, language: str) -> list[str]:
    code_blocks = BLOCK.findall((PAGES / page).read_text())
    return [text for kind, text in code_blocks if kind == language]


class Example:
    """The programs of a page in a folder of their own, by the names in their first lines."""

    def __init__(self, page: str, folder: Path, service: ServiceProcess) -> None:
        self.folder = folder
        self._service = service
        self.modules: list[str] = []
        for block in blocks(page, "python"):
            name = NAMED.match(block)
            assert name is not None, block
            file = folder / name[1]
            if not file.parent.exists():
                file.parent.mkdir()
                (file.parent / "__init__.py").touch()
            file.write_text(block)
            self.modules.append(name[1].removesuffix(".py").replace("/", "."))

    def import_module(self, name: str) -> ModuleType:
        assert name in self.modules
        return importlib.import_module(name)

    def run_tests(self, name: str) -> None:
        """Run what the page shows as tests."""
        tests = [
            test for named, test in vars(self.import_module(name)).items() if named[:5] == "test_"
        ]
        for test in tests:
            if iscoroutinefunction(test):
                asyncio.run(test())
            else:
                test()
        assert tests

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, *arguments),
            cwd=self.folder,
            env=self.variables(**variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            (sys.executable, *arguments),
            cwd=self.folder,
            env=self.variables(PYTHONWARNINGS=""),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @staticmethod
    def line_of(program: "subprocess.Popen[str]") -> str:
        assert program.stdout is not None
        return program.stdout.readline().rstrip()

    def variables(self, **more: str) -> dict[str, str]:
        paths = os.pathsep.join([str(self.folder), *filter(None, sys.path)])
        url = {"PILOTHOUSE_URL": self._service.url}
        return {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "error", **url, **more}

    def set(self, service: str, key: str, value: Any) -> None:
        where = f"config?environment=production&service_name={service}"
        ask(self._service, "PATCH", where, {"set": {key: value}})

    def roll_out(self, flag: str, share: int) -> None:
        where = f"feature-flags/{flag}?environment=production"
        ask(self._service, "PATCH", where, {"rollout_percentage": share})

    def revoke(self, token: str) -> None:
        ask(self._service, "DELETE", f"tokens/{token.split('_')[2]}")


@pytest.fixture(scope="module")
def service(guarded_service: ServiceProcess) -> ServiceProcess:
    """One that asks who is there, with the flags of these pages, off for everybody."""
    for flag in FLAGS:
        body = {"name": flag, "environment": "production", "rollout_percentage": 0}
        ask(guarded_service, "POST", "feature-flags", body)
    return guarded_service


def ask(service: ServiceProcess, method: str, path: str, body: Any = None) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    answer = service.request(method, f"/api/v1/{path}", body, headers=headers)
    assert 200 <= answer.status < 300, answer.body


@pytest.fixture
def page(
    request: pytest.FixtureRequest,
    service: ServiceProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Example]:
    """Lay out the page that the test is marked with."""
    example = Example(request.param, tmp_path, service)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PILOTHOUSE_URL", service.url)
    monkeypatch.setenv("PILOTHOUSE_TOKEN", ADMIN)
    yield example
    for module in example.modules:
        sys.modules.pop(module, None)


def of_page(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [name], indirect=True)


@asynccontextmanager
async def serve_app(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Ask an application without a server, within its lifespan."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
    ):
        yield client


@of_page("fastapi.md")
async def test_fastapi_answers_with_what_the_service_holds(page: Example) -> None:
    page.set("orders", "shop.currency", "USD")
    page.roll_out("new-checkout", 0)

    async with serve_app(page.import_module("orders").app) as client:
        answer = (await client.get("/checkout/ann")).json()
        ready = (await client.get("/ready")).json()
        page.roll_out("new-checkout", 100)
        held = page.import_module("orders").app.state.pilothouse
        await until(lambda: bool(held.flags.is_on("new-checkout", user_id="ann")))
        later = (await client.get("/checkout/ann")).json()

    assert answer == {"new": False, "currency": "USD"}
    assert ready == {"stale": False, "why": ""}
    assert later == {"new": True, "currency": "USD"}


@of_page("fastapi.md")
def test_fastapi_is_tested_without_the_service(page: Example) -> None:
    page.run_tests("test_orders")


@of_page("flask.md")
def test_flask_answers_with_what_the_service_holds(page: Example) -> None:
    page.set("shop", "shop.currency", "USD")
    page.roll_out("new-checkout", 0)
    app = page.import_module("shop").create_app()
    browser = app.test_client()

    with app.extensions["pilothouse"] as client:
        assert browser.get("/checkout/ann").json == {"new": False, "currency": "USD"}
        page.set("shop", "shop.currency", "CHF")
        wait_until(lambda: client.config.get("shop.currency") == "CHF", "it hears of it")
        assert browser.get("/checkout/ann").json == {"new": False, "currency": "CHF"}

    page.run_tests("test_shop")


BROWSING = """
import django
from django.test import Client

django.setup()
print(Client().get("/checkout/ann").content.decode())
"""


@of_page("django.md")
def test_django_answers_with_what_the_service_holds(page: Example) -> None:
    page.set("shop", "shop.currency", "USD")
    page.roll_out("new-checkout", 100)

    browsed = page.run("-c", BROWSING, DJANGO_SETTINGS_MODULE="shop.settings")
    tested = page.run("-m", "django", "test", DJANGO_SETTINGS_MODULE="shop.test_settings")

    assert json.loads(browsed.stdout) == {"new": True, "currency": "USD"}, browsed.stderr
    assert tested.returncode == 0, tested.stderr
    assert "Ran 1 test" in tested.stderr


@of_page("celery.md")
def test_celery_runs_a_task_where_it_is_called(
    page: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.set("mail", "mail.sender", "shop@example.org")
    tasks = page.import_module("tasks")
    tasks.app.conf.task_always_eager = True

    with tasks.client:
        assert tasks.send.delay("ann").get() == "old template from shop@example.org"

    monkeypatch.delenv("PILOTHOUSE_URL")
    del sys.modules["tasks"]
    page.run_tests("test_tasks")


# A broker and results of files alone, for the worker and for who sends.
QUEUES = """
from tasks import app, client, send

app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": "queue",
        "data_folder_out": "queue",
        "control_folder": "queue",
        "polling_interval": 0.05,
    },
    result_backend="file://queue",
)
"""
SENDING = f"""
from queues import send

told = ""
while told != "old template from second@example.org":
    found = send.delay("ann").get(timeout={PATIENCE_SECONDS}, interval=0.02)
    if found != told:
        told = found
        print(told, flush=True)
"""


@pytest.mark.slow
@of_page("celery.md")
def test_celery_runs_tasks_in_forked_processes_that_hear_of_changes(page: Example) -> None:
    (page.folder / "queue").mkdir()
    (page.folder / "queues.py").write_text(QUEUES)
    page.set("mail", "mail.sender", "first@example.org")
    options = ("--concurrency=1", "--without-gossip", "--without-mingle", "--loglevel=info")
    worker = page.begin("-m", "celery", "-A", "queues", "worker", *options)
    sender = page.begin("-c", SENDING)

    with worker, sender:
        try:
            assert page.line_of(sender) == "old template from first@example.org"
            page.set("mail", "mail.sender", "second@example.org")
            assert page.line_of(sender) == "old template from second@example.org"
        finally:
            sender.terminate()
            worker.terminate()
        output = worker.communicate(timeout=PATIENCE_SECONDS)[0]

    assert worker.returncode == 0, output
    assert "ForkPoolWorker" in output
    assert "flag-usage" in output  # it was closed at its end
    assert "Traceback" not in output


@of_page("scripts.md")
def test_a_script_runs_with_the_service_and_ends_without(page: Example) -> None:
    page.set("reports", "retention.days", 7)

    ran = page.run("report.py")
    refused = page.run("report.py", PILOTHOUSE_URL="http://127.0.0.1:1")
    offline = page.run("offline.py")

    assert ran.stdout == "days: 7\nas a table: False\n", ran.stderr
    assert refused.returncode == 1
    assert "no report with old settings: http://127.0.0.1:1 cannot be reached" in refused.stderr
    shown = re.findall(r"# -> (.*)", (page.folder / "offline.py").read_text())
    assert offline.stdout.splitlines() == shown, offline.stderr


@of_page("scripts.md")
def test_a_program_that_stays_hears_of_changes_until_it_is_ended(page: Example) -> None:
    with page.begin("poller.py") as program:
        try:
            assert page.line_of(program) == "polling"
            page.set("reports", "poller.name", "new")
            assert page.line_of(program) == "poller.name is new"
        finally:
            program.terminate()

    assert program.returncode == 0  # it slept for a minute: the signal woke it


MANIFESTS = [
    manifest for block in blocks("kubernetes.md", "yaml") for manifest in yaml.safe_load_all(block)
]


class Pod:
    """What the kubelet would lay out for the page's Deployment, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        [config_map] = [one for one in MANIFESTS if one["kind"] == "ConfigMap"]
        [deployment] = [one for one in MANIFESTS if one["kind"] == "Deployment"]
        self.config_map, self.spec = config_map, deployment["spec"]
        template = self.spec["template"]
        self.labels, self.volumes = template["metadata"]["labels"], template["spec"]["volumes"]
        [self.container] = template["spec"]["containers"]
        for path in self.mounts.values():
            self.at(path).mkdir(parents=True)

    @property
    def mounts(self) -> dict[str, str]:
        return {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}

    @property
    def variables(self) -> dict[str, str]:
        return {one["name"]: one["value"] for one in self.container["env"]}

    def at(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def project(self, volume: str, files: Mapping[str, str]) -> None:
        """Write the files of a volume as the kubelet does: by swapping one symbolic link."""
        mount = self.at(self.mounts[volume])
        version = mount / f"..{next(_numbers)}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_text(content)
        draft = mount / "..data_tmp"
        draft.symlink_to(version.name)
        draft.replace(mount / "..data")
        for name in files:
            if not (mount / name).exists():
                (mount / name).symlink_to(f"..data/{name}")


def test_the_manifests_for_kubernetes_fit_together(tmp_path: Path) -> None:
    pod = Pod(tmp_path)

    assert pod.spec["selector"]["matchLabels"].items() <= pod.labels.items()
    assert {volume["name"] for volume in pod.volumes} == set(pod.mounts)
    assert not any("subPath" in mount for mount in pod.container["volumeMounts"])
    [projected] = [volume["configMap"] for volume in pod.volumes if "configMap" in volume]
    assert projected["name"] == pod.config_map["metadata"]["name"]
    [secret] = [volume["secret"] for volume in pod.volumes if "secret" in volume]
    assert secret["defaultMode"] == 0o440
    writable = {"SNAPSHOT_DIR"}
    for name, path in pod.variables.items():
        if path.startswith("/"):
            [mount] = [
                one for one in pod.container["volumeMounts"] if path.startswith(one["mountPath"])
            ]
            assert mount.get("readOnly", False) is (name not in writable)
    assert {port["name"] for port in pod.container["ports"]} == {"http"}
    [command] = blocks("kubernetes.md", "sh")
    assert f" generic {secret['secretName']} --from-file=token" in command


@pytest.fixture
def tokens(service: ServiceProcess, tmp_path: Path) -> list[str]:
    """Make two tokens as the page does."""
    [create, _] = blocks("kubernetes.md", "sh")[0].splitlines()
    words = shlex.split(create.removesuffix(" > token"))
    variables = {"PILOTHOUSE_URL": service.url, "PILOTHOUSE_TOKEN": ADMIN}
    terminal = Terminal(tmp_path / "home", variables)
    return [terminal.ok(*words[1:]).out for _ in range(2)]


@of_page("kubernetes.md")
async def test_in_kubernetes_files_and_tokens_change_while_the_program_runs(
    page: Example, tokens: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.set("orders", "shop.currency", "USD")
    pod = Pod(tmp_path / "pod")
    for name, value in pod.variables.items():
        if value.startswith("/"):
            monkeypatch.setenv(name, str(pod.at(value)))
    pod.project("token", {"token": tokens[0]})
    pod.project("settings", pod.config_map["data"])
    app = page.import_module("orders").app

    async with serve_app(app) as client:
        for kind in ("startup", "liveness", "readiness"):
            probe = await client.get(pod.container[f"{kind}Probe"]["httpGet"]["path"])
            assert probe.json() == {"level": "info", "currency": "USD", "stale": False}

        pod.project("settings", {"orders.yaml": "log: {level: debug}"})
        await until(lambda: bool(get_config("log.level") == "debug"))

        page.revoke(tokens[0])
        held = app.state.pilothouse
        await until(lambda: isinstance(held.last_error, Unauthenticated))
        pod.project("token", {"token": tokens[1]})
        await held.refresh()
        assert (await client.get("/ready")).json()["currency"] == "USD"

    assert (pod.at(pod.variables["SNAPSHOT_DIR"]) / "pilothouse").exists()


LINK = re.compile(r"\]\(([^)#:]+)(?:#[\w-]+)?\)")


def test_every_page_stands_in_the_index() -> None:
    pages = {page.name for page in PAGES.glob("*.md")} - {"README.md"}

    assert set(LINK.findall((PAGES / "README.md").read_text())) >= pages


@pytest.mark.parametrize("page", ["README.md", *INTEGRATIONS])
def test_every_link_leads_to_a_file(page: str) -> None:
    for link in LINK.findall((PAGES / page).read_text()):
        assert (PAGES / link).exists(), link
