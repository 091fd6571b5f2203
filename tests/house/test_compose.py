"""docker-compose.yml is walked without an engine: what it sets starts the service, read-only."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from app.production_checks import StartRefused, refuse_unsafe
from app.settings import Settings
from tests.servers.answer import request
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import Berth, ChildProcess, Command, wait_until
from tests.servers.read_only import on_read_only
from tests.servers.redis import RedisServer
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer, is_listening, vaultd
from tests.servers.zookeeper import ZooKeeperServer

ROOT = Path(__file__).parents[2]
DATA = "/var/lib/pilothouse"  # as the Dockerfile has it
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\$))")


def put_variables(text: str, given: Mapping[str, str]) -> str:
    """Put variables in, as Compose does; a dollar stands for itself when doubled."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[3] else given.get(found[1]) or found[2] or ""

    return VARIABLE.sub(value, text)


def services(given: Mapping[str, str] = {}) -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    def put_in(part: Any) -> Any:
        match part:
            case str():
                return put_variables(part, given)
            case list():
                return [put_in(one) for one in part]
            case dict():
                return {name: put_in(one) for name, one in part.items()}
        return part

    return cast("dict[str, Any]", put_in(yaml.safe_load(text))["services"])


def environment_of(name: str, given: Mapping[str, str] = {}) -> dict[str, str]:
    return {key: str(value) for key, value in services(given)[name]["environment"].items()}


def mount_points(service: Mapping[str, Any]) -> set[str]:
    volumes = {volume.split(":")[1] for volume in service.get("volumes", ())}
    return volumes | set(service.get("tmpfs", ()))


