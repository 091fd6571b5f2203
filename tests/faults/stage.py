"""One store with its change log, the services on them, and what is true there in the end."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

import asyncpg

from tests.faults.checker import Truth, check
from tests.faults.checker_kafka import check_events
from tests.faults.history import ENVIRONMENT, Client, History
from tests.faults.launcher import Failpoint
from tests.faults.topic import Topic
from tests.servers.deadlines import PROMPT
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.proxy import LossyProxy, Predicate
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

LAUNCH = (sys.executable, "-m", "tests.faults.launcher", "serve")
# What is traced; a test may write elsewhere what its history does not tell.
FOLDER = f"layers/{ENVIRONMENT}"
SETTLED_SECONDS = 20
_PAGE = 1000
# The reconciler comes early and often: it shall meet the writers.
EAGER = {"FIRST_LOOK": "0.2", "RECONCILE_EVERY": "0.1"}
NEVER = "3600"

Versions = Mapping[int, str | None]


class Backend(Protocol):
    """Where a stage keeps documents and log, seen past the service."""

    @property
    def environment(self) -> Mapping[str, str]: ...
    def versions(self) -> Mapping[str, Versions]: ...
    def newest(self) -> Mapping[str, int]: ...
    def open_intents(self) -> int: ...
    def logged_versions(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class RealBackend:
    vault: VaultServer
    prefix: str
    database: str

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "VAULT_ADDR": self.vault.address,
            "VAULT_TOKEN": self.vault.root_token,
            "VAULT_PREFIX": self.prefix,
            "DATABASE_URL": self.database,
        }

    def versions(self) -> Mapping[str, Versions]:
        return {
            document: {number: self.text(document, number) for number in range(1, newest + 1)}
            for document, newest in self.newest().items()
        }

    def newest(self) -> Mapping[str, int]:
        status, answer = self.vault.api("GET", f"{self._path('metadata', FOLDER)}?list=true")
        names = answer["data"]["keys"] if status == 200 else []
        found = {f"{FOLDER}/{name}": self._newest(f"{FOLDER}/{name}") for name in names}
        return {document: version for document, version in found.items() if version}

    def _newest(self, document: str) -> int:
        status, answer = self.vault.api("GET", self._path("metadata", document))
        return int(answer["data"]["current_version"]) if status == 200 else 0

    def text(self, document: str, version: int) -> str | None:
        path = f"{self._path('data', document)}?version={version}"
        status, answer = self.vault.api("GET", path)
        return answer["data"]["data"]["document"] if status == 200 else None

    def edit(self, document: str, base: int, text: str) -> None:
        """Write a version past the service."""
        body = {"options": {"cas": base}, "data": {"document": text}}
        status, answer = self.vault.api("POST", self._path("data", document), body)
        assert status == 200, answer

    def hide(self, document: str, version: int) -> None:
        """Delete a version past the service, as `vault kv delete` does."""
        path = f"secret/delete/{self.prefix}/{document}"
        status, answer = self.vault.api("POST", path, {"versions": [version]})
        assert status == 204, answer

    def _path(self, what: str, document: str) -> str:
        return f"secret/{what}/{self.prefix}/{document}"

    def open_intents(self) -> int:
        return int(self.fetch("SELECT count(*) FROM intents WHERE state = 'open'")[0][0])

    def logged_versions(self) -> Mapping[str, int]:
        found = self.fetch("SELECT doc, logged_version FROM documents WHERE logged_version > 0")
        return {row[0]: row[1] for row in found if row[0].startswith(FOLDER)}

    def changes(self) -> Sequence[Mapping[str, Any]]:
        """Return the rows of the log itself, of all kinds and environments."""
        columns = ("revision", "id", "kind", "environment", "name", "version", "action", "deleted")
        rows = self.fetch(f"SELECT {', '.join(columns)} FROM changes ORDER BY revision")
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def unsent(self) -> int:
        return int(self.fetch("SELECT count(*) FROM changes WHERE sent_at IS NULL")[0][0])

    def fetch(self, question: str) -> Sequence[Sequence[Any]]:
        async def fetch_rows() -> Sequence[Sequence[Any]]:
            connection = await asyncpg.connect(self.database, timeout=PATIENCE_SECONDS)
            try:
                rows: Sequence[Sequence[Any]] = await connection.fetch(question)
                return rows
            finally:
                await connection.close()

        return asyncio.run(fetch_rows())


@dataclass(frozen=True)
class EmbeddedBackend:
    folder: Callable[[], Path]

    environment: Mapping[str, str] = field(default_factory=dict)

    def versions(self) -> Mapping[str, Versions]:
        found: dict[str, dict[int, str | None]] = {}
        for document, version, text in self.fetch("SELECT doc, version, body FROM versions"):
            found.setdefault(document, {})[version] = text
        return found

    def newest(self) -> Mapping[str, int]:
        return dict(self.fetch("SELECT doc, max(version) FROM versions GROUP BY doc"))

    def open_intents(self) -> int:
        return int(self.fetch("SELECT count(*) FROM intents WHERE state = 'open'")[0][0])

    def logged_versions(self) -> Mapping[str, int]:
        return dict(self.fetch("SELECT doc, logged_version FROM documents"))

    def fetch(self, question: str) -> list[Any]:
        file = f"file:{self.folder() / 'pilothouse.db'}?mode=ro"
        with closing(sqlite3.connect(file, uri=True, timeout=PATIENCE_SECONDS)) as connection:
            return connection.execute(question).fetchall()


def writing(service: str) -> Predicate:
    """Match requests to Vault that write the document."""
    return _asking("POST", service)


def reading(service: str) -> Predicate:
    return _asking("GET", service)


def _asking(method: str, service: str) -> Predicate:
    def matches(request: bytes) -> bool:
        asked_method, _, target = request.partition(b"\r\n")[0].partition(b" ")
        path = target.split(b" ")[0].split(b"?")[0]
        document = f"{FOLDER}/{service}".encode()
        return asked_method == method.encode() and b"/data/" in path and path.endswith(document)

    return matches


class Stage:
    """Starts services with the launcher; ends them when it is closed."""

    def __init__(
        self,
        folder: Path,
        vault: VaultServer | None,
        database: str | None,
        topic: Topic | None = None,
    ) -> None:
        self.history = History(folder / "history.jsonl")
        self.streams = History(folder / "streams.jsonl")
        self.topic = topic  # without one nobody is told of changes
        self._heard = folder / "heard.jsonl"
        self._failpoints = folder / "failpoints"
        self._processes = ExitStack()
        self._clients = 0
        self.services: list[ServiceProcess] = []
        self.backend: Backend
        if vault is not None and database is not None:
            self.backend = RealBackend(vault, vault.fresh_prefix(), database)
        else:
            self.backend = EmbeddedBackend(lambda: self.services[0].data_folder)

    def start(self, **environment: str) -> ServiceProcess:
        """Start a replica; `environment` goes over what leads it to this stage's servers."""
        common = {
            **PROMPT,
            "FAILPOINT": f"@{self._failpoints}",
            "VAULT_SCAN_INTERVAL": NEVER,
            "VAULT_MAX_VERSIONS": "10000",
        }
        of_topic = self.topic.environment if self.topic is not None else {}
        given = {**common, **EAGER, **self.backend.environment, **of_topic, **environment}
        service = self._processes.enter_context(ServiceProcess(given, LAUNCH))
        self.services.append(service)
        return service

    def way_to_vault(self) -> tuple[LossyProxy, dict[str, str]]:
        """Open a proxy, and name the settings of a replica whose way it stands in."""
        address = urlsplit(self.real.vault.address)
        proxy = self._proxy(address)
        return proxy, {"VAULT_ADDR": f"http://127.0.0.1:{proxy.port}"}

    def way_to_postgres(self) -> tuple[LossyProxy, dict[str, str]]:
        url = urlsplit(self.real.database)
        proxy = self._proxy(url)
        where = f"{url.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        return proxy, {"DATABASE_URL": url._replace(netloc=where).geturl()}

    def _proxy(self, target: SplitResult) -> LossyProxy:
        proxy = LossyProxy(target.hostname or "", target.port or 0)
        self._processes.callback(proxy.close)
        return proxy

    def start_many(self, *environments: Mapping[str, str]) -> list[ServiceProcess]:
        """Start as many replicas, at the same time."""
        with ThreadPoolExecutor(len(environments)) as threads:
            return list(threads.map(lambda environment: self.start(**environment), environments))

    def close(self) -> None:
        for service in self.services:
            service.kill()  # nothing that is asked of it any more is worth waiting for
        self._processes.close()

    def client(self) -> Client:
        self._clients += 1
        return Client(self.history, f"c{self._clients}")

    @property
    def real(self) -> RealBackend:
        assert isinstance(self.backend, RealBackend)
        return self.backend

    def arm(self, *failpoints: Failpoint) -> None:
        """Let the services that are told no other failpoints have these, and only these."""
        unfinished = self._failpoints.with_suffix(".unfinished")
        unfinished.write_text(" ".join(map(str, failpoints)))
        unfinished.replace(self._failpoints)

    def edit(self, document: str, version: int, value: str) -> None:
        """Write version + 1 in Vault itself, as a copy of `version` with one key changed."""
        text = self.real.text(document, version)
        assert text is not None
        body = json.loads(text)
        body["data"]["edited"] = value
        self.real.edit(document, version, json.dumps(body))
        self.history.append("edited", document=document, version=version + 1, value=value)

    def hide(self, document: str, version: int) -> None:
        text = self.real.text(document, version)
        self.real.hide(document, version)
        self.history.append("hidden", document=document, version=version, text=text)

    def forget(self, document: str) -> None:
        """Delete a document in Vault with all its versions."""
        status, answer = self.real.vault.api(
            "DELETE", f"secret/metadata/{self.real.prefix}/{document}"
        )
        assert status == 204, answer

    def settle(self) -> None:
        """Wait until every write was looked at, the log has all that is stored, and all is sent."""
        wait_until(self._is_settled, "the log has caught up with the store", SETTLED_SECONDS)

    def _is_settled(self) -> bool:
        if self.backend.open_intents() or (self.topic is not None and self.real.unsent()):
            return False
        return self.backend.newest() == self.backend.logged_versions()

    def violations(self) -> list[str]:
        """Settle, then check all that clients did against what is true."""
        self.settle()
        return self.violations_now()

    def violations_now(self) -> list[str]:
        """Check what clients did against what is true now."""
        lines = self.history.lines()
        return check(lines, self.truth(self.services[0], lines)) + self._found_in_topic()

    def _found_in_topic(self) -> list[str]:
        if self.topic is None:
            return []
        heard = self.topic.published_changes()
        self._heard.write_text("".join(f"{line}\n" for line in heard))
        return check_events(heard, self.real.changes())

    def truth(self, replica: ServiceProcess, lines: Sequence[str]) -> Truth:
        changes = _all_changes(replica)
        last = max((change["revision"] for change in changes), default=0)
        versions = self.backend.versions()
        intents = {intent for line in lines if (intent := json.loads(line).get("intent"))}
        return Truth(
            versions=versions,
            changes=changes,
            current={document: _read_document(replica, document, last) for document in versions},
            outcomes={
                intent: replica.request("GET", f"/api/v1/writes/{intent}").json()
                for intent in intents
            },
        )


def _all_changes(replica: ServiceProcess) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    page: Mapping[str, Any] = {"next": ""}
    where = f"environment={ENVIRONMENT}&limit={_PAGE}"
    while page["next"] is not None:
        cursor = f"&cursor={page['next']}" if page["next"] else ""
        page = replica.request("GET", f"/api/v1/changes?{where}{cursor}").json()
        found += page["items"]
    return found


def _read_document(
    replica: ServiceProcess, document: str, revision: int
) -> Mapping[str, Any] | None:
    service = document.rpartition("/")[2]
    question = f"environment={ENVIRONMENT}&min_revision={revision}"
    answer = replica.request("GET", f"/api/configs/{service}?{question}")
    return answer.json() if answer.status == 200 else None
