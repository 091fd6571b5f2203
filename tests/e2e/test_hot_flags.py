"""Every evaluation through both doors: ahead of FastAPI, and (with a parameter) by it."""

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.drawn import contexts
from tests.e2e.client import body_of
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS, freeze_server, wait_until
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer
from tests.trials import trials

ONE, BATCH = "/api/v1/feature-flags/evaluate", "/api/v1/feature-flags/evaluate/batch"
ALL, KEY = "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/ramp"
PATHS = (ONE, BATCH, ALL, KEY)
JSON = {"Content-Type": "application/json"}
IN = {"X-Environment": "production"}
GERMAN = {"attribute": "country", "op": "in", "values": ["DE"]}
RAMP = {"id": "ramp", "when": GERMAN, "serve": {"rollout": {"weights": {"on": 50, "off": 50}}}}
HOST = "flags.example"
FLAGS: dict[str, dict[str, Any]] = {
    "ramp": {"rules": [RAMP]},
    "all-roll": {"rollout_percentage": 50},
    "box": {"type": "object", "variants": {"b": {"é": [1.0]}}, "default_variant": "b"},
    "number": {
        "type": "number",
        "variants": {"one": 1, "two": 2},
        "default_variant": "one",
        "off_variant": "two",
    },
    "disabled": {"enabled": False, "off_variant": None},
    "needs": {"prerequisites": [{"flag": "disabled", "variants": ["on"]}]},
}
GOOD: dict[str, dict[str, Any]] = {
    ONE: {"flag_name": "ramp", "user_id": "ann", "environment": "production"},
    BATCH: {"user_id": "ann", "environment": "production"},
    ALL: {"context": {"targetingKey": "ann"}},
    KEY: {"context": {"targetingKey": "ann"}},
}


@dataclass(frozen=True)
class Doors:
    process: ServiceProcess

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", urlsplit(self.process.url).port or 0

    def wire(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Write a request as it is sent."""
        stated = {"Host": HOST, "X-Request-Id": "r1", **JSON, **IN, **headers}
        if "Transfer-Encoding" not in stated:
            stated.setdefault("Content-Length", str(len(body)))
        lines = [f"{name}: {value}\r\n" for name, value in stated.items() if value]
        return f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1") + body

    def send_pieces(self, *pieces: bytes) -> Answer:
        """Send pieces of a request, each once the one before has arrived."""
        with socket.create_connection(self.address, timeout=PATIENCE_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                connection.sendall(piece)
                # Another request is answered: so what was sent before it has been read.
                self.process.request("GET", "/live")
            response = HTTPResponse(connection, method="POST")
            response.begin()
            return Answer(response.status, response.headers, response.read())

    def both(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[bool, Answer]:
        """Send it to both doors, compare, and tell whether the first answer was the hot one's."""
        hot = self.send_pieces(self.wire(path, body, headers or {}))
        cold = self.send_pieces(self.wire(f"{path}?door=fastapi", body, headers or {}))
        assert cold.headers["X-Door"] == "fastapi"
        assert (hot.status, hot.body) == (cold.status, cold.body)
        assert compared_headers(hot) == compared_headers(cold)
        return "X-Door" not in hot.headers, hot


def compared_headers(answer: Answer) -> list[tuple[str, str]]:
    return [pair for pair in answer.headers.items() if pair[0] not in {"x-door", "date"}]


def json_bytes(body: object) -> bytes:
    return json.dumps(body).encode()


ARGV = (sys.executable, "-m", "tests.e2e.doors")


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with ServiceProcess({"LOG_LEVEL": "warning", "ALLOWED_HOSTS": HOST}, ARGV) as process:
        for name, members in FLAGS.items():
            body = {"name": name, "environment": "production", **members}
            made = process.request("POST", "/api/v1/feature-flags", body)
            body_of(made, 201)
        process.request("GET", f"/api/v1/effective?min_revision={made.headers['X-Revision']}")
        yield Doors(process)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *GOOD.items(),
        (ONE, {**GOOD[ONE], "context": {"country": "DE", "plan": None}}),
        (ONE, {**GOOD[ONE], "user_id": 7, "context": {"deep": {"er": [{}]}, "at": "10:00"}}),
        (ONE, {**GOOD[ONE], "user_id": 2**70, "context": {"big": 2**70}}),
        (ONE, {**GOOD[ONE], "flag_name": "needs", "user_id": "ä\u2028"}),
        (BATCH, {**GOOD[BATCH], "flag_names": ["box", "no such", "box", "number"]}),
        (BATCH, {**GOOD[BATCH], "flag_names": []}),
        (BATCH, {**GOOD[BATCH], "flag_names": None, "user_id": None}),
        (ALL, {}),
        (ALL, {"context": {}, "more": 1}),
        (ALL, {"context": None}),
        (KEY, {"context": {"targetingKey": "ann", "country": "DE"}}),
        (KEY, {"context": {"country": "DE"}}),
        (f"{ALL}/disabled", {}),
        (f"{ALL}/all-roll", {}),
    ],
)
def test_the_hot_door_answers_as_fastapi_does(doors: Doors, path: str, body: object) -> None:
    is_hot, answer = doors.both(path, json_bytes(body))

    assert is_hot
    assert answer.status in {200, 400}


