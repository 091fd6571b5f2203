"""Schemas and rules that are made to be costly cost the one who sends them, and no one else."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

import pytest

from tests.servers.answer import Answer
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ANSWERED_SECONDS = 2.0  # what is promised of every write
STILL_SECONDS = 1.0  # in which one request may keep all others waiting
EXPECTED = frozenset({200, 201, 204, 400, 404, 409, 413, 422, 503})
LIVE_SECONDS = 0.01  # at the median, on a machine that is quiet
PAUSE_SECONDS = 0.005
ENVIRONMENT = "siege"
READ = "/api/v1/effective?environment=quiet&service_name=shop"
_SAMPLES = 40
TEN = "[0,1,2,3,4,5,6,7,8,9]"
WIDE = {f"key{number}": number for number in range(2000)}
FEW = {f"key{number}": number for number in range(600)}
DEEP: Any = 1
for _ in range(30):
    DEEP = {"a": DEEP}
LARGE = {"l": list(range(4000)), "s": "x" * 200_000}
LISTS = {"l": [{"k": number, "v": f"value {number}"} for number in range(5000)]}


def rule(expression: str) -> dict[str, Any]:
    return {"x-rules": [{"id": "hostile", "rule": expression}]}


def union(depth: int, width: int = 2) -> Any:
    """Unions of unions, none of whose branches is met before the last."""
    if not depth:
        return {"required": ["never"]}
    return {"anyOf": [union(depth - 1, width) for _ in range(width)]}


def nested_schema(depth: int) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


def shared_unions(levels: int) -> Any:
    """Each definition refers to the next one twice: few nodes, two to the `levels` branches."""
    definitions: dict[str, Any] = {
        f"d{level}": {"anyOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)
    }
    definitions[f"d{levels}"] = {"required": ["never"]}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


RULES = {
    "loop": f"{TEN}.all(a,{TEN}.all(b,{TEN}.all(c,{TEN}.all(d,{TEN}.all(e, a+b+c+d+e >= 0)))))",
    "loops over a list": "config.l.all(a, config.l.all(b, config.l.exists(c, c == a + b) || true))",
    "sums of texts": "config.l.map(a, config.s + config.s + config.s).size() > 0",
    "sums of lists": "config.l.map(a, config.l + config.l + config.l + config.l).size() > 0",
    "patterns": "config.l.all(a, config.s.matches('((a{1,30}){1,30}|x)*y') || true)",
    "parentheses": "(" * 450 + "true" + ")" * 450,
    "many terms": " || ".join(["config.l == config.l"] * 40),
    "conversions": "config.l.all(a, string(config.l.map(b, string(b))).size() > 0)",
}
SCHEMAS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "a pattern": ({"properties": {"s": {"pattern": "^(x+x+)+y$"}}}, LARGE),
    "a large pattern": ({"properties": {"s": {"pattern": "((a{1,100}){1,100}){1,100}"}}}, LARGE),
    "many patterns": (
        {"patternProperties": {f"(k|e|y|{number})*{number}$": {} for number in range(1000)}},
        WIDE,
    ),
    "a large enum": ({"properties": {"s": {"enum": [f"e{n:05}" for n in range(20_000)]}}}, LARGE),
    "enums at each item": (
        {"properties": {"l": {"items": {"enum": [{"k": n, "v": "x"} for n in range(4000)]}}}},
        LISTS,
    ),
    "deep": (nested_schema(40), DEEP),
    "too many nodes": ({"allOf": [{"minProperties": 0}] * 6000}, WIDE),
    "many nodes": ({"allOf": [{"minProperties": 0}] * 4900}, WIDE),
    "unions": (union(11), WIDE),
    "shared unions": (shared_unions(30), WIDE),
    "unions at each key": ({"additionalProperties": union(6)}, WIDE),
    "unions at each item": ({"properties": {"l": {"items": union(4)}}}, LISTS),
    "a circle": (
        {"$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {}]}}, "$ref": "#/$defs/n"},
        WIDE,
    ),
    "as many unions as are judged": ({"additionalProperties": union(5)}, FEW),
    "as many patterns as are judged": (
        {"additionalProperties": {"allOf": [{"pattern": "^(x+x+)+y$"}] * 40}},
        {f"key{number}": "x" * 300 for number in range(900)},
    ),
    "as many texts as are judged": (
        {"properties": {"l": {"items": {"enum": [f"e{number:05}" for number in range(1500)]}}}},
        {"l": [f"t{number:05}" for number in range(1200)]},
    ),
    "unique items": ({"properties": {"l": {"uniqueItems": True}}}, LISTS),
    "what is left over": (
        {
            "allOf": [{"patternProperties": {f"^a{n}": True}} for n in range(60)],
            "unevaluatedProperties": {"type": "string"},
        },
        WIDE,
    ),
}


@dataclass
class Watch:
    """How long `/live` and another one's read take, asked again and again."""

    service: ServiceProcess
    live: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=(over,))
        self.live, self.reads = [], []
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look(self, over: threading.Event) -> None:
        while not over.wait(PAUSE_SECONDS) or not self.live:
            for path, taken in (("/live", self.live), (READ, self.reads)):
                began = monotonic()
                assert self.service.request("GET", path).status == 200
                taken.append(monotonic() - began)


