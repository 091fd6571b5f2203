"""Open access and browsers: no foreign page reads or changes anything, at neither door."""

import json
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import body_of
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

OPENAPI = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
ARGV = (sys.executable, "-m", "tests.e2e.doors")
EVIL = {"Origin": "http://evil.example"}
IMPORT = "/api/v1/import?service_name=shop"
SHOP = "/api/v1/effective?service_name=shop"
FORM = "application/x-www-form-urlencoded"
YAML = "application/yaml"


def _operations() -> Iterator[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = json.loads(OPENAPI.read_text())["paths"]
    for path, operations in paths.items():
        for method in operations:
            yield method.upper(), re.sub(r"\{\w+\}", "shop", path)


OPERATIONS = list(_operations())


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    settings = {"ALLOWED_HOSTS": "pilothouse.example", "CORS_ORIGINS": "https://console.example"}
    with ServiceProcess(settings, ARGV) as service:
        body = {"key": "host", "value": "db1", "service_name": "shop"}
        body_of(service.request("POST", "/api/v1/config", body), 201)
        service.request("GET", SHOP)  # the first read is never hot: it fills the memory
        yield service


def on_the_wire(
    service: ServiceProcess, target: str, *headers: str, method: str = "GET", body: bytes = b""
) -> Answer:
    """Send a request exactly as it is written here."""
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    request = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    address = "127.0.0.1", urlsplit(service.url).port or 0
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(request + b"\r\n" + body)
        response = HTTPResponse(connection, method=method)
        response.begin()
        return Answer(response.status, response.headers, response.read())


def code(answer: Answer) -> str | None:
    return None if answer.status < 300 else str(answer.json()["code"])


def is_hot(answer: Answer) -> bool:
    return "X-Door" not in answer.headers


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_route_is_served_to_a_page_of_another_site(
    service: ServiceProcess, method: str, path: str
) -> None:
    for page in (EVIL, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for media in ("text/plain", FORM, "application/json"):
            headers = {**page, "Content-Type": media}
            answer = service.request(method, path, headers=headers, data=b"{}")
            assert (answer.status, code(answer)) == (403, "foreign_origin")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_route_is_served_under_a_name_that_is_not_ours(
    service: ServiceProcess, method: str, path: str
) -> None:
    answer = service.request(method, path, headers={"Host": "evil.example:8082"})

    if path in {"/live", "/ready", "/metrics"}:
        assert answer.status == 200
    else:
        assert (answer.status, code(answer)) == (403, "foreign_host")


def test_a_preflight_of_another_site_is_refused(service: ServiceProcess) -> None:
    preflight = {"Access-Control-Request-Method": "POST"}
    site = {"Origin": "https://console.example"}

    refused = service.request("OPTIONS", IMPORT, headers={**preflight, **EVIL})
    allowed = service.request("OPTIONS", IMPORT, headers={**preflight, **site})

    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (403, None)
    assert allowed.status == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == site["Origin"]


@pytest.mark.parametrize(
    ("media", "query", "page", "status"),
    [
        (YAML, "", {}, 200),
        ("application/octet-stream", "", {}, 200),
        (None, "", {}, 200),
        ("application/json", "&format=json", {}, 200),
        (FORM, "&format=json", {}, 200),  # what `curl -d` says
        ("text/x-java-properties", "&format=properties", {}, 200),
        ("text/x-dotenv", "&format=dotenv", {}, 200),
        (YAML, "", {"Origin": "https://console.example"}, 200),
        ("text/plain", "", {}, 415),
        (FORM, "", {}, 415),
        ("multipart/form-data; boundary=x", "", {}, 415),
        ("application/json", "", {}, 415),
        (YAML, "&format=json", {}, 415),
        ("text/plain", "&format=properties", {}, 415),
        ("text/plain", "", {"Origin": "https://console.example"}, 415),
        (FORM, "&format=json", {"Origin": "https://console.example"}, 415),
    ],
)
def test_a_file_is_imported_as_what_it_is_said_to_be(
    service: ServiceProcess, media: str | None, query: str, page: Mapping[str, str], status: int
) -> None:
    files = {"json": b'{"a": 1}', "properties": b"a=1", "dotenv": b"A=1"}
    data = files.get(query.rpartition("=")[2], b"a: 1")
    headers = {**page, **({} if media is None else {"Content-Type": media})}

    answer = service.request("POST", IMPORT + query + "&dry_run=true", headers=headers, data=data)

    assert answer.status == status
    assert code(answer) == (None if status == 200 else "unsupported_media_type")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/feature-flags/import?format=flagd",
        "/api/v1/registry/services/shop/health",
        "/api/v1/registry/services/shop/instances/i1/drain",
        "/ofrep/v1/evaluate/flags",
        "/ofrep/v1/evaluate/flags/new",
        "/api/v1/feature-flags/evaluate",
    ],
)
def test_what_a_page_may_send_unasked_is_no_body_of_any_route(
    service: ServiceProcess, path: str
) -> None:
    for media in ("text/plain", "multipart/form-data; boundary=x", "text/plain;application/json"):
        answer = service.request("POST", path, headers={"Content-Type": media}, data=b"{}")
        assert answer.status == 415, media
        assert is_hot(answer) is False
    own = {"Content-Type": FORM, "Origin": service.url}
    assert service.request("POST", path, headers=own, data=b"{}").status == 415
    shell = service.request("POST", path, headers={"Content-Type": FORM}, data=b"{}")
    assert shell.status != 415


