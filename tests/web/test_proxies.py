"""Whose word about a request's origin is believed."""

from collections.abc import Sequence

import pytest
from starlette.types import Scope

from app.web.proxies import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"])


def resolve_client(peer: str, *forwarded: str, proto: Sequence[str] = ()) -> tuple[str, str]:
    headers = [(b"x-forwarded-for", text.encode("latin-1")) for text in forwarded]
    headers += [(b"x-forwarded-proto", text.encode("latin-1")) for text in proto]
    scope: Scope = {"client": (peer, 5), "scheme": "http", "headers": headers}
    found = PROXIES.resolve(scope)
    return found["client"][0], found["scheme"]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], "10.0.0.1"),
        (["192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["2001:0DB9:0::1"], "2001:db9::1"),
        (["[2001:db9::1]:80"], "2001:db9::1"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["::ffff:10.0.0.9"], "10.0.0.9"),
        (["198.51.100.9, 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.9", "192.0.2.7"], "192.0.2.7"),
        (["198.51.100.9, 192.0.2.7, 10.0.0.3, 127.0.0.1"], "192.0.2.7"),
        (["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
        (["<script>"], "10.0.0.1"),
        (["192.0.2.7, unknown, 10.0.0.3"], "10.0.0.3"),
        (["fe80::1%<script>"], "10.0.0.1"),
        (["192.0.2.7, "], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["010.0.0.1"], "10.0.0.1"),
        (["\xe4"], "10.0.0.1"),
        (["192.0.2.7, " + "10.0.0.3, " * 10_000 + "10.0.0.3"], "10.0.0.3"),
    ],
)
def test_the_nearest_address_that_is_no_proxys_is_the_source(
    forwarded: list[str], client: str
) -> None:
    assert resolve_client("10.0.0.1", *forwarded) == (client, "http")


@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.2", "::1", "", "unix:/run/a"])
def test_nobody_else_is_believed(peer: str) -> None:
    assert resolve_client(peer, "198.51.100.9", proto=["https"]) == (peer, "http")


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["http, https"], "https"),
        (["https", "http"], "http"),
        (["javascript"], "http"),
        (["https,"], "http"),
        (["wss"], "http"),
    ],
)
def test_the_scheme_is_the_one_the_last_proxy_tells(proto: list[str], scheme: str) -> None:
    assert resolve_client("10.0.0.1", "192.0.2.7", proto=proto) == ("192.0.2.7", scheme)


def test_a_request_without_an_address_stays_as_it_is() -> None:
    scope: Scope = {
        "client": None,
        "scheme": "http",
        "headers": [(b"x-forwarded-for", b"10.0.0.1")],
    }

    assert PROXIES.resolve(scope) is scope