@dataclass
class Siege:
    service: ServiceProcess
    watch: Watch
    quiet_live: float
    quiet_reads: float

    def attack(self, schema: Any, config: Mapping[str, Any]) -> list[tuple[Answer, float]]:
        """Put a schema, and write what it judges; return the answers with their seconds."""
        where = f"environment={ENVIRONMENT}"
        body = {
            "applies_to": [{"environments": [ENVIRONMENT], "services": ["shop"]}],
            "schema": schema,
        }
        document = {"config_data": dict(config)}
        answers: list[tuple[Answer, float]] = []
        steps = (
            ("PUT", "/api/v1/schemas/hostile", body),
            ("POST", f"/api/configs/shop?{where}", document),
            ("DELETE", "/api/v1/schemas/hostile", None),
            ("POST", f"/api/configs/shop?{where}", document),
            ("PUT", "/api/v1/schemas/hostile", body),
            ("PATCH", f"/api/v1/config?{where}&service_name=shop", {"set": {"other": 1}}),
            ("DELETE", "/api/v1/schemas/hostile", None),
            ("DELETE", f"/api/configs/shop?{where}", None),
        )
        with self.watch.watching():
            while not answers or len(self.watch.reads) < _SAMPLES:
                for method, path, sent in steps:
                    began = monotonic()
                    answer = self.service.request(method, path, sent)
                    answers.append((answer, monotonic() - began))
        return answers

    def is_calm(self) -> bool:
        """Tell whether others were served about as before."""
        live = self.quiet_live * 3 + LIVE_SECONDS
        reads = self.quiet_reads * 3 + LIVE_SECONDS
        return median(self.watch.live) < live and median(self.watch.reads) < reads


@pytest.fixture(scope="module")
def siege() -> Iterator[Siege]:
    with ServiceProcess({"LOG_LEVEL": "warning"}) as service:
        shop = {"set": {"a": 1}}
        place = "/api/v1/config?environment=quiet&service_name=shop"
        assert service.request("PATCH", place, shop).status == 200
        watch = Watch(service)
        with watch.watching():
            wait_until(lambda: len(watch.live) >= _SAMPLES, "it was watched")
        yield Siege(service, watch, median(watch.live), median(watch.reads))


@pytest.fixture(autouse=True)
def clean(siege: Siege) -> Iterator[None]:
    yield
    siege.service.request("DELETE", "/api/v1/schemas/hostile")
    siege.service.request("DELETE", f"/api/configs/shop?environment={ENVIRONMENT}")


def assert_contained(siege: Siege, schema: Any, config: Mapping[str, Any]) -> None:
    answers = siege.attack(schema, config)

    assert {answer.status for answer, _ in answers} <= EXPECTED, [
        answer.body for answer, _ in answers
    ]
    assert max(seconds for _, seconds in answers) < ANSWERED_SECONDS + SLACK_SECONDS
    assert max(siege.watch.live) < STILL_SECONDS + SLACK_SECONDS
    assert siege.is_calm()


@pytest.mark.parametrize("name", RULES)
def test_a_hostile_rule_costs_its_sender_only(siege: Siege, name: str) -> None:
    assert_contained(siege, rule(RULES[name]), LARGE)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_hostile_schema_costs_its_sender_only(siege: Siege, name: str) -> None:
    assert_contained(siege, *SCHEMAS[name])
