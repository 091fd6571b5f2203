"""A real PostgreSQL for tests: named in the environment, in a container, or installed here."""

import asyncio
import os
import pwd
import re
import secrets
import shutil
import subprocess
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from signal import SIGINT
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from app.postgres.migration import migrate
from tests.servers.choice import ForeignServer, NotProvided, first_provided
from tests.servers.container import Image, RunningContainer
from tests.servers.debian import install
from tests.servers.process import PATIENCE_SECONDS, Berth, ChildProcess, Command, Running

DEBIAN = Path("/usr/lib/postgresql")  # one folder a version, none of them on the PATH
SETTINGS = ("-c", "fsync=on", "-c", "max_connections=300")
# After a kill it would bring every file of every database to the disk, which takes seconds, and
# minutes on a busy disk. Only a crash of the machine itself makes that needed.
AT_ONCE = ("-c", "recovery_init_sync_method=syncfs")
AT_ONCE_SINCE = (14,)


class PostgresServer:
    def __init__(self, url: str, running: Running) -> None:
        self.url = url
        self._running = running
        self._databases: list[str] = []
        self._template = ""

    def fresh_database(self) -> str:
        """Create an empty database and tell its URL."""
        return self._copy("template0")  # a session in template1 would stand in the way

    def migrated_database(self) -> str:
        """Create a database with the newest schema and nothing in it, and tell its URL.

        It is a copy of one that was migrated: a fifth of what a migration takes.
        """
        if not self._template:
            url = self.fresh_database()
            _finish(migrate(url))
            self._template = _name(url)
        return self._copy(self._template)

    def _copy(self, template: str) -> str:
        name = f"t{secrets.token_hex(8)}"
        _finish(_execute(self.url, f"CREATE DATABASE {name} TEMPLATE {template}"))
        self._databases.append(name)
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def drop(self, url: str) -> None:
        """Drop a database of this run: hundreds would slow whatever is done to the server."""
        name = _name(url)
        _finish(_execute(self.url, f"DROP DATABASE {name} WITH (FORCE)"))
        self._databases.remove(name)

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

    def close(self) -> None:
        if isinstance(self._running, ForeignServer):  # any other takes its databases along
            for name in self._databases:
                _finish(_execute(self.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        self._running.close()


def start_postgres(
    environment: Mapping[str, str] = os.environ, debian: Path = DEBIAN
) -> PostgresServer:
    """Raise ServerMissing, naming what is missing, when there is no way to get one."""
    return first_provided(
        "PostgreSQL",
        {
            "set TEST_DATABASE_URL to a database next to which tests may create others": (
                lambda: _foreign_postgres(environment)
            ),
            "start a Docker engine": _postgres_in_container,
            "install PostgreSQL": lambda: _installed_postgres(environment, debian),
        },
    )


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end in a thread of its own: the caller may be inside an event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(
        url, timeout=PATIENCE_SECONDS, command_timeout=4 * PATIENCE_SECONDS
    )
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _is_serving(url: str) -> bool:
    try:
        _finish(_execute(url, "SELECT 1"))
    except (OSError, asyncpg.PostgresError):
        return False
    return True


def _foreign_postgres(environment: Mapping[str, str]) -> PostgresServer:
    url = environment.get("TEST_DATABASE_URL")
    if not url:
        raise NotProvided("TEST_DATABASE_URL is not set")
    plain = url.replace("+asyncpg", "", 1)  # SQLAlchemy's way of naming the driver
    return PostgresServer(plain, ForeignServer("TEST_DATABASE_URL"))


def _postgres_in_container() -> PostgresServer:
    password = secrets.token_hex(16)
    image = Image(
        name="postgres:15",
        port=5432,
        command=" ".join(["postgres", *SETTINGS, *AT_ONCE]),
        environment={"POSTGRES_PASSWORD": password},
    )
    container = RunningContainer(image)
    url = f"postgresql://postgres:{password}@{container.host}:{container.port}/postgres"
    container.wait_until_ready(partial(_is_serving, url))
    return PostgresServer(url, container)


def _installed_postgres(environment: Mapping[str, str], debian: Path) -> PostgresServer:
    programs = _programs(environment, debian)
    user = _account()
    berth = Berth("postgres", owner=user)
    data = berth.folder / "data"
    _initialize(programs / "initdb", data, user)
    url = f"postgresql://postgres@127.0.0.1:{berth.port}/postgres"
    listen = ("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={berth.folder}")
    postgres = programs / "postgres"
    settings = (*SETTINGS, *(AT_ONCE if _version(postgres) >= AT_ONCE_SINCE else ()))
    command = Command(
        argv=(postgres, "-D", data, "-p", str(berth.port), *listen, *settings),
        environment={},
        folder=berth.folder,
        user=user or "",
        stop_signal=SIGINT,  # SIGTERM would wait for the last client to leave
    )
    return PostgresServer(url, ChildProcess(command, berth, partial(_is_serving, url)))


def _is_root() -> bool:
    return os.geteuid() == 0


def _account() -> str | None:
    """Name the user to run it as, None for ourselves: it refuses to run as root."""
    if not _is_root():
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise NotProvided("it refuses to run as root, and there is no user `postgres`") from None


def _initialize(initdb: Path, data: Path, user: str | None) -> None:
    account = pwd.getpwnam(user) if user else None
    subprocess.run(
        (initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"),
        cwd=data.parent,
        env={},
        stdout=subprocess.DEVNULL,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        check=True,
    )


def _programs(environment: Mapping[str, str], debian: Path) -> Path:
    """Find the folder of the newest version that runs; install one when there is none."""
    found = _newest(environment, debian)
    if found is None:
        install("postgresql", f"no `postgres` on the PATH or in {DEBIAN}/*/bin", environment)
        found = _newest(environment, debian)
    if found is None:
        raise NotProvided("apt-get installed it, but no `postgres` runs")
    return found


def _newest(environment: Mapping[str, str], debian: Path) -> Path | None:
    candidates = set(debian.glob("*/bin/postgres"))
    on_path = shutil.which("postgres", path=environment.get("PATH", ""))
    if on_path is not None:
        candidates.add(Path(on_path).resolve())
    versions = [(_version(program), program.parent) for program in candidates]
    newest = max(versions, default=((), debian))
    return newest[1] if newest[0] else None


def _version(postgres: Path) -> tuple[int, ...]:
    """Tell its version, empty when it does not run or cannot create a cluster."""
    try:
        line = subprocess.check_output((postgres, "--version"), stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return ()
    numbers = re.search(rb"\(PostgreSQL\) (\d+)(?:\.(\d+))?", line)
    if numbers is None or not (postgres.parent / "initdb").exists():
        return ()
    return tuple(int(number or 0) for number in numbers.groups())
