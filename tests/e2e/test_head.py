"""HEAD answers what GET would, without the body."""

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import Layer, Service, body_of
from tests.servers.process import PATIENCE_SECONDS

# `date`, ids and ages differ from one request to the next.
SAME = ("content-type", "content-length", "etag", "cache-control", "vary", "allow")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/config/a",
        "/api/v1/config/none",
        "/api/v1/config",
        "/api/v1/effective",
        "/api/v1/changes",
        "/api/v1/schemas/none",
        "/api/v1/schemas/for",
        "/api/v1/violations",
        "/api/v1/no-such-address",
        "/api/v1/config/bulk/and/more",
        "/live",
    ],
)
def test_what_get_answers_is_answered_without_its_body(layer: Layer, path: str) -> None:
    body_of(layer.create("a", 1), 201)
    query: dict[str, Any] = {"environment": layer.environment, "service_name": layer.service}
    got = [layer.of.call("GET", path, **query) for _ in range(2)][-1]  # the first fills the memory

    head = layer.of.call("HEAD", path, **query)

    assert (head.status, head.body) == (got.status, b"")
    assert {name: head.headers[name] for name in SAME if name != "content-length"} == {
        name: got.headers[name] for name in SAME if name != "content-length"
    }
    if got.status == 200:
        assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("path", ["/ready", "/health", "/metrics", "/openapi.json", "/stats"])
def test_who_only_looks_whether_it_is_there_is_answered(service: Service, path: str) -> None:
    head = service.call("HEAD", path)

    assert (head.status, head.body) == (200, b"")


def test_a_head_knows_what_the_client_knows(layer: Layer) -> None:
    body_of(layer.create("a", 1), 201)
    query: dict[str, Any] = {"environment": layer.environment, "service_name": layer.service}
    tag = layer.of.call("HEAD", "/api/v1/config/a", **query).headers["ETag"]

    again = layer.of.call("HEAD", "/api/v1/config/a", headers={"If-None-Match": tag}, **query)

    assert again.status == 304


def test_an_address_without_get_has_no_head(service: Service) -> None:
    answer = service.call("HEAD", "/api/v1/config/bulk")

    # It reads as the key `bulk`, as a GET does.
    assert answer.status == service.get("/api/v1/config/bulk").status
    assert service.call("HEAD", "/api/v1/registry/register").status == 405


@pytest.mark.parametrize("path", ["/api/v1/stream", "/ofrep/v1/stream"])
def test_a_stream_has_a_head_that_ends_and_leaves_the_connection_clean(
    layer: Layer, path: str
) -> None:
    url = urlsplit(layer.of.process.url)
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_SECONDS) as connection:
        lines = connection.makefile("rb")
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status = lines.readline()
        while lines.readline().strip():
            pass
        body_of(layer.create("a", 1), 201)  # of which nobody who listens here must be told
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert b" 200 " in status
        assert lines.readline().startswith(b"HTTP/1.1 200")