@pytest.mark.parametrize("path", [ALL, KEY])
def test_an_empty_body_is_no_context(doors: Doors, path: str) -> None:
    assert doors.both(path, b"")[0]


BAD = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff",
    b"\xef\xbb\xbf{}",
    b'{"context":1}',
    b'{"context":{"targetingKey":1.5}}',
    b'{"context":{"a":1,"a":2}}',
    b'{"context":{},"context":{}}',
    b'{"context":{"a":NaN}}',
    b'{"context":{"a":1e400}}',
    b'{"context":{"a":"\\ud800"}}',
    b'{"context":{"a":"\\u0000"}}',
    b'{"context":{"a":"\x00"}}',
    b'{"context":{"a":' + b"[" * 70 + b"]" * 70 + b"}}",
    b'{"context":{"a":' + b"7" * 5000 + b"}}",
    b'{"context":{"a":"' + b"x" * 70_000 + b'"}}',
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_what_is_no_good_body_is_answered_the_same(doors: Doors, path: str, body: bytes) -> None:
    doors.both(path, body)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (ONE, {"explain": True}),
        (ONE, {"flag_name": "no such"}),
        (ONE, {"flag_name": 7}),
        (ONE, {"flag_name": None}),
        (ONE, {"unknown": 1}),
        (ONE, {"user_id": True}),
        (ONE, {"user_id": 1.5}),
        (ONE, {"context": None}),
        (ONE, {"environment": "nothing-here"}),
        (ONE, {"environment": "no name"}),
        (ONE, {"environment": None}),
        (BATCH, {"flag_names": "ramp"}),
        (BATCH, {"flag_names": ["ramp", 7]}),
        (BATCH, {"flag_names": [""] * 10_001}),
        (BATCH, {"explain": True}),
        (BATCH, {"environment": ["production"]}),
    ],
)
def test_what_is_unusual_is_left_to_fastapi(doors: Doors, path: str, more: dict[str, Any]) -> None:
    is_hot, _ = doors.both(path, json_bytes({**GOOD[path], **more}))

    assert not is_hot


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Environment": ""},
        {"X-Environment": "nothing-here"},
        {"X-Environment": "no name"},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://x"},
        {"Host": ""},
        {"Host": "bad host"},
        {"Host": "[::1]:80"},
        {"Host": "UPPER:0443"},
        {"Accept": "text/html", "Prefer": "wait=5", "If-None-Match": '"x", *'},
        {"If-None-Match": '"x"', "if-none-match": "*"},
        {"Cookie": "x" * 65_536},
        {"Connection": "close"},
        {"Transfer-Encoding": "chunked"},
    ],
    ids=str,
)
def test_headers_mean_the_same(doors: Doors, path: str, headers: dict[str, str]) -> None:
    body = json_bytes(GOOD[path])
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    doors.both(path, chunked if "Transfer-Encoding" in headers else body, headers)


