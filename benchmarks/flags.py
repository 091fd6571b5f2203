"""Flags: large sets in the process, evaluation at a full core, and how a change spreads."""

import asyncio
import json
import re
import tracemalloc
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import perf_counter

from app.flags.cache import FlagCache
from app.flags.model import Item
from app.flags.store.embedded import EmbeddedFlagStore
from benchmarks.changes import Kept, header
from benchmarks.configurations import CONNECTIONS
from benchmarks.load import Figures
from benchmarks.table import Row
from benchmarks.wrk import Rate, run
from tests.servers.service import ServiceProcess

FLAGS = 100
_LARGE = 5000
_CHANGES = 200
_LOOK_SECONDS = 0.001
_FLAGS = "/api/v1/feature-flags"
_OFREP = "/ofrep/v1/evaluate/flags"
_CONTEXT = {"country": "DE", "plan": "pro"}
_IN = "X-Environment: production"
_JSON = {"Content-Type": "application/json"}
_FLAGD = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {
        "if": [
            {"in": [{"var": "country"}, ["DE", "FR"]]},
            {"fractional": [["on", 50], ["off", 50]]},
            "off",
        ]
    },
}
BODY = json.dumps({"context": {**_CONTEXT, "targetingKey": "user-12345"}})


def definition(number: int) -> dict[str, object]:
    """One condition and a 50 % rollout."""
    rule = {
        "when": {"attribute": "country", "op": "in", "values": ["DE", "FR"]},
        "serve": {"rollout": {"weights": {"on": 50, "off": 50}}},
    }
    return {
        "name": f"flag{number}",
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        "off_variant": "off",
        "enabled": True,
        "rules": [rule],
    }


def large_set() -> str:
    """Tell what a set of 5,000 flags costs: to compile, to change, to keep."""
    at = datetime.now(UTC)

    def item(number: int, version: int) -> Item:
        text = json.dumps({**definition(number), "description": "x" * version})
        name = f"flag{number}"
        return Item("flag", "e", name, version, text, "created", "a", "", at, at, version)

    items = [item(number, 1) for number in range(_LARGE)]
    all_seconds = min(_seconds(lambda: _sets().apply_items_at_once(items)) for _ in range(5))
    tracemalloc.start()
    sets = _sets()
    sets.apply_items_at_once(items)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    changes = [item(7, version) for version in range(2, 202)]
    one_seconds = min(_seconds(lambda: sets.apply_items_at_once([change])) for change in changes)  # noqa: B023
    return (
        f"{_LARGE:,} flags: compiled in {all_seconds * 1000:.0f} ms, one changed in "
        f"{one_seconds * 1000:.2f} ms, {kept / 2**20:.1f} MiB compiled (tracemalloc)"
    )


def _sets() -> FlagCache:
    return FlagCache(EmbeddedFlagStore(None, lambda: None))  # type: ignore[arg-type] # never asked


def _seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def memory(service: ServiceProcess) -> str:
    """Tell what 5,000 flags add to a service, both times measured after a start."""
    before = resident(service)

    flags = {f"flag{number}": _FLAGD for number in range(_LARGE)}
    document = json.dumps({"flags": flags}, separators=(",", ":")).encode()
    path = f"{_FLAGS}/import?format=flagd&environment=large"
    made = service.request("POST", path, data=document, headers=_JSON, timeout=60)
    assert made.status == 200, made.body
    service.restart()
    body = {"environment": "large", "user_id": "u"}
    answer = service.request("POST", f"{_FLAGS}/evaluate/batch", body, timeout=60)
    assert len(answer.json()["evaluations"]) == _LARGE
    grown = (resident(service) - before) / 2**20
    return f"{_LARGE:,} flags add {grown:.0f} MiB to the process (RSS after a start), all evaluated"


def resident(service: ServiceProcess) -> float:
    text = service.request("GET", "/metrics").body.decode()
    memory = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    assert memory is not None
    return float(memory[1])


def fill(service: ServiceProcess) -> None:
    """Give the measured service its flags."""
    for number in range(FLAGS):
        body = {**definition(number), "environment": "production"}
        answer = service.request("POST", _FLAGS, body)
        assert answer.status == 201, answer.body


def evaluations(service: ServiceProcess, bare: Rate) -> list[Row]:
    """Evaluate at 20 connections by wrk, the server on one core."""
    bulk = service.request("POST", _OFREP, data=BODY.encode(), headers=_headers(_IN))
    tag = bulk.headers["ETag"]
    user = {"user_id": "user-12345", "environment": "production", "context": _CONTEXT}
    one, many = json.dumps({**user, "flag_name": "flag7"}), json.dumps(user)
    single = f"{_FLAGS}/evaluate"
    cases: Mapping[str, tuple[str, str, list[str]]] = {
        "evaluate one flag": (single, one, []),
        "evaluate one flag, OFREP": (f"{_OFREP}/flag7", BODY, [_IN]),
        f"evaluate {FLAGS} flags, batch": (f"{single}/batch", many, []),
        f"evaluate {FLAGS} flags, OFREP, 200": (_OFREP, BODY, [_IN, 'If-None-Match: "other"']),
        f"evaluate {FLAGS} flags, OFREP, 304": (_OFREP, BODY, [_IN, f"If-None-Match: {tag}"]),
        "evaluate one flag, through FastAPI": (f"{single}?door=fastapi", one, []),
    }
    return [
        Row(
            f"{name}, one core, {CONNECTIONS} connections",
            run(service.url + path, connections=CONNECTIONS, headers=headers, body=body),
            bare,
        )
        for name, (path, body, headers) in cases.items()
    ]


def _headers(*lines: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines)


async def spread_flags(writer: ServiceProcess, reader: ServiceProcess) -> list[Row]:
    """Change a flag on one replica until it is evaluated so on the other."""
    answer = writer.request("POST", _FLAGS, {**definition(0), "environment": "production"})
    assert answer.status == 201, answer.body
    body = json.dumps({"flag_name": "flag0", "environment": "production"}).encode()
    to_writer, to_reader = [await Kept.connect(url) for url in (writer.url, reader.url)]
    seen: list[float] = []
    try:
        for number in range(_CHANGES):
            change = json.dumps({"description": f"change {number}"}).encode()
            started = perf_counter()
            path = f"{_FLAGS}/flag0?environment=production"
            head, _ = await to_writer.ask("PATCH", path, change)
            await _wait_until_evaluated(to_reader, body, header(head, b"x-revision"))
            seen.append(perf_counter() - started)
    finally:
        to_writer.close()
        to_reader.close()
    rate = len(seen) / sum(seen)
    return [Row("flag changed on A to evaluated on B", Figures(seen, rate), None)]


async def _wait_until_evaluated(service: Kept, body: bytes, revision: bytes) -> None:
    """Return once an evaluation reflects this revision."""
    while True:
        _, answer = await service.ask("POST", f"{_FLAGS}/evaluate", body)
        if answer.endswith(b'"revision":%b}' % revision):
            return
        await asyncio.sleep(_LOOK_SECONDS)
