"""Warnings about addresses of instances that other machines can hardly reach."""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Literal


@dataclass(frozen=True, slots=True)
class AddressWarning:
    """Warning that other machines can hardly reach the registered address of an instance."""

    code: Literal["unspecified_address", "loopback_address"]
    detail: str


def address_warning(host: str, source: str | None) -> AddressWarning | None:
    """Return a warning about the host of an instance that registered from the address `source`.

    An instance on this machine may use loopback addresses. Names are not resolved: they may resolve
    differently for clients.
    """
    if _is_unspecified(host):
        detail = f"{host} is an address to listen on, not one that clients can connect to"
        return AddressWarning("unspecified_address", detail)
    if _is_loopback(host) and not (source is not None and _is_loopback(source)):
        detail = f"{host} is the client's own machine for every client, not the instance"
        return AddressWarning("loopback_address", detail)
    return None


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