def test_no_token_is_made_while_nobody_is_known(service: ServiceProcess) -> None:
    body = {"name": "ops", "class": "admin", "environments": ["*"], "services": ["*"]}

    answer = service.request("POST", "/api/v1/tokens", body)

    assert (answer.status, code(answer)) == (403, "access_open")
    assert body_of(service.request("GET", "/api/v1/tokens"))["items"] == []


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        (SHOP, ["Host: LOCALHOST.:1"], None),
        (SHOP, ["Host: [::1]"], None),
        (SHOP, ["Host: pilothouse.example"], None),
        (SHOP, ["Host: evil.example"], "foreign_host"),
        (SHOP, ["Host: localhost:8082.evil.example"], "bad_host"),
        (SHOP, ["Host: localhost", "Host: evil.example"], "bad_host"),
        (SHOP, ["Host: evil.example", "Host: localhost"], "bad_host"),
        (SHOP, ["Host:"], "bad_host"),
        (SHOP, [], "bad_host"),
        # The target's own host is the one that is meant.
        (f"http://evil.example{SHOP}", ["Host: localhost"], "foreign_host"),
        (f"HTTP://EVIL.example:8082{SHOP}", ["Host: localhost:8082"], "foreign_host"),
        (f"http://localhost@evil.example{SHOP}", ["Host: localhost"], "foreign_host"),
        (f"http://evil.example{SHOP}", [], "foreign_host"),
        (f"http://localhost{SHOP}", ["Host: evil.example"], None),
        (f"http://localhost{SHOP}", ["Host: localhost", "Host: localhost"], "bad_host"),
        (SHOP, ["Host: localhost", "Origin: http://localhost"], None),
        (SHOP, ["Host: localhost", "Origin: null"], "foreign_origin"),
        (SHOP, ["Host: localhost", "Sec-Fetch-Site: same-origin"], None),
        (SHOP, ["Host: localhost", "Sec-Fetch-Site: same-site"], "foreign_origin"),
        (SHOP, ["Host: localhost", "Referer: http://evil.example/"], None),
    ],
)
def test_both_doors_decide_alike_who_is_served(
    service: ServiceProcess, target: str, headers: list[str], expected: str | None
) -> None:
    ahead = on_the_wire(service, target, *headers)
    behind = on_the_wire(service, f"{target}&min_revision=0", *headers)

    assert is_hot(behind) is False
    assert code(ahead) == code(behind) == expected


def test_the_usual_read_is_answered_at_the_hot_door(service: ServiceProcess) -> None:
    assert is_hot(service.request("GET", SHOP))
    assert is_hot(on_the_wire(service, SHOP, "Host: pilothouse.example"))


@pytest.fixture(scope="module")
def service_with_instance(service: ServiceProcess) -> ServiceProcess:
    body = {"service_name": "billing", "service_url": "http://10.0.0.7:8080", "ttl_seconds": 600}
    body_of(service.request("POST", "/api/v1/registry/register", body), 201)
    return service


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/config/host?service_name=shop", 200),
        ("/api/v1/config/hos%74?service_name=shop", 200),
        ("/api/v1/config/%68ost?service_name=shop", 200),
        ("/api/v1/config/host?service_name=sho%70", 200),
        ("/api/v1/config/ho%2Fst?service_name=shop", 400),
        ("/api/v1/config/ho%2fst?service_name=shop", 400),
        ("/api/v1/config/ho%5Cst?service_name=shop", 400),
        ("/api/v1/config/host%00?service_name=shop", 400),
        ("/api/v1/config/host%0a?service_name=shop", 400),
        ("/api/v1/config/host%?service_name=shop", 400),
        ("/api/v1/config/host%ff?service_name=shop", 400),
        ("/api/v1/config/x/%2e%2e/host?service_name=shop", 400),
        ("/api/v1/config/x/../host?service_name=shop", 400),
        ("/api/v1/config/host/?service_name=shop", 200),
        ("/api/v1/config%2Fhost?service_name=shop", 400),
        ("/api/v1/registry/services/billing/url", 200),
        ("/api/v1/registry/services/billing/url/", 200),
        ("/api/v1/registry/services/billing%2Furl", 400),
        ("/api/v1/registry/services%2Fbilling/url", 400),
        ("/api/v1/registry/services/b%69lling/url", 200),
        ("/api/v1/registry/services/billing/%75rl", 200),
        ("/api/v1/registry/services/billing//url", 404),
        ("/api/v1/registry/discover/billing", 200),
        ("/api/v1/registry/discover/b%69lling", 200),
        ("/api/v1/registry/discover%2Fbilling", 400),
        ("/api/v1/registry/discover/billing%2F", 400),
        ("/api/v1/registry/discover/billing%252F", 422),
        ("/api/v1/effective%3Fservice_name=shop", 404),
        ("/api/v1/effectiv%65?service_name=shop", 200),
    ],
)
def test_an_odd_spelling_gets_the_same_answer_at_both_doors(
    service_with_instance: ServiceProcess, path: str, status: int
) -> None:
    mark = "&" if "?" in path else "?"

    ahead = on_the_wire(service_with_instance, path, "Host: localhost")
    behind = on_the_wire(service_with_instance, f"{path}{mark}min_revision=0", "Host: localhost")

    assert is_hot(behind) is False
    assert (ahead.status, code(ahead)) == (behind.status, code(behind))
    assert ahead.status == status
    if "%" in path.partition("?")[0]:
        assert is_hot(ahead) is False
