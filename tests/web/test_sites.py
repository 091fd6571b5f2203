"""Which hosts and which pages are accepted while access is open."""

from collections.abc import Iterable

import pytest
from starlette.types import Scope

from app.errors import PilothouseError
from app.status.feature import STATUS_ROUTES
from app.web.sites import (
    Authority,
    BadHost,
    ForeignHost,
    ForeignOrigin,
    Origin,
    SitePolicy,
    parse_authority,
    parse_origin,
)

Header = tuple[str, str]
HERE = ("Host", "127.0.0.1:8082")
POLICY = SitePolicy.of_open_access(
    "127.0.0.1",
    ["pilothouse.example", "*.internal", "ports.example:8443", "fd00::7", "[fd00::8]:80"],
    ["https://console.example", "http://localhost:3000"],
)
REQUIRED = SitePolicy()


def refusal(
    *headers: Header,
    policy: SitePolicy = POLICY,
    method: str = "POST",
    path: str = "/api/v1/import",
    http_version: str = "1.1",
    server: tuple[str, int] = ("127.0.0.1", 8082),
) -> type[PilothouseError] | None:
    """Return why a request is refused, None if it is accepted, and ask as both doors do."""
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope: Scope = {
        "method": method,
        "path": path,
        "http_version": http_version,
        "server": server,
        "headers": pairs,
    }
    is_plain = len(dict(pairs)) == len(pairs) and policy.is_for_programs(dict(pairs), server)
    try:
        policy.check(scope, any_host=path in STATUS_ROUTES.path_rules.any_host)
    except PilothouseError as refused:
        assert not is_plain, "the hot door would answer what is refused behind it"
        return type(refused)
    return None


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("localhost", ("localhost", None)),
        ("LocalHost:8082", ("localhost", 8082)),
        ("localhost.:80", ("localhost", 80)),
        ("a_b-c.example:", ("a_b-c.example", None)),
        ("127.0.0.1", ("127.0.0.1", None)),
        ("[::1]:1", ("::1", 1)),
        ("[0:0:0:0:0:0:0:1]", ("::1", None)),
        ("[::ffff:127.0.0.1]", ("127.0.0.1", None)),
        ("127.0.0.01", ("127.0.0.01", None)),
        ("", None),
        (".", None),
        ("localhost..", None),
        ("a..b", None),
        ("a b", None),
        ("a,b", None),
        ("a/b", None),
        ("user@localhost", None),
        ("localhost:80:80", None),
        ("localhost:65536", None),
        ("localhost:+80", None),
        ("::1", None),
        ("[::1", None),
        ("[::1%25lo]", None),
        ("[127.0.0.1]", None),
        ("löcalhost", None),
        ("localhost\t", None),
    ],
)
def test_an_authority_is_read_in_one_spelling(
    text: str, authority: tuple[str, int | None] | None
) -> None:
    assert parse_authority(text) == (None if authority is None else Authority(*authority))


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://localhost:8082", ("http", "localhost", 8082)),
        ("HTTPS://Console.Example.", ("https", "console.example", 443)),
        ("http://[::1]", ("http", "::1", 80)),
        ("null", None),
        ("", None),
        ("file://", None),
        ("localhost:8082", None),
        ("http://localhost/", None),
        ("http://localhost http://evil.example", None),
        ("chrome-extension://abcdef", None),
        ("http://evil@localhost", None),
    ],
)
def test_an_origin_is_a_page_of_the_web(text: str, origin: tuple[str, str, int] | None) -> None:
    assert parse_origin(text) == (None if origin is None else Origin(*origin))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.10:1",
        "localhost:8082",
        "LOCALHOST.:8082",
        "[::1]:8082",
        "[::ffff:127.0.0.1]",
        "pilothouse.example",
        "Pilothouse.Example.:9999",
        "a.internal",
        "a.b.internal:80",
        "ports.example:8443",
        "[fd00::7]:8082",
        "[fd00::8]:80",
    ],
)
def test_a_name_of_this_service_is_accepted(host: str) -> None:
    assert refusal(("Host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8082",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "internal",
        "evilinternal",
        "x.pilothouse.example",
        "ports.example",
        "ports.example:443",
        "0.0.0.0:8082",
        "10.0.0.7:8082",
        "2130706433",
        "0x7f.1",
        "127.1",
        "127.0.0.01",
        "[fd00::9]",
        "[fd00::8]:81",
    ],
)
def test_another_name_is_refused_unless_it_is_asked_how_this_replica_fares(host: str) -> None:
    assert refusal(("Host", host)) is ForeignHost
    assert refusal(("Host", host), method="GET", path="/api/v1/effective") is ForeignHost
    for path in ("/live", "/ready", "/metrics"):
        assert refusal(("Host", host), method="GET", path=path) is None
        assert refusal(("Host", host), method="POST", path=path) is ForeignHost
    assert refusal(("Host", host), method="GET", path="/live/x") is ForeignHost
    assert refusal(("Host", host), policy=REQUIRED) is None


