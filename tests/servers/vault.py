"""A real Vault for tests: named in the environment, in a container, or built from `vaultd/`."""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.servers.answer import request
from tests.servers.choice import (
    ForeignServer,
    NotOurs,
    NotProvided,
    ServerMissing,
    first_provided,
)
from tests.servers.container import Image, RunningContainer
from tests.servers.process import (
    PATIENCE_SECONDS,
    Berth,
    ChildProcess,
    Command,
    Running,
    wait_until,
)

VAULTD = Path(__file__).parent / "vaultd"
AUTH_METHODS = frozenset({"approle"})
CONFIGURATION = {
    "storage": {"file": {"path": "/vault/file"}},  # the image's development mode forgets
    "listener": [{"tcp": {"address": "0.0.0.0:8200", "tls_disable": True}}],
    "disable_mlock": True,
}
IMAGE = Image(
    name="hashicorp/vault:1.21.2",  # what vaultd is built from
    port=8200,
    command="server",
    environment={"VAULT_LOCAL_CONFIG": json.dumps(CONFIGURATION), "SKIP_SETCAP": "true"},
)


class VaultServer:
    """Has KV v2 at `secret/`, transit at `transit/` and AppRole at `approle/`."""

    def __init__(
        self, address: str, root_token: str, running: Running, unseal_key: str | None = None
    ) -> None:
        self.address = address
        self.root_token = root_token
        self._running = running
        self._unseal_key = unseal_key
        self.enable("kv", "secret")
        self.enable("transit", "transit")
        self.enable("approle", "approle")
        self._wait_until_usable()

    def api(
        self, method: str, path: str, body: Any = None, *, timeout: float = PATIENCE_SECONDS
    ) -> tuple[int, Any]:
        """Ask `/v1/{path}` as root; tell the status and the parsed body, None when it is empty."""
        token = {"X-Vault-Token": self.root_token}
        url = f"{self.address}/v1/{path}"
        answer = request(method, url, json=body, headers=token, timeout=timeout)
        return answer.status, answer.json() if answer.body else None

    def fresh_prefix(self) -> str:
        """Invent a first segment of paths that nothing else uses."""
        return f"t{secrets.token_hex(8)}"

    def enable(self, kind: str, path: str) -> None:
        """Mount a secrets engine or an auth method unless something is mounted there already."""
        where = f"sys/auth/{path}" if kind in AUTH_METHODS else f"sys/mounts/{path}"
        options = {"version": "2"} if kind == "kv" else {}
        status, answer = self.api("POST", where, {"type": kind, "options": options})
        if status >= 300 and "already in use" not in str(answer):
            raise RuntimeError(f"Vault does not mount {kind} at {path}: {status} {answer}")

    def seal(self) -> None:
        if self._unseal_key is None:
            raise NotOurs("only a Vault that this run started can be sealed: it can be unsealed")
        self.api("PUT", "sys/seal")

    def unseal(self) -> None:
        self.api("PUT", "sys/unseal", {"key": self._unseal_key})
        self._wait_until_usable()

    def freeze(self) -> None:
        self._running.freeze()

    def thaw(self) -> None:
        self._running.thaw()

    def kill(self) -> None:
        self._running.kill()

    def stop(self) -> None:
        self._running.stop()

    def restart(self) -> None:
        self._running.restart()
        self._wait_until_usable()

    def close(self) -> None:
        self._running.close()

    def _wait_until_usable(self) -> None:
        # KV v2 answers 400 for a moment after it was mounted.
        wait_until(lambda: self.api("GET", "secret/config")[0] == 200, "Vault serves secrets")


def start_vault(environment: Mapping[str, str] = os.environ) -> VaultServer:
    """Raise ServerMissing, naming what is missing, when there is no way to get one."""
    return first_provided(
        "Vault",
        {
            "set TEST_VAULT_ADDR and TEST_VAULT_TOKEN": lambda: _foreign_vault(environment),
            "start a Docker engine": _vault_in_container,
            "install Go, which builds tests/servers/vaultd": lambda: _vault_from_source(
                environment
            ),
        },
    )


def _foreign_vault(environment: Mapping[str, str]) -> VaultServer:
    address = environment.get("TEST_VAULT_ADDR")
    if not address:
        raise NotProvided("TEST_VAULT_ADDR is not set")
    token = environment.get("TEST_VAULT_TOKEN")
    if not token:
        raise ServerMissing("TEST_VAULT_ADDR is set, but TEST_VAULT_TOKEN is not")
    return VaultServer(address.rstrip("/"), token, ForeignServer("TEST_VAULT_ADDR"))


def _is_serving(address: str) -> bool:
    try:
        return request("GET", f"{address}/v1/sys/health", timeout=2).status == 200
    except (OSError, HTTPException):
        return False


def _vault_in_container() -> VaultServer:
    container = RunningContainer(IMAGE)
    address = f"http://{container.host}:{container.port}"
    container.wait_until_ready(partial(is_listening, address))
    shares = {"secret_shares": 1, "secret_threshold": 1}
    keys = request("PUT", f"{address}/v1/sys/init", json=shares).json()
    key = keys["keys"][0]
    container.wait_until_ready(partial(_is_unsealed, address, key))
    return VaultServer(address, keys["root_token"], container, key)


def is_listening(address: str) -> bool:
    try:
        return request("GET", f"{address}/v1/sys/seal-status", timeout=2).status == 200
    except (OSError, HTTPException):
        return False


def _is_unsealed(address: str, key: str) -> bool:
    """Unseal it as well: a restarted Vault comes up sealed."""
    if not is_listening(address):
        return False
    request("PUT", f"{address}/v1/sys/unseal", json={"key": key})
    return _is_serving(address)


def _vault_from_source(environment: Mapping[str, str]) -> VaultServer:
    program = vaultd(environment)
    berth = Berth("vault")
    data, token = berth.folder / "data", secrets.token_hex(16)
    where = f"127.0.0.1:{berth.port}"
    address = f"http://{where}"
    command = Command(
        argv=(program, "-listen", where, "-root-token", token, "-data", data),
        environment={},
        folder=berth.folder,
    )
    child = ChildProcess(command, berth, partial(_is_serving, address))
    return VaultServer(address, token, child, (data / "unseal.key").read_text())


def vaultd(environment: Mapping[str, str]) -> Path:
    """Build the program unless an earlier run did, from the same sources."""
    sources = b"".join((VAULTD / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    digest = hashlib.sha256(sources).hexdigest()[:16]
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache / "pilothouse" / "servers" / f"vaultd-{digest}"
    if not program.exists():
        go = shutil.which("go", path=environment.get("PATH", ""))
        if go is None:
            raise NotProvided(f"no `go` on the PATH, and no {program}")
        program.parent.mkdir(parents=True, exist_ok=True)
        with program.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs side by side build once
            if not program.exists():
                _build(go, program, environment)
    return program


def _build(go: str, program: Path, environment: Mapping[str, str]) -> None:
    unfinished = program.with_suffix(".unfinished")
    # A stamp of the version control would fail in a checkout that belongs to somebody else.
    built = subprocess.run(
        (go, "build", "-buildvcs=false", "-o", unfinished, "."),
        cwd=VAULTD,
        env={**environment, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        raise NotProvided(f"`go build` fails: {built.stderr.strip()[-2000:]}")
    unfinished.replace(program)
