"""What schemas cost: writes, reads and changes of schemas, in turns with a service without any."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter, sleep
from typing import Any, NamedTuple

from app.rules.schemas.compiled import violations
from app.rules.schemas.reading import read_schema, schema_text
from benchmarks.changes import Kept
from benchmarks.configurations import READ_PATHS, fill
from benchmarks.load import Figures, Request
from benchmarks.table import Row
from tests.servers.service import ServiceProcess

TURNS, TURN = 12, 25  # so many requests to the one service, then as many to the other
_READ_TURNS = 200  # one read takes less than a tenth of a millisecond
REACHED, JUDGED = 50, 500  # pairs: by a shared write, and by a change of a schema
OTHERS = 10_000  # schemas that do not apply
_CHANGES = 5
_IMPORTED = 1000  # schemas at once
_JUDGINGS = 200
_FILLED_AT_ONCE = 8
_PATIENCE = 600.0
_KEYS = 30
_LARGE_KEYS = 3000  # with their values 170 kB
_SCHEMAS = "/api/v1/schemas"
_PROBED = (sys.executable, "-m", "benchmarks.probed")
_RULE = {"id": "order", "rule": "size(config.key7) <= 100 || config.key8 == 'value 8'"}
_DOCUMENT = {f"key{number}": f"value {number}" for number in range(_KEYS)}


class Services(NamedTuple):
    """Two services with the same configurations, of which one has schemas."""

    judged: ServiceProcess
    plain: ServiceProcess


def costs_of_schemas(services: Services, label: str) -> list[Row]:
    """Measure writes and reads with a schema, with a rule, and beside many that do not apply."""
    for service in services:
        asyncio.run(_fill(service))
    rows = [
        _row(services, f"write a key, no schema yet, {label}", _key_write),
        *_judged_writes(services, label),
        *_changes_of_a_schema(services.judged, label),
    ]
    _remove_schemas(services.judged)
    seconds = _load_others(services.judged)
    name = f"{OTHERS:,} other schemas"
    return [
        *rows,
        Row(f"import a schema, {name}, {label}", Figures(seconds, OTHERS / sum(seconds)), None),
        _row(services, f"write a key, {name}, {label}", _key_write),
        _row(services, f"write a shared key, {name}, {label}", _shared_write),
        *_reads(services, f"{name}, {label}"),
    ]


def start_with_others(service: ServiceProcess, environment: Mapping[str, str]) -> str:
    """Tell how long a replica takes to start on the state of a service, which is stopped here."""
    service.stop()
    state = {"PILOTHOUSE_DATA_DIR": str(service.data_folder)}
    with_others = _start({**environment, **state})
    without = _start(environment)
    return (
        f"start with {OTHERS:,} schemas: {with_others[0]:.1f} s, longest step"
        f" {with_others[1]:.0f} ms; without: {without[0]:.1f} s, {without[1]:.0f} ms"
    )


def judging() -> list[Row]:
    """Judge a configuration of 170 kB, in this process: with a subschema for each key."""
    rows = []
    for name, schema in (("each key", _schema(_LARGE_KEYS)), ("any key", {"type": "object"})):
        text = schema_text("large", {"schema": schema})
        compiled = read_schema("large", 1, json.loads(text)).compiled
        tree = _large_document()
        seconds = []
        for _ in range(_JUDGINGS):
            started = perf_counter()
            assert not violations(compiled, tree)
            seconds.append(perf_counter() - started)
        figures = Figures(seconds, _JUDGINGS / sum(seconds))
        rows.append(Row(f"judge 170 kB by a schema of {name}, in the process", figures, None))
    return rows


def _judged_writes(services: Services, label: str) -> Iterator[Row]:
    """Measure one schema without a rule, then the same with one."""
    for name, rules in (("a schema", []), ("a schema with a rule", [_RULE])):
        schema = {**_schema(_KEYS), "x-rules": rules}
        _put(services.judged, "bench", schema, "bench")
        _put(services.judged, "fleet", schema, "fleet-*")
        yield _row(services, f"write a key, {name}, {label}", _key_write)
        yield _row(services, f"write a shared key, {name}, {REACHED} pairs, {label}", _shared_write)
        yield from _reads(services, f"{name}, {label}")
    _put(services.judged, "large", _schema(_LARGE_KEYS), "large")
    yield _row(services, f"write a key of 170 kB, a schema, {label}", _large_write, 3)


def _changes_of_a_schema(service: ServiceProcess, label: str) -> Iterator[Row]:
    for name, rules in (("a schema", []), ("a schema with a rule", [_RULE])):
        seconds = []
        for number in range(_CHANGES):
            schema = {**_schema(_KEYS), "title": f"change {number}", "x-rules": rules}
            started = perf_counter()
            judged = _put(service, "many", schema, "many-*")
            seconds.append(perf_counter() - started)
            assert judged["pairs"] == JUDGED, judged
        figures = Figures(seconds, _CHANGES / sum(seconds))
        yield Row(f"change {name}, {JUDGED} pairs, {label}", figures, None)


def _reads(services: Services, label: str) -> Iterator[Row]:
    for name, path in READ_PATHS.items():
        request = Request("GET", path)
        read = lambda _, request=request: request  # noqa: E731 - as `_row` takes it
        yield _row(services, f"{name}, {label}", read, _READ_TURNS)


def _row(
    services: Services, name: str, request: Callable[[int], Request], turns: int = TURNS
) -> Row:
    """Measure requests to both services, a turn to the one and a turn to the other."""
    judged, plain = asyncio.run(_in_turns(services, request, turns))
    return Row(name, _figures(judged), _figures(plain))


async def _in_turns(
    services: Services, request: Callable[[int], Request], turns: int
) -> tuple[list[float], list[float]]:
    kept = [await Kept.connect(service.url) for service in services]
    seconds: tuple[list[float], list[float]] = ([], [])
    try:
        for turn in range(turns + 1):
            for connection, measured in zip(kept, seconds, strict=True):
                for number in range(TURN):
                    took = await _time_request(connection, request(turn * TURN + number))
                    if turn:  # the first warms up
                        measured.append(took)
    finally:
        for connection in kept:
            connection.close()
    return seconds


async def _time_request(connection: Kept, request: Request) -> float:
    started = perf_counter()
    head, body = await connection.ask(request.method, request.path, request.body)
    seconds = perf_counter() - started
    if int(head[9:12]) != request.status:
        raise RuntimeError(f"{request.method} {request.path}: {head!r} {body!r}")
    return seconds


def _figures(seconds: Sequence[float]) -> Figures:
    return Figures(seconds, len(seconds) / sum(seconds))


def _key_write(number: int) -> Request:
    return _write_of("production", "bench", number)


def _shared_write(number: int) -> Request:
    return _write_of("fleet", "_shared", number)


def _large_write(number: int) -> Request:
    return _write_of("large", "large", number)


def _write_of(environment: str, name: str, number: int) -> Request:
    path = f"/api/v1/config/key7?environment={environment}&service_name={name}"
    return Request("PUT", path, json.dumps({"value": f"value {number}"}).encode())


def _schema(keys: int) -> dict[str, Any]:
    value = {"type": "string", "minLength": 1, "maxLength": 100}
    names = [f"key{number}" for number in range(keys)]
    return {"type": "object", "properties": dict.fromkeys(names, value), "required": names[:10]}


def _large_document() -> dict[str, str]:
    return {f"key{number}": f"value {number}".ljust(40, ".") for number in range(_LARGE_KEYS)}


def _put(service: ServiceProcess, name: str, schema: Any, pattern: str) -> Any:
    body = {"schema": schema, "applies_to": [{"services": [pattern]}]}
    answer = service.request("PUT", f"{_SCHEMAS}/{name}", body, timeout=_PATIENCE)
    assert answer.status in {200, 201}, answer.body
    return answer.json()["judged"]


def _remove_schemas(service: ServiceProcess) -> None:
    for name in ("bench", "fleet", "large", "many"):
        assert service.request("DELETE", f"{_SCHEMAS}/{name}").status == 204


def _load_others(service: ServiceProcess) -> list[float]:
    """Import schemas of services that do not exist; returns the seconds of each import."""
    seconds = []
    for begin in range(0, OTHERS, _IMPORTED):
        names = [f"other-{number}" for number in range(begin, begin + _IMPORTED)]
        body = {"schemas": {name: {"schema": _schema(5)} for name in names}}
        started = perf_counter()
        answer = service.request("POST", f"{_SCHEMAS}/import", body, timeout=_PATIENCE)
        seconds.append(perf_counter() - started)
        assert answer.status == 200, answer.body
        assert {each["status"] for each in answer.json()["schemas"]} == {"created"}
    return seconds


async def _fill(service: ServiceProcess) -> None:
    """Write the configurations: four layers of one service, and many services of one layer."""
    await asyncio.to_thread(fill, service)
    documents = [("fleet", "_shared", _DOCUMENT), ("large", "large", _large_document())]
    documents += [("fleet", f"fleet-{number}", _DOCUMENT) for number in range(REACHED)]
    documents += [("many", f"many-{number}", _DOCUMENT) for number in range(JUDGED)]
    waiting = iter(documents)

    async def write() -> None:
        connection = await Kept.connect(service.url)
        for environment, name, document in waiting:
            body = json.dumps({"config_data": document}).encode()
            path = f"/api/configs/{name}?environment={environment}"
            await _time_request(connection, Request("POST", path, body, 201))
        connection.close()

    await asyncio.gather(*(write() for _ in range(_FILLED_AT_ONCE)))


def _start(environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the seconds until a service knows its schemas, and its longest step in ms."""
    started = perf_counter()
    with ServiceProcess(environment, _PROBED) as service:
        while service.request("GET", f"{_SCHEMAS}?limit=1", timeout=_PATIENCE).status != 200:
            sleep(0.01)
        seconds = perf_counter() - started
        return seconds, service.request("GET", "/probe").json()["processor_ms"]
