"""python -m benchmarks.shares [WORD]: how long one request holds all others, for each endpoint.

Each endpoint is asked with the worst that it accepts, or has to look at before it refuses; told is
the longest step of the event loop meanwhile. With a WORD only the cases that it is part of.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.table import machine
from tests.servers.deadlines import PATIENT
from tests.servers.service import ServiceProcess

PROBED = (sys.executable, "-m", "benchmarks.probed")
_ADMIN = "administrator-of-the-benchmarks-only"
_QUIET = {
    **PATIENT,
    "LOG_LEVEL": "warning",
    "PILOTHOUSE_CHANGE_RETENTION_DAYS": "1",
    "PILOTHOUSE_ACCESS": "required",
    "PILOTHOUSE_ADMIN_TOKEN": _ADMIN,
}
_AUTHORIZED = {"Authorization": f"Bearer {_ADMIN}"}
_MIB = 1024 * 1024
_AIM_MS = 50.0
_FAILURE = 400
_PATIENCE = 300.0
_AT_ONCE = 8  # requests that fill a service
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Case:
    """A request; `body` is made anew each time, so that it changes something each time."""

    name: str
    method: str
    path: str
    body: Callable[[int], Any] = lambda _: None
    headers: Mapping[str, str] | None = None
    times: int = 3


@dataclass(frozen=True, slots=True)
class Share:
    case: Case
    status: int
    processor_ms: float
    clock_ms: float
    what: str


def measure_share(service: ServiceProcess, case: Case) -> Share:
    costs: list[tuple[float, float]] = []
    status, what = 0, ""
    for turn in range(case.times):
        body = case.body(turn)
        data = body if isinstance(body, bytes) else None if body is None else _json(body)
        service.request("GET", "/probe")
        headers = {**(case.headers or _JSON), **_AUTHORIZED}
        answer = service.request(
            case.method, case.path, data=data, headers=headers, timeout=_PATIENCE
        )
        probe = service.request("GET", "/probe").json()
        status = answer.status
        if case.times == 1 or probe["processor_ms"] >= max((p for p, _ in costs), default=0):
            what = f"(collector {probe['collector_ms']:.0f}) {probe['what']}"
        costs.append((probe["processor_ms"], probe["clock_ms"]))
    return Share(case, status, median(p for p, _ in costs), median(c for _, c in costs), what)


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


# What is sent: as much of each shape as 1 MiB holds.


def _always(body: Any) -> Callable[[int], Any]:
    return lambda _: body


def _flat(count: int) -> dict[str, Any]:
    return {f"k{number}": number for number in range(count)}


def _deep(count: int, levels: int = 50) -> Mapping[str, Any]:
    """Many chains of sections inside each other."""

    def chain(number: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"s": number}
        for _ in range(levels - 1):
            schema = {"s": schema}
        return schema

    chains: dict[str, Any] = {f"k{number}": chain(number) for number in range(count)}
    return chains


def _long(number: int, count: int, size: int) -> dict[str, Any]:
    return {f"k{n}": f"{number}" + "x" * size for n in range(count)}


def _of(turn: int, members: Mapping[str, Any]) -> dict[str, Any]:
    return {"config_data": {**members, "turn": turn}}


def configurations() -> Iterator[Case]:
    documents = "/api/configs"
    shapes: Mapping[str, Callable[[], Mapping[str, Any]]] = {
        "60,000 keys": lambda: _flat(60_000),
        "8,000 keys": lambda: _flat(8000),
        "1,500 chains of 50 sections": lambda: _deep(1500),
        "7 values of 100 kB": lambda: _long(0, 7, 100_000),
        "a list of 350,000 numbers": lambda: {"list": [1] * 350_000},
        "250,000 empty lists": lambda: {"list": [[]] * 250_000},
        "6,000 suspicious values": lambda: {f"password{n}": f"aB3$xK9{n:05d}" for n in range(6000)},
    }
    for shape, make in shapes.items():
        made = make()
        name = "".join(letter for letter in shape if letter.isalnum())[:30]
        yield Case(
            f"POST a document, {shape}",
            "POST",
            f"{documents}/{name}",
            lambda turn, made=made: _of(turn, made),  # type: ignore[misc]
            times=1,
        )
        yield Case(
            f"PUT a document, {shape}",
            "PUT",
            f"{documents}/{name}",
            lambda turn, made=made: _of(turn + 10, made),  # type: ignore[misc]
        )
        if shape != "60,000 keys":
            here = f"{documents}/{name}"
            yield Case(f"GET a document, {shape}", "GET", here)
            yield Case(f"GET its history, {shape}", "GET", f"{here}/history")
            diff = f"{here}/diff?old_version=1&new_version=2"
            yield Case(f"GET its diff, {shape}", "GET", diff)
            rollback = f"{here}/rollback"
            yield Case(f"POST its rollback, {shape}", "POST", rollback, lambda _: {"version": 1})
            query = f"service_name={name}"
            yield Case(f"GET all keys, {shape}", "GET", f"/api/v1/config?{query}&limit=1000")
            yield Case(f"GET effective, {shape}", "GET", f"/api/v1/effective?{query}")
            for form in ("yaml", "dotenv", "properties"):
                yield Case(
                    f"GET effective as {form}, {shape}",
                    "GET",
                    f"/api/v1/effective?{query}",
                    headers={
                        "Accept": f"text/x-java-{form}"
                        if form == "properties"
                        else f"application/{form}"
                        if form == "yaml"
                        else "text/x-dotenv"
                    },
                )
                yield Case(
                    f"GET export as {form}, {shape}", "GET", f"/api/v1/export?{query}&format={form}"
                )
            yield Case(
                f"PUT one key, {shape}",
                "PATCH",
                f"/api/v1/config?{query}",
                lambda turn: {"set": {"one": turn}},
            )
            yield Case(
                f"GET history of a key, {shape}", "GET", f"/api/v1/config/turn/history?{query}"
            )
            yield Case(
                f"GET secret revealed, {shape}", "GET", f"/api/v1/effective?{query}&reveal=true"
            )
    for count in (60_000, 8000, 3000):
        yield Case(
            f"PATCH of {count:,} keys",
            "PATCH",
            f"/api/v1/config?service_name=patched{count}",
            lambda turn, count=count: {  # type: ignore[misc]
                "set": {f"k{n}": n + turn for n in range(count)}
            },
        )
    yield Case(
        "PATCH of 30,000 dotted keys",
        "PATCH",
        "/api/v1/config?service_name=dotted",
        lambda turn: {"set": {f"a.b.c.k{n}": n + turn for n in range(30_000)}},
    )
    yield Case(
        "PATCH that encrypts 3,000 keys",
        "PATCH",
        "/api/v1/config?service_name=sealed",
        lambda turn: {
            "set": {f"k{n}": f"{turn}" for n in range(3000)},
            "encrypt": [f"k{n}" for n in range(3000)],
        },
        times=1,
    )
    yield Case(
        "PATCH that unsets 8,000 keys",
        "PATCH",
        "/api/v1/config?service_name=8000keys",
        lambda turn: {"unset": [f"k{n}" for n in range(8000)], "set": {"again": turn}},
        times=1,
    )
    yield Case(
        "POST a key with a section of 60,000",
        "POST",
        "/api/v1/config",
        lambda turn: {"key": f"wide{turn}", "value": _flat(60_000), "service_name": "section"},
    )
    yield Case(
        "POST bulk read of 1,000 keys",
        "POST",
        "/api/v1/config/bulk",
        lambda _: {"service_name": "8000keys", "keys": [f"k{n}" for n in range(1000)]},
    )
    yield Case(
        "POST bulk read of 1,000 items",
        "POST",
        "/api/v1/config/bulk",
        lambda _: {"items": [{"key": f"k{n}", "service_name": f"s{n}"} for n in range(1000)]},
    )


def imports() -> Iterator[Case]:
    anchors = "".join(f"k{n}: &a{n} v\n" for n in range(50_000)).encode()
    aliases = b"a: &a {x: 1}\n" + b"".join(b"k%d: *a\n" % n for n in range(50_000))
    merges = b"a: &a {x: 1}\n" + b"".join(b"k%d: {<<: *a}\n" % n for n in range(30_000))
    files = {
        "yaml of 60,000 documents": ("yaml", b"---\na: 1\n" * 60_000),
        "yaml of 260,000 empty documents": ("yaml", b"---\n" * 260_000),
        "yaml of 50,000 anchors": ("yaml", anchors),
        "yaml of 50,000 aliases": ("yaml", aliases),
        "yaml of 30,000 merges": ("yaml", merges),
        "yaml of 60,000 keys": ("yaml", b"".join(b"k%d: 1\n" % n for n in range(60_000))),
        "yaml of 500,000 items": ("yaml", b"a: [" + b"1," * 500_000 + b"]\n"),
        "yaml of 300 brackets deep": ("yaml", b"a: " + b"[" * 300_000),
        "yaml of one text": ("yaml", b'a: "' + b"x" * 1_000_000 + b'"\n'),
        "yaml of folded lines": ("yaml", b"a: >\n" + b"  x\n" * 200_000),
        "yaml of 200,000 comments": ("yaml", b"# x\n" * 200_000 + b"a: 1\n"),
        "json of 60,000 keys": ("json", _json(_flat(60_000))),
        "json of 340,000 lists": ("json", _json({"a": [[]] * 340_000})),
        "properties of 150,000 lines": (
            "properties",
            b"".join(b"k%d=1\n" % n for n in range(100_000)),
        ),
        "properties of one escaped value": ("properties", b"a=" + b"\\u0041" * 170_000),
        "dotenv of 100,000 lines": ("dotenv", b"".join(b"K%d=1\n" % n for n in range(100_000))),
        "dotenv of blank lines": ("dotenv", b"\n" * 1_000_000),
        "properties of blank lines": ("properties", b"\n" * 1_000_000),
    }
    for name, (form, text) in files.items():
        for dry in ("true", "false"):
            yield Case(
                f"POST import, {name}{' (dry run)' if dry == 'true' else ''}",
                "POST",
                f"/api/v1/import?format={form}&service_name=i{len(name)}&dry_run={dry}",
                lambda _, text=text: text[:_MIB],  # type: ignore[misc]
                headers={"Content-Type": "application/octet-stream"},
                times=1,
            )


def bodies() -> Iterator[Case]:
    texts = {
        "numbers": b'{"a":[' + b"1," * 520_000 + b"1]}",
        "floats": b'{"a":[' + b"1.5," * 260_000 + b"1]}",
        "empty lists": b'{"a":[' + b"[]," * 340_000 + b"1]}",
        "empty objects": b'{"a":[' + b"{}," * 340_000 + b"1]}",
        "members": b'{"a":[' + b'{"a":1},' * 130_000 + b"1]}",
        "texts": b'{"a":[' + b'"",' * 340_000 + b"1]}",
        "many members": _json({f"m{n}": 0 for n in range(80_000)}),
        "escapes": b'{"a":"' + b"\\u0041" * 170_000 + b'"}',
        "long integers": b'{"a":[' + b",".join([b"9" * 4300] * 240) + b"]}",
        "deep": b'{"a":' + b"[" * 500_000,
        "twice": b"{" + b",".join([b'"a":1'] * 150_000) + b"}",
        "a late flaw": b'{"a":[' + b"[]," * 340_000 + b"NaN]}",
        "a late surrogate": b'{"a":[' + b"[]," * 330_000 + b'"\\ud800"]}',
        "no end": b'{"a":[' + b"1," * 500_000,
        "newlines": b'{"a":[' + b"1,\n" * 300_000 + b"x",
    }
    for name, text in texts.items():
        for path in (
            "/api/v1/feature-flags/evaluate",
            "/api/v1/feature-flags",
            "/ofrep/v1/evaluate/flags",
            "/api/v1/config/bulk",
            "/api/v1/registry/register",
            "/api/v1/tokens",
            "/api/v1/flag-usage",
        ):
            body = _always(text[:_MIB])
            yield Case(f"POST {path}, JSON of {name}", "POST", path, body, times=1)


def _flag(name: str, rules: list[Any], **members: Any) -> dict[str, Any]:
    return {
        "name": name,
        "environment": "worst",
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        "off_variant": "off",
        "enabled": True,
        "rules": rules,
        **members,
    }


def _when(op: str, values: list[Any], attribute: str = "a", **more: Any) -> dict[str, Any]:
    return {"attribute": attribute, "op": op, "values": values, **more}


def _on(*conditions: Any, how: str = "any") -> list[Any]:
    return [{"when": {how: list(conditions)}, "serve": {"variant": "on"}}]


def evaluations() -> Iterator[Case]:
    flags = "/api/v1/feature-flags"
    contains = [f"{'a' * 80}{n}" for n in range(10_000)]
    for n in range(7):
        yield Case(
            f"POST a flag of 10,000 contains ({n})",
            "POST",
            flags,
            lambda _, n=n: _flag(f"contains{n}", _on(_when("contains", contains))),  # type: ignore[misc]
            times=1,
        )
    yield Case(
        "PATCH a flag of 10,000 contains",
        "PATCH",
        f"{flags}/contains0?environment=worst",
        lambda turn: {"description": f"{turn}"},
    )
    patterns = ["(a|b)*a(a|b){90}c"] * 40
    more: Mapping[str, list[Any]] = {
        "patterns": _on(_when("matches", patterns)),
        "dense": _on(*[_when("matches", ["x.*y.*z.*[0-9]+q"]) for _ in range(300)]),
        "folded": _on(*[_when("contains", ["b"], case_insensitive=True) for _ in range(900)]),
        "versions": _on(*[_when("semver_gt", ["9.0.0"]) for _ in range(900)]),
        "includes": _on(*[_when("includes", [n], "list") for n in range(900)]),
        "networks": _on(_when("cidr", [f"10.{n % 256}.{n // 256}.0/24" for n in range(10_000)])),
        "in": _on(_when("in", [f"u{n}" for n in range(60_000)])),
        "loose": _on(*[_when("gt", [5], loose=True) for _ in range(900)]),
        "wide": _on(*[{"any": [_when("eq", [f"{n}{m}"]) for m in range(19)]} for n in range(200)]),
    }
    for name, rules in more.items():
        yield Case(
            f"POST a flag, {name}",
            "POST",
            flags,
            lambda _, name=name, rules=rules: _flag(name, rules),  # type: ignore[misc]
            times=1,
        )
    yield Case(
        "POST a segment of 60,000 users",
        "POST",
        "/api/v1/segments",
        lambda _: {
            "name": "users",
            "environment": "worst",
            "when": _when("in", [f"u{n}" for n in range(60_000)], "user_id"),
        },
        times=1,
    )
    yield Case(
        "POST a segment of 900 contains",
        "POST",
        "/api/v1/segments",
        lambda _: {
            "name": "slow",
            "environment": "worst",
            "when": {"any": [_when("contains", [f"b{n}"]) for n in range(900)]},
        },
        times=1,
    )
    for n in range(3):
        yield Case(
            f"POST a segment of segments ({n})",
            "POST",
            "/api/v1/segments",
            lambda _, n=n: {  # type: ignore[misc]
                "name": f"slow{n}",
                "environment": "worst",
                "when": {"any": [{"segment": f"slow{n - 1}" if n else "slow"}] * 20},
            },
            times=1,
        )
    yield Case(
        "POST a flag of segments of segments",
        "POST",
        flags,
        lambda _: _flag("segments", _on(*[{"segment": "slow2"}] * 10)),
        times=1,
    )
    contexts: Mapping[str, Any] = {
        "short": {"a": "x", "list": [1]},
        "4,096 letters": {"a": "a" * 4096, "list": list(range(10_000))},
        "a long version": {"a": "1.0.0-" + "a." * 2000 + "b"},
        "60 kB": {"a": "a" * 60_000},
        "900 kB": {"a": "a" * 900_000},
        "900 kB of small members": {f"m{n}": n for n in range(70_000)},
    }
    for name, context in contexts.items():
        for flag in ("contains0", *more, "segments"):
            yield Case(
                f"POST evaluate {flag}, {name}",
                "POST",
                f"{flags}/evaluate",
                lambda _, c=context, f=flag: {  # type: ignore[misc]
                    "flag_name": f,
                    "environment": "worst",
                    "user_id": "u",
                    "context": c,
                },
                times=1,
            )
        yield Case(
            f"POST evaluate/batch, {name}",
            "POST",
            f"{flags}/evaluate/batch",
            lambda _, c=context: {"environment": "worst", "user_id": "u", "context": c},  # type: ignore[misc]
            times=1,
        )
        for path in ("", "/contains0"):
            yield Case(
                f"POST OFREP{path}, {name}",
                "POST",
                f"/ofrep/v1/evaluate/flags{path}",
                lambda _, c=context: {"context": c},  # type: ignore[misc]
                headers={**_JSON, "X-Environment": "worst"},
                times=1,
            )
        for flag in ("contains0", "patterns", "wide", "segments"):
            yield Case(
                f"POST evaluate with explain {flag}, {name}",
                "POST",
                f"{flags}/evaluate",
                lambda _, c=context, f=flag: {  # type: ignore[misc]
                    "flag_name": f,
                    "environment": "worst",
                    "context": c,
                    "explain": True,
                },
                times=1,
            )
    yield Case("GET flags with large definitions", "GET", f"{flags}?environment=worst&limit=1000")
    yield Case("GET flags by text", "GET", f"{flags}?environment=worst&q=zzz")
    yield Case("GET flags by tag", "GET", f"{flags}?environment=worst&tag=zzz")
    yield Case("GET a large flag", "GET", f"{flags}/in?environment=worst")
    yield Case("GET its history", "GET", f"{flags}/contains0/history?environment=worst")
    yield Case("GET flag-set", "GET", "/api/v1/flag-set?environment=worst")
    yield Case(
        "GET flags exported", "GET", f"{flags}/export?environment=worst&format=flagd&leave_out=true"
    )
    yield Case("GET segments", "GET", "/api/v1/segments?environment=worst")
    yield Case("GET a large segment", "GET", "/api/v1/segments/users?environment=worst")
    yield Case(
        "POST flag-usage of 10,000 counts",
        "POST",
        "/api/v1/flag-usage",
        lambda _: {
            "environment": "worst",
            "evaluations": {f"f{n}": {"on": 1} for n in range(10_000)},
        },
    )


def many_flags() -> Iterator[Case]:
    flags = "/api/v1/feature-flags"
    flagd = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    many = {f"flag{n}": flagd for n in range(10_000)}
    yield Case(
        "POST flags from flagd, 1 MiB",
        "POST",
        f"{flags}/import?format=flagd&environment=many",
        lambda _: {"flags": many},
        times=1,
    )
    features = [
        {"name": f"f{n}", "enabled": True, "strategies": [{"name": "default"}]}
        for n in range(12_000)
    ]
    yield Case(
        "POST flags from Unleash, 1 MiB",
        "POST",
        f"{flags}/import?format=unleash&environment=unleashed",
        lambda _: {"version": 1, "features": features},
        times=1,
    )
    yield Case(
        "POST evaluate/batch, 10,000 flags",
        "POST",
        f"{flags}/evaluate/batch",
        lambda _: {"environment": "many", "user_id": "u"},
    )
    yield Case(
        "POST OFREP, 10,000 flags",
        "POST",
        "/ofrep/v1/evaluate/flags",
        lambda _: {"context": {"targetingKey": "u"}},
        headers={**_JSON, "X-Environment": "many"},
    )
    yield Case("GET flags, 10,000 flags", "GET", f"{flags}?environment=many&limit=1000")
    yield Case("GET flags, 10,000 by text", "GET", f"{flags}?environment=many&q=zzz")
    yield Case("GET flags, 10,000 by tag", "GET", f"{flags}?environment=many&tag=zzz")
    yield Case("GET flags, 10,000 stale", "GET", f"{flags}?environment=many&stale_days=1")
    yield Case("GET flag-set, 10,000 flags", "GET", "/api/v1/flag-set?environment=many")
    yield Case("GET flags exported, 10,000", "GET", f"{flags}/export?environment=many&format=flagd")
    yield Case(
        "POST one more of 10,000 flags",
        "POST",
        flags,
        lambda turn: {"name": f"more{turn}", "environment": "many"},
    )
    segment = {"environment": "many", "when": _when("in", ["u"], "user_id")}
    for n in range(10):
        yield Case(
            f"POST a segment ({n})",
            "POST",
            "/api/v1/segments",
            lambda _, n=n: {**segment, "name": f"s{n}"},  # type: ignore[misc]
            times=1,
        )
    yield Case("GET segments beside 10,000 flags", "GET", "/api/v1/segments?environment=many")
    yield Case("GET changes of 10,000 flags", "GET", "/api/v1/changes?limit=1000")
    yield Case("GET audit of 10,000 flags", "GET", "/api/v1/audit?limit=1000")
    for path in ("/metrics", "/stats", "/health"):
        yield Case(f"GET {path} with 10,000 flags", "GET", path)


def registry() -> Iterator[Case]:
    path = "/api/v1/registry"
    metadata = {f"m{n}": "v" * 8 for n in range(600)}
    yield Case(
        "POST register with large metadata",
        "POST",
        f"{path}/register",
        lambda turn: {
            "service_name": "large",
            "service_url": f"http://10.0.0.{turn + 1}:80",
            "metadata": metadata,
        },
    )
    yield Case(
        "POST register with metadata of 1 MiB",
        "POST",
        f"{path}/register",
        lambda _: {
            "service_name": "large",
            "service_url": "http://10.0.0.9:80",
            "metadata": {f"m{n}": "" for n in range(80_000)},
        },
    )
    for query in ("", "?limit=1000", "?include_down=true"):
        yield Case(f"GET discover{query}", "GET", f"{path}/discover/many{query}")
    yield Case(
        "GET discover that waits a second",
        "GET",
        f"{path}/discover/many?wait=1",
        headers={"Prefer": "wait=1", "If-None-Match": '"unknown"'},
    )
    for query in ("", "?strategy=random", "?strategy=hash&key=x", "?strategy=least_recent"):
        yield Case(f"GET url{query}", "GET", f"{path}/services/many/url{query}")
    yield Case("GET services", "GET", f"{path}/services?limit=1000")
    yield Case("GET a service of thousands", "GET", f"{path}/services/many?limit=1000")
    yield Case("POST health of thousands", "POST", f"{path}/services/many/health", times=1)
    yield Case("GET prometheus of thousands", "GET", f"{path}/prometheus")
    yield Case("POST release of thousands", "POST", f"{path}/services/many/release", times=1)
    for other in ("/metrics", "/stats", "/health"):
        yield Case(f"GET {other} with thousands of instances", "GET", other)


def lists() -> Iterator[Case]:
    yield Case("GET documents", "GET", "/api/configs?limit=1000")
    yield Case("GET changes", "GET", "/api/v1/changes?limit=1000")
    yield Case("GET audit", "GET", "/api/v1/audit?limit=1000")
    yield Case("GET audit as lines", "GET", "/api/v1/audit?format=jsonl&limit=1000")
    yield Case("GET stats", "GET", "/stats")
    yield Case("GET health", "GET", "/health")
    yield Case("GET ready", "GET", "/ready")
    yield Case("GET live", "GET", "/live")
    yield Case("GET metrics", "GET", "/metrics")
    yield Case("GET openapi.json", "GET", "/openapi.json")
    yield Case("GET tokens", "GET", "/api/v1/tokens?limit=1000")


def fill_registry(service: ServiceProcess, count: int) -> None:
    _fill(
        service,
        "/api/v1/registry/register",
        (
            {
                "service_name": "many" if number % 3 else f"service{number}",
                "service_url": f"http://10.1.{number // 250}.{number % 250 + 1}:80",
                "metadata": {f"m{n}": "v" * 20 for n in range(20)},
                "ttl_seconds": 86_400,
            }
            for number in range(count)
        ),
    )


def fill_lists(service: ServiceProcess, count: int) -> None:
    _fill(
        service,
        "/api/v1/config",
        (
            {"key": f"k{number // count}", "value": "v" * 500, "service_name": f"s{number % count}"}
            for number in range(2 * count)
        ),
    )
    _fill(
        service,
        "/api/v1/tokens",
        (
            {
                "name": f"t{number}",
                "class": "operator",
                "environments": ["*"],
                "services": ["*"],
                "roles": ["viewer"],
            }
            for number in range(count)
        ),
    )


def _fill(service: ServiceProcess, path: str, bodies: Iterator[Mapping[str, Any]]) -> None:
    def ask(body: Mapping[str, Any]) -> None:
        answer = service.request("POST", path, body, headers=_AUTHORIZED, timeout=_PATIENCE)
        assert answer.status in (200, 201), answer.body

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(ask, bodies):
            pass


def main(word: str = "") -> int:
    with ServiceProcess(_QUIET, PROBED) as service:
        groups = {
            "configurations": configurations(),
            "imports": imports(),
            "bodies": bodies(),
            "evaluations": evaluations(),
            "many_flags": many_flags(),
            "registry": registry(),
            "lists": lists(),
        }
        for name, cases in groups.items():
            if word and word != name:
                continue
            if name == "registry":
                fill_registry(service, 3000)
            if name == "lists":
                fill_lists(service, 1500)
            for case in cases:
                share = measure_share(service, case)
                print(
                    f"| {share.case.name} | {share.status} | {share.processor_ms:.1f} "
                    f"| {share.clock_ms:.1f} |",
                    flush=True,
                )
                if share.processor_ms > _AIM_MS or share.status >= _FAILURE:
                    print(share.what[:160], flush=True)
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