@pytest.mark.parametrize(
    "path",
    [
        f"{ONE}/",
        f"{BATCH}/",
        f"{ALL}/",
        f"{ALL}//",
        f"{KEY}/",
        f"{ALL}/no%2Fsuch",
        f"{ALL}/r%61mp",
        f"{ALL}/%ff",
        f"{ALL}/../ramp",
        f"{ALL}%2Framp",
        "/api/v1/feature-flags%2Fevaluate",
        "/api/v1/feature-flags/%65valuate",
    ],
)
def test_paths_mean_the_same(doors: Doors, path: str) -> None:
    body = GOOD[ALL] if "ofrep" in path else GOOD[BATCH] if "batch" in path else GOOD[ONE]

    is_hot, _ = doors.both(path, json_bytes(body))

    assert not is_hot


def test_what_the_client_knows_is_not_sent_again(doors: Doors) -> None:
    body = json_bytes(GOOD[ALL])
    tag = doors.both(ALL, body)[1].headers["ETag"] or ""

    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        is_hot, answer = doors.both(ALL, body, {"If-None-Match": known})

        assert (is_hot, answer.status, answer.body) == (True, 304, b"")
        assert answer.headers["ETag"] == tag
    other = json_bytes({"context": {"targetingKey": "ann", "plan": "pro"}})
    assert doors.both(ALL, other, {"If-None-Match": tag})[1].status == 200


@settings(max_examples=trials(60))
@given(path=st.sampled_from(PATHS), context=contexts, spaced=st.booleans())
def test_any_context_is_answered_the_same(
    doors: Doors, *, path: str, context: dict[str, Any], spaced: bool
) -> None:
    body = {**GOOD[path], "context": context}
    separators = (" , ", " : ") if spaced else (",", ":")
    text = json.dumps(body, ensure_ascii=not spaced, separators=separators)

    doors.both(path, text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("path", PATHS)
def test_a_body_may_come_in_pieces(doors: Doors, path: str) -> None:
    body = json_bytes({**GOOD[path], "context": {"targetingKey": "ann", "text": "x" * 30_000}})
    whole = doors.wire(path, body, {})
    chunks = doors.wire(path, b"", {"Transfer-Encoding": "chunked"})

    at_once = doors.send_pieces(whole)
    split = doors.send_pieces(whole[:40], whole[40:300], whole[300:9000], whole[9000:])
    chunked = doors.send_pieces(
        chunks,
        b"%x\r\n%b\r\n" % (100, body[:100]),
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 100, body[100:]),
    )
    cold = doors.send_pieces(whole.replace(path.encode(), path.encode() + b"?door=fastapi", 1))

    assert at_once.status == 200
    for answer in (split, chunked):
        assert "X-Door" not in answer.headers
    assert len({answer.body for answer in (at_once, split, chunked, cold)}) == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_too_long_by_pieces_is_read_by_fastapi(doors: Doors, path: str) -> None:
    body = json_bytes(GOOD[path]) + b" " * 100_000
    head = doors.wire(path, b"", {"Transfer-Encoding": "chunked"})
    chunks = [body[:60_000], body[60_000:], b""]

    answer = doors.send_pieces(head, *(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks))

    assert (answer.status, answer.headers["X-Door"]) == (200, "fastapi")