def test_the_service_has_a_place_for_its_keys_though_its_root_is_read_only() -> None:
    service = services()["pilothouse"]

    assert service["read_only"] is True
    assert mount_points(service) == {DATA, "/tmp"}
    assert f"PILOTHOUSE_DATA_DIR={DATA}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_every_named_volume_is_declared_and_every_declared_one_is_used() -> None:
    whole = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    used = {
        volume.split(":")[0]
        for service in whole["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith((".", "/"))
    }

    assert used == set(whole["volumes"])


def test_every_image_is_pinned_to_one_version() -> None:
    for name, service in services().items():
        if "build" not in service:
            assert re.fullmatch(r"[a-z/]+:\d+(\.\d+)+(@sha256:[0-9a-f]{64})?", service["image"]), (
                name
            )


def test_the_image_runs_as_a_user_whose_number_is_not_roots() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [*_, user] = re.findall(r"^USER (.+)$", text, re.MULTILINE)

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    number, group = user.split(":")
    assert f"--uid {number} --gid {group}" in text
    assert f"--owner={number} --group={group} --mode=700 {DATA}" in text


def test_production_refuses_every_secret_that_stands_in_the_file() -> None:
    given = environment_of("pilothouse") | {"PILOTHOUSE_MODE": "production"}
    settings = Settings(**{name.lower(): value for name, value in given.items() if value})  # type: ignore[arg-type]

    with pytest.raises(StartRefused) as refused:
        refuse_unsafe(settings)

    known = {reason.split()[0] for reason in refused.value.reasons if "default" in reason}
    assert known == {"PILOTHOUSE_TOKEN_PEPPER", "VAULT_TOKEN", "REDIS_PASSWORD", "DATABASE_URL"}


def test_each_name_it_sets_for_the_service_is_a_setting() -> None:
    known = {name.upper() for name in Settings.model_fields}

    for name in ("pilothouse", "migrate"):
        assert set(environment_of(name)) <= known


def test_what_it_sets_starts_the_service_on_a_read_only_file_system(
    vault_server: VaultServer,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    kafka_server: KafkaServer,
    zookeeper_server: ZooKeeperServer,
) -> None:
    addresses = {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
        "DATABASE_URL": postgres_server.migrated_database(),
        **redis_server.settings,
        "KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap,
        "ZOOKEEPER_HOSTS": zookeeper_server.hosts,
    }
    berth = Berth("volume")
    serve = (sys.executable, "-m", "app", "serve")
    environment = {
        **environment_of("pilothouse"),
        **addresses,
        "PILOTHOUSE_DATA_DIR": str(berth.folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (
        closing(berth),
        ServiceProcess(environment, on_read_only(serve, [berth.folder])) as service,
    ):
        wait_until(lambda: service.request("GET", "/ready").json()["status"] == "ready", "ready")
        ready = service.request("GET", "/ready").json()
        written = service.request(
            "POST", "/api/v1/config", {"key": "a.b", "value": "c", "is_encrypted": True}
        )
        made = sorted(path.name for path in berth.folder.iterdir())

    assert {port["adapter"] for port in ready["ports"]} == {
        *("vault", "postgres", "zookeeper", "redis", "kafka"),
    }
    assert written.status in {200, 201}
    assert made == ["audit.key"]


def test_without_its_volume_it_says_what_it_cannot_write() -> None:
    serve = (sys.executable, "-m", "app", "serve")
    berth = Berth("volume")
    with closing(berth):
        done = subprocess.run(
            on_read_only(serve),
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PORT": str(berth.port),
                "PILOTHOUSE_DATA_DIR": str(berth.folder / "data"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    assert done.returncode != 0
    assert "PILOTHOUSE_DATA_DIR" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


class BareVault:
    """A Vault that nobody has initialised, and the script that does so."""

    def __init__(self, berth: Berth) -> None:
        self.keys = berth.folder / "keys"
        self.keys.mkdir()
        self.address = f"http://127.0.0.1:{berth.port}"
        program = vaultd(os.environ)
        where = ("-listen", f"127.0.0.1:{berth.port}", "-data", berth.folder / "vault", "-bare")
        command = Command((program, *where), {}, berth.folder)
        self.process = ChildProcess(command, berth, lambda: is_listening(self.address))
        bin_ = berth.folder / "bin"
        bin_.mkdir()
        shim = bin_ / "vault"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.servers.vault_cli "$@"\n')
        shim.chmod(0o755)
        self._path = f"{bin_}:{os.environ['PATH']}"

    def initialise(
        self, kill: str = "", address: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        service = services()["vault-init"]
        return subprocess.run(
            [*service["entrypoint"], *service["command"]],
            cwd=ROOT,
            env={
                **environment_of("vault-init"),
                "VAULT_ADDR": address or self.address,
                "KEYS": str(self.keys),
                "POLICIES": str(ROOT / "docs" / "policies"),
                "PATH": self._path,
                "PYTHONPATH": str(ROOT),
                "KILL": kill,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @property
    def is_sealed(self) -> bool:
        return bool(request("GET", f"{self.address}/v1/sys/seal-status").json()["sealed"])

    def policies(self) -> list[str]:
        token = {"X-Vault-Token": "development-only"}
        answer = request("GET", f"{self.address}/v1/auth/token/lookup-self", headers=token)
        return list(answer.json()["data"]["policies"])

    def text(self, name: str = "init.txt") -> str:
        return (self.keys / name).read_text(encoding="utf-8")


@contextmanager
def bare_vault() -> Iterator[BareVault]:
    vault = BareVault(Berth("vault"))
    try:
        yield vault
    finally:
        vault.process.close()


@pytest.fixture
def vault(vault_server: VaultServer) -> Iterator[BareVault]:
    """One of its own; `vault_server` has it built, and marks the test."""
    with bare_vault() as started:
        yield started


def test_vault_is_initialised_once_and_unsealed_each_time(vault: BareVault) -> None:
    first = vault.initialise()
    keys = vault.text()
    vault.process.restart()
    was_sealed = vault.is_sealed
    second = vault.initialise()
    third = vault.initialise()

    assert [done.returncode for done in (first, second, third)] == [0, 0, 0], first.stderr
    assert was_sealed
    assert not vault.is_sealed
    assert vault.text() == keys
    assert set(vault.policies()) >= {"pilothouse"}
    assert [path.name for path in vault.keys.iterdir()] == ["init.txt"]


def test_a_vault_that_cannot_be_asked_costs_no_keys(vault: BareVault) -> None:
    vault.initialise()
    keys = vault.text()

    unreachable = vault.initialise(address="http://127.0.0.1:1")

    assert unreachable.returncode == 1
    assert "cannot be asked" in unreachable.stderr
    assert vault.text() == keys


def test_killed_when_vault_has_told_its_keys_they_are_found_by_the_next_run(
    vault: BareVault,
) -> None:
    killed = vault.initialise(kill="operator init")
    again = vault.initialise()

    assert killed.returncode == -9
    assert again.returncode == 0, again.stderr
    assert not vault.is_sealed


def test_killed_before_vault_was_heard_the_next_run_says_that_there_are_no_keys(
    vault: BareVault,
) -> None:
    killed = vault.initialise(kill="operator init unheard")
    again = vault.initialise()

    assert killed.returncode == -9
    assert again.returncode == 1
    assert "its keys are not here" in again.stderr


def test_keys_of_another_vault_are_put_aside(vault: BareVault) -> None:
    (vault.keys / "init.txt").write_text("Unseal Key 1: old\nInitial Root Token: old\n")

    done = vault.initialise()

    assert done.returncode == 0, done.stderr
    [aside] = vault.keys.glob("init.old-*")
    assert "Unseal Key 1: old" in aside.read_text()
