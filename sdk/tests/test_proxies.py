from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse import Limits, Pilothouse, RemoteConfigSource
from pilothouse.errors import Unavailable
from pilothouse.proxies import choose_proxy
from pilothouse.transport import Transport
from sdk.tests.cli.terminal import Terminal
from sdk.tests.scripted import ScriptedServer, configuration, of_json
from tests.configs.test_vault import certificate

ODD_ENVIRONMENTS = [
    {"NO_PROXY": "fd00::/8"},
    {"NO_PROXY": "[::1]"},
    {"no_proxy": "10.0.0.0/8, ,::1,*.local:http"},
    {"ALL_PROXY": "socks5://127.0.0.1:1"},
    {"all_proxy": "gopher://127.0.0.1:1"},
    {"HTTP_PROXY": "http://127.0.0.1:1"},
    {"HTTP_PROXY": "http://127.0.0.1:port"},
    {"HTTPS_PROXY": "://"},
]
PROXY = "http://proxy.example:3128"


@pytest.fixture
def proxy() -> Iterator[ScriptedServer]:
    """A proxy as the client sees one: it is sent requests with whole URLs."""
    with ScriptedServer() as server:
        yield server


@pytest.mark.parametrize("variables", ODD_ENVIRONMENTS, ids=str)
def test_a_client_connects_directly_whatever_the_environment_says_of_proxies(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"a": 1})

    with Pilothouse(scripted_server.url, "orders", flags=False) as client:
        assert client.config.get("a") == 1
        assert client.last_error is None


@pytest.mark.parametrize("variables", ODD_ENVIRONMENTS, ids=str)
def test_the_command_line_connects_directly_whatever_the_environment_says_of_proxies(
    scripted_server: ScriptedServer, tmp_path: Path, variables: dict[str, str]
) -> None:
    scripted_server.answers["/api/v1/registry/services"] = lambda _: of_json(
        {"items": [], "next": None}
    )
    terminal = Terminal(tmp_path, {"PILOTHOUSE_URL": scripted_server.url, **variables})

    done = terminal("services", "list", "--json")

    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("variables", ODD_ENVIRONMENTS, ids=str)
async def test_a_remote_source_connects_directly_whatever_the_environment_says_of_proxies(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    scripted_server.answers["/a"] = lambda _: of_json({"a": 1})
    source = RemoteConfigSource(f"{scripted_server.url}/a")

    assert await source.load_config() == {"a": 1}
    await source.close()


async def test_a_stated_proxy_is_sent_the_requests(proxy: ScriptedServer) -> None:
    proxy.answers["/a"] = lambda _: of_json({})
    transport = Transport("http://pilothouse.invalid", None, Limits(proxy=proxy.url))

    await transport.get("/a")
    await transport.close()

    assert [one.headers["host"] for one in proxy.requests] == ["pilothouse.invalid"]


def test_the_command_line_takes_a_proxy(proxy: ScriptedServer, tmp_path: Path) -> None:
    proxy.answers["/api/v1/registry/services"] = lambda _: of_json({"items": [], "next": None})
    terminal = Terminal(tmp_path, {"PILOTHOUSE_URL": "http://pilothouse.invalid"})

    by_option = terminal("services", "list", "--json", "--proxy", proxy.url)
    terminal.variables["PILOTHOUSE_PROXY"] = proxy.url
    by_variable = terminal("services", "list", "--json")
    terminal.variables["PILOTHOUSE_PROXY"] = "environment"
    terminal.variables["HTTP_PROXY"] = proxy.url
    by_environment = terminal("services", "list", "--json")
    direct = terminal("services", "list", "--json", "--proxy", "none")

    assert [by_option.code, by_variable.code, by_environment.code, direct.code] == [0, 0, 0, 6]


def test_a_proxy_that_cannot_be_one_is_a_usage_error_which_quotes_no_password(
    tmp_path: Path,
) -> None:
    terminal = Terminal(tmp_path, {"HTTP_PROXY": "http://ann:sesame@proxy:port"})

    stated = terminal("services", "list", "--proxy", "ftp://ann:sesame@proxy")
    of_environment = terminal("services", "list", "--proxy", "environment")

    assert (stated.code, of_environment.code) == (2, 2)
    assert "the proxy is not the URL" in stated.err
    assert "HTTP_PROXY is not the URL" in of_environment.err
    assert "sesame" not in stated.err + of_environment.err


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("http://a.example", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://a.example", {"http_proxy": "proxy.example:3128"}, PROXY),
        ("https://a.example", {"HTTP_PROXY": PROXY}, None),
        ("https://a.example", {"ALL_PROXY": PROXY}, PROXY),
        ("http://a.example", {"HTTP_PROXY": PROXY, "http_proxy": ""}, None),
        ("http://a.example", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
        ("http://a.example", {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("http://a.example", {"HTTP_PROXY": PROXY, "NO_PROXY": "b.example, a.example"}, None),
        ("http://c.a.example", {"HTTP_PROXY": PROXY, "NO_PROXY": ".a.example"}, None),
        ("http://c.a.example", {"HTTP_PROXY": PROXY, "NO_PROXY": "*.A.example"}, None),
        ("http://ba.example", {"HTTP_PROXY": PROXY, "NO_PROXY": "a.example"}, PROXY),
        ("http://a.example", {"HTTP_PROXY": PROXY, "NO_PROXY": ". ,:,[,/8,1.2.3.4/99"}, PROXY),
        ("http://a.example:81", {"HTTP_PROXY": PROXY, "NO_PROXY": "a.example:80"}, PROXY),
        ("http://a.example", {"HTTP_PROXY": PROXY, "NO_PROXY": "a.example:80"}, None),
        ("http://10.1.2.3", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}, None),
        ("http://11.1.2.3", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}, PROXY),
        ("http://[fd00::1]:80", {"HTTP_PROXY": PROXY, "NO_PROXY": "fd00::/8"}, None),
        ("http://[::1]:80", {"HTTP_PROXY": PROXY, "NO_PROXY": "[::1]"}, None),
        ("http://[::1]:80", {"HTTP_PROXY": PROXY, "NO_PROXY": "::1"}, None),
        ("http://[::1]:80", {"HTTP_PROXY": PROXY, "NO_PROXY": "[::1]:81"}, PROXY),
    ],
)
def test_the_environments_proxy_is_read_defensively(
    url: str, variables: dict[str, str], expected: str | None
) -> None:
    assert choose_proxy("environment", url, variables) == expected


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
async def test_the_environments_authorities_count_without_its_proxies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    ca_file, tls = certificate(tmp_path)
    limits = Limits(attempts=1)
    with ScriptedServer(tls) as server:
        server.answers["/a"] = lambda _: of_json({})
        url = server.url.replace("https", scheme)
        unknown = Transport(url, None, limits)
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await unknown.get("/a")
        await unknown.close()

        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        vouched_for = Transport(url, None, limits)
        assert (await vouched_for.get("/a")).status == 200
        await vouched_for.close()
