"""Where health probes may go, in every spelling of an address."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.outbound.addresses import AddressPolicy
from app.registry.health.addresses import address_warning

REFUSED = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.1.1"),
    *("192.0.0.192", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "168.63.129.16"),
)
REFUSED_6 = (
    *("::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254"),
    "fd20:ce::254",
)
PERMITTED = (
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "8.8.8.8", "198.18.0.1"),
    *("2001:db8::7", "fd00::7", "2606:4700::1111"),
)
# Addresses of IPv6 that lead to one of IPv4.
DISGUISES = (
    *("::ffff:{0}", "::{0}", "::ffff:0:{0}", "64:ff9b::{0}", "64:ff9b:1::{0}"),
    *("2002:{1}::", "2002:{1}::1", "2001:0:{1}::"),
)


def disguise_address(disguise: str, address: str) -> str:
    number = int(ip_address(address))
    return disguise.format(address, f"{number >> 16:x}:{number & 0xFFFF:x}")


@pytest.mark.parametrize("address", [*REFUSED, *REFUSED_6])
def test_what_answers_to_this_machine_alone_is_refused(address: str) -> None:
    assert not AddressPolicy().permits(ip_address(address))


@pytest.mark.parametrize("address", PERMITTED)
def test_where_services_live_is_permitted(address: str) -> None:
    assert AddressPolicy().permits(ip_address(address))


@pytest.mark.parametrize("address", REFUSED)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguise_helps_nobody(disguise: str, address: str) -> None:
    assert not AddressPolicy().permits(ip_address(disguise_address(disguise, address)))


def test_the_client_inside_a_teredo_address_is_looked_at() -> None:
    # Server 8.8.8.8; the client 127.0.0.1 stands there with every bit turned.
    assert not AddressPolicy().permits(ip_address("2001:0:808:808:0:0:80ff:fffe"))
    assert AddressPolicy().permits(ip_address("2001:0:808:808:0:0:f7f7:f7f7"))


@pytest.mark.parametrize("address", [*REFUSED, *REFUSED_6])
def test_an_allowed_network_may_be_any(address: str) -> None:
    network = ip_network(address.partition("%")[0])

    assert AddressPolicy([network]).permits(ip_address(address))
    assert AddressPolicy(list(map(ip_network, ["0.0.0.0/0", "::/0"]))).permits(ip_address(address))


def test_what_is_allowed_is_allowed_in_its_disguises_and_nothing_beside_it() -> None:
    policy = AddressPolicy([ip_network("127.0.0.2/32")])

    assert policy.permits(ip_address("::ffff:127.0.0.2"))
    assert not policy.permits(ip_address("::ffff:127.0.0.1"))
    assert not policy.permits(ip_address("127.0.0.3"))


@given(st.integers(0, 2**32 - 1).map(ip_address))
def test_an_ipv4_address_is_judged_alike_in_every_spelling(address: object) -> None:
    plain = AddressPolicy().permits(ip_address(str(address)))

    for disguise in DISGUISES[:4]:
        spelled = ip_address(disguise_address(disguise, str(address)))
        if int(spelled) > 1:
            assert AddressPolicy().permits(spelled) == plain


@pytest.mark.parametrize(
    ("host", "source", "code"),
    [
        ("0.0.0.0", "127.0.0.1", "unspecified_address"),
        ("::", None, "unspecified_address"),
        ("127.0.0.1", "10.0.0.7", "loopback_address"),
        ("127.0.1.1", None, "loopback_address"),
        ("::1", "10.0.0.7", "loopback_address"),
        ("::ffff:127.0.0.1", "10.0.0.7", "loopback_address"),
        ("localhost", "10.0.0.7", "loopback_address"),
        ("a.localhost.", "2001:db8::1", "loopback_address"),
        ("localhost", "::1", None),
        ("127.0.0.1", "127.0.0.1", None),
        ("::1", "::ffff:127.0.0.1", None),
        ("10.0.0.7", "127.0.0.1", None),
        ("billing.example", "10.0.0.7", None),
        ("localhost.example", "10.0.0.7", None),
        ("127.0.0.1", "unix", "loopback_address"),
    ],
)
def test_an_address_that_others_cannot_reach_is_warned_of(
    host: str, source: str | None, code: str | None
) -> None:
    warning = address_warning(host, source)

    assert (None if warning is None else warning.code) == code
