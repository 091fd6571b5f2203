"""Writing, reading and importing configurations, beside bare Vault calls in the same run."""

import asyncio
import json
from collections.abc import Callable
from time import perf_counter

import hvac

from benchmarks.load import Figures, Request, measure
from benchmarks.table import Row
from benchmarks.wrk import Rate, run
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

WRITES = 1000
READS = 1000
CONNECTIONS = 20
_DOCUMENT = {f"key{number}": f"value {number}" for number in range(30)}
_PATH = "environment=production&service_name=bench"
READ_PATHS = {
    "read a key": f"/api/v1/config/key7?{_PATH}",
    "read effective": f"/api/v1/effective?{_PATH}",
}


def fill(service: ServiceProcess) -> None:
    """Give the measured service a document of 30 keys in each layer that a read merges."""
    for environment, name in (
        ("default", "_shared"),
        ("production", "_shared"),
        ("default", "bench"),
        ("production", "bench"),
    ):
        body = {"config_data": _DOCUMENT}
        answer = service.request("POST", f"/api/configs/{name}?environment={environment}", body)
        assert answer.status == 201, answer.body


def reads(service: ServiceProcess, label: str, bare: Figures | None) -> list[Row]:
    """Read by key and the effective configuration, one reader after the other."""
    rows = []
    for name, path in READ_PATHS.items():
        request = Request("GET", path)
        figures = _load(service, lambda _, request=request: request, READS, 1)  # type: ignore[misc]
        rows.append(Row(f"{name}, {label}, 1 connection", figures, bare))
    return rows


def busy_reads(service: ServiceProcess, label: str, bare: Rate) -> list[Row]:
    """The same at 20 connections by wrk, 200 and 304, the server on one core."""
    rows = []
    for name, path in READ_PATHS.items():
        tag = service.request("GET", path).headers["ETag"]
        for status, headers in (("200", []), ("304", [f"If-None-Match: {tag}"])):
            rate = run(service.url + path, connections=CONNECTIONS, headers=headers)
            rows.append(Row(f"{name}, {status}, {label}, 20 connections", rate, bare))
    return rows


def writes(service: ServiceProcess, label: str, bare: Figures | None) -> list[Row]:
    """Replace one key of a 30-key document, one writer at a time."""

    def request(number: int) -> Request:
        body = json.dumps({"value": f"value {number}"}).encode()
        return Request("PUT", f"/api/v1/config/key7?{_PATH}", body)

    figures = _load(service, request, WRITES, 1)
    many = _load(service, _over_many_documents(service), WRITES, CONNECTIONS)
    return [
        Row(f"write a key, {label}, 1 connection", figures, bare),
        Row(f"write a key, {label}, {CONNECTIONS} connections, 50 documents", many, None),
    ]


def _over_many_documents(service: ServiceProcess) -> Callable[[int], Request]:
    for number in range(50):
        body = {"config_data": _DOCUMENT}
        answer = service.request("POST", f"/api/configs/bench{number}?environment=many", body)
        assert answer.status == 201, answer.body

    def request(number: int) -> Request:
        body = json.dumps({"value": f"value {number}"}).encode()
        path = f"/api/v1/config/key7?environment=many&service_name=bench{number % 50}"
        return Request("PUT", path, body)

    return request


def imports(service: ServiceProcess, label: str) -> list[Row]:
    """Import 1,000 keys into one document: one version."""
    text = "".join(f"section{n % 50}.key{n}: value {n}\n" for n in range(1000))
    started = perf_counter()
    answer = service.request(
        "POST", "/api/v1/import?service_name=imported&format=yaml", data=text.encode()
    )
    seconds = perf_counter() - started
    assert answer.status == 200, answer.body
    assert answer.json()["documents"][0]["version"] == 1
    return [Row(f"import 1,000 keys, {label}", Figures([seconds], 1 / seconds), None)]


def bare_vault(vault: VaultServer) -> tuple[Figures, Figures]:
    """Measure hvac writing and reading a document of the same size."""
    client = hvac.Client(vault.address, token=vault.root_token)
    secrets = client.secrets.kv.v2
    text = json.dumps({"data": _DOCUMENT, "keys": dict.fromkeys(_DOCUMENT, "x" * 60)})
    path = f"{vault.fresh_prefix()}/bare"

    def write(number: int) -> None:
        secrets.create_or_update_secret(path, {"document": text}, cas=number)

    def read(_: int) -> None:
        secrets.read_secret_version(path, version=WRITES, raise_on_deleted_version=True)

    return _time_calls(write), _time_calls(read)


def _time_calls(call: Callable[[int], None]) -> Figures:
    latencies = []
    for number in range(WRITES):
        started = perf_counter()
        call(number)
        latencies.append(perf_counter() - started)
    return Figures(latencies, len(latencies) / sum(latencies))


def _load(
    service: ServiceProcess, requests: Callable[[int], Request], count: int, connections: int
) -> Figures:
    asyncio.run(measure(service.url, requests, count=count // 10, connections=connections))
    return asyncio.run(measure(service.url, requests, count=count, connections=connections))