@pytest.mark.parametrize("policy", [POLICY, REQUIRED])
def test_a_host_is_stated_once_and_as_one(policy: SitePolicy) -> None:
    assert refusal(HERE, HERE, policy=policy) is BadHost
    assert refusal(HERE, ("Host", "evil.example"), policy=policy) is BadHost
    assert refusal(policy=policy) is BadHost
    assert refusal(("Host", ""), policy=policy) is BadHost
    assert refusal(("Host", "a b"), policy=policy) is BadHost
    assert refusal(policy=policy, http_version="1.0") is None
    assert refusal(("Host", ""), policy=policy, method="GET", path="/live") is None


def test_who_listens_everywhere_is_called_by_any_address_of_its_own() -> None:
    policy = SitePolicy.of_open_access("0.0.0.0", [], [])

    def refusal_type(host: str, server: str = "10.0.0.7") -> type[PilothouseError] | None:
        return refusal(("Host", host), policy=policy, server=(server, 8082))

    assert refusal_type("10.0.0.7:8082") is None
    assert refusal_type("0.0.0.0:8082") is None
    assert refusal_type("10.0.0.8:8082") is ForeignHost
    assert refusal_type("[fd00::7]:8082", "fd00:0::7") is None
    assert refusal_type("evil.example") is ForeignHost
    assert refusal(("Host", "10.0.0.7"), server=("10.0.0.7", 8082)) is ForeignHost


def page(origin: str, *others: Header, host: str = HERE[1]) -> tuple[Header, ...]:
    return (("Host", host), ("Origin", origin), *others)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8082", "127.0.0.1:8082"),
        ("http://LOCALHOST:8082", "localhost.:8082"),
        ("http://[::1]:8082", "[::1]:8082"),
        ("http://localhost", "localhost"),
        ("http://localhost", "localhost:80"),
        ("http://localhost:80", "localhost"),
        # TLS ends before us.
        ("https://pilothouse.example", "pilothouse.example"),
        ("https://pilothouse.example", "pilothouse.example:443"),
        ("https://console.example", "127.0.0.1:8082"),
        ("https://console.example:443", "127.0.0.1:8082"),
        ("http://localhost:3000", "127.0.0.1:8082"),
    ],
)
def test_our_own_pages_and_those_of_listed_sites_may_call(origin: str, host: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert refusal(*page(origin, host=host), method=method) is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:8082",
        "null",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:8083",
        "http://localhost:8082",  # of another program, perhaps: it is not the host that was called
        "http://console.example",
        "https://console.example:8443",
        "https://console.example.evil.example",
        "http://127.0.0.1:8082.evil.example",
        "http://127.0.0.1:8082@evil.example",
        "http://127.0.0.1:8082 http://evil.example",
        "http://127.0.0.1:8082/",
        "file://",
        "moz-extension://c1f0",
    ],
)
def test_pages_of_other_sites_may_not(origin: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert refusal(*page(origin), method=method) is ForeignOrigin
    assert refusal(*page(origin), policy=REQUIRED) is None
    assert refusal(*page(origin), method="GET", path="/metrics") is ForeignOrigin


def test_of_two_origins_both_have_to_be_accepted() -> None:
    ours, theirs = ("Origin", "http://127.0.0.1:8082"), ("Origin", "http://evil.example")

    assert refusal(HERE, ours, theirs) is ForeignOrigin
    assert refusal(HERE, theirs, ours) is ForeignOrigin


def test_a_name_that_leads_here_by_rebinding_is_no_origin_of_ours() -> None:
    headers = page("http://evil.example:8082", host="evil.example:8082")

    assert refusal(*headers) is ForeignHost


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Cross-Site", "new"])
def test_a_browser_that_tells_no_origin_tells_where_a_request_is_from(site: str) -> None:
    stated = HERE, ("Sec-Fetch-Site", site)

    assert refusal(*stated) is ForeignOrigin
    assert refusal(*stated, method="GET") is ForeignOrigin
    assert refusal(*stated, ("Sec-Fetch-Mode", "navigate"), method="GET") is None
    assert refusal(*stated, ("Sec-Fetch-Mode", "navigate")) is ForeignOrigin


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_page_and_an_address_that_is_typed_are_served(site: str) -> None:
    assert refusal(HERE, ("Sec-Fetch-Site", site)) is None
    assert refusal(HERE, ("Sec-Fetch-Site", site), method="GET") is None


@pytest.mark.parametrize(
    ("referer", "refused"),
    [
        ("http://127.0.0.1:8082/docs", None),
        ("https://console.example/flags?x=1", None),
        ("http://evil.example/", ForeignOrigin),
        ("http://127.0.0.1:8082.evil.example/", ForeignOrigin),
        ("http://127.0.0.1:8082@evil.example/", ForeignOrigin),
        ("about:blank", ForeignOrigin),
        ("", ForeignOrigin),
    ],
)
def test_of_an_old_browser_the_referer_tells(
    referer: str, refused: type[PilothouseError] | None
) -> None:
    assert refusal(HERE, ("Referer", referer)) is refused
    assert refusal(HERE, ("Referer", referer), method="GET") is None


def test_what_was_judged_is_forgotten_before_it_fills_the_memory() -> None:
    policy = SitePolicy.of_open_access("127.0.0.1", [], [])

    def refused_of(names: Iterable[str]) -> set[type[PilothouseError] | None]:
        return {refusal(("Host", name), policy=policy) for name in names}

    assert refused_of(f"h{number}.example" for number in range(5000)) == {ForeignHost}
    assert refused_of(["localhost"]) == {None}