@pytest.mark.parametrize("path", PATHS)
def test_a_client_may_ask_before_it_sends(doors: Doors, path: str) -> None:
    body = json_bytes(GOOD[path])
    wire = doors.wire(path, body, {"Expect": "100-continue"})
    with socket.create_connection(doors.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(wire[: -len(body)])
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        response = HTTPResponse(connection, method="POST")
        response.begin()

        assert response.status == 200
        assert response.read() == doors.both(path, body)[1].body


def test_requests_that_follow_each_other_are_answered_in_order(doors: Doors) -> None:
    wires = [
        doors.wire(path, json_bytes(GOOD[path]), {"X-Request-Id": f"r{number}"})
        for number, path in enumerate(PATHS)
    ]
    odd = [doors.wire(ONE, b"{", {}), doors.wire(f"{ALL}?door=fastapi", b"", {})]
    sent = [wires[0], odd[0], *wires[1:3], odd[1], wires[3]]
    alone = [doors.send_pieces(wire) for wire in sent]

    with (
        socket.create_connection(doors.address, timeout=PATIENCE_SECONDS) as connection,
        connection.makefile("rb") as stream,
    ):
        connection.sendall(b"".join(sent))
        for expected in alone:
            status, *head = iter(stream.readline, b"\r\n")
            assert status.split()[1] == b"%d" % expected.status
            assert f"x-request-id: {expected.headers['X-Request-Id']}\r\n".encode() in head
            assert stream.read(int(expected.headers["Content-Length"] or 0)) == expected.body


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_leaves_within_its_body_is_counted(doors: Doors, path: str) -> None:
    left = 'pilothouse_http_requests_total{method="POST",route="unmatched",status="499"}'
    before = _metric(doors, left)

    with socket.create_connection(doors.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(doors.wire(path, json_bytes(GOOD[path]), {})[:-3])

    wait_until(lambda: _metric(doors, left) == before + 1, "the request was given up")
    running = _metric(doors, "pilothouse_http_requests_in_progress")
    assert running == 1  # that of /metrics


@pytest.mark.parametrize("path", PATHS)
def test_both_doors_count_the_same(doors: Doors, path: str) -> None:
    template = f"{ALL}/{{key}}" if path == KEY else path
    names = (
        f'pilothouse_http_requests_total{{method="POST",route="{template}",status="200"}}',
        f'pilothouse_http_request_duration_seconds_count{{method="POST",route="{template}"}}',
        'pilothouse_flag_evaluations_total{environment="production",reason="DEFAULT"}',
        'pilothouse_flag_evaluations_total{environment="production",reason="SPLIT"}',
        'pilothouse_flag_variant_evaluations_total{environment="production",flag="ramp",variant="off"}',
    )
    grown = []
    for question in ("", "?door=fastapi"):
        before = _metrics(doors, names)
        doors.send_pieces(doors.wire(path + question, json_bytes(GOOD[path]), {}))
        after = _metrics(doors, names)
        grown.append([new - old for new, old in zip(after, before, strict=True)])

    assert grown[0] == grown[1]
    assert grown[0][:2] == [1, 1]
    assert grown[0][-1] == 1


def _metrics(doors: Doors, names: tuple[str, ...]) -> list[float]:
    # Evaluations are collected for whoever asks when a flag was used last.
    body_of(doors.process.request("GET", "/api/v1/feature-flags/ramp/usage?environment=production"))
    return [_metric(doors, name) for name in names]


def _metric(doors: Doors, name: str) -> float:
    lines = doors.process.request("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def test_the_hot_door_sees_a_write_at_once(doors: Doors) -> None:
    for enabled in (False, True, False, True):
        written_flag = doors.process.request(
            "PATCH", "/api/v1/feature-flags/number?environment=production", {"enabled": enabled}
        )
        body_of(written_flag)
        body = json_bytes({**GOOD[ONE], "flag_name": "number"})
        _, answer = doors.both(ONE, body)

        assert json.loads(answer.body)["enabled"] is enabled
        assert json.loads(answer.body)["reason"] == ("STATIC" if enabled else "DISABLED")
        assert int(answer.headers["X-Revision"] or 0) >= json.loads(answer.body)["revision"]


def test_both_doors_say_how_old_an_answer_may_be(vault_server: VaultServer) -> None:
    settings = {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
        "ALLOWED_HOSTS": HOST,
    }
    with ServiceProcess(settings, ARGV) as process:
        doors = Doors(process)
        body = {"name": "ramp", "environment": "production", **FLAGS["ramp"]}
        body_of(process.request("POST", "/api/v1/feature-flags", body), 201)
        with freeze_server(vault_server):
            wires = [doors.wire(path, json_bytes(GOOD[path]), {}) for path in PATHS]
            wait_until(lambda: "X-Stale" in doors.send_pieces(wires[0]).headers, "it notices")
            hot = [doors.send_pieces(wire) for wire in wires]
            cold = [
                doors.send_pieces(wire.replace(b" HTTP", b"?door=fastapi HTTP", 1))
                for wire in wires
            ]

    for ours, theirs in zip(hot, cold, strict=True):
        assert (ours.status, ours.body) == (theirs.status, theirs.body)
        assert [name for name, _ in compared_headers(ours)] == [
            name for name, _ in compared_headers(theirs)
        ]
        assert "x-stale" in dict(compared_headers(ours))
        assert ("X-Door" in ours.headers, "X-Door" in theirs.headers) == (False, True)
