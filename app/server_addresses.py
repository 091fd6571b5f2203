"""Checks the form of settings that name servers; messages do not contain secret values."""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_HTTP: Final = ("http", "https")
_POSTGRES: Final = ("postgresql", "postgres")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", re.ASCII)
_IPV6: Final = re.compile(r"\[([^\]]*)\](?::(.*))?", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_LARGEST_PORT: Final = 65535
_FORBIDDEN: Final = re.compile(r"[\s\x00-\x1f\x7f]")


def check_http_url(text: str) -> str:
    """Return an absolute http or https URL unchanged; raises ValueError."""
    parts = _split_url(text, _HTTP, "https://")
    if "@" in parts.netloc:
        raise ValueError("contains a user or a password, which are not allowed")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("has a query or a fragment, which would be ignored")
    _check_host_and_port(parts.netloc)
    return text


def check_database_url(text: str) -> str:
    """Return a URL of PostgreSQL unchanged; raises ValueError, without any part of the URL."""
    parts = _split_url(text, _POSTGRES, "postgresql://", secret=True)
    credentials, _, hosts = parts.netloc.rpartition("@")
    if "@" in credentials or parts.fragment or ("@" not in parts.netloc and "@" in parts.path):
        raise ValueError(
            "cannot be parsed: in a user or a password, characters such as @ : / # ? % must be"
            " percent-encoded (%40 for @)"
        )
    for host in hosts.split(",") if hosts else ():
        _check_host_and_port(unquote(host), secret=True)
    for mode in parse_qs(parts.query, keep_blank_values=True).get("sslmode", ()):
        if mode not in _SSL_MODES:
            raise ValueError(f"has an unknown sslmode; valid are {_enumerate_words(_SSL_MODES)}")
    return text


def check_host(text: str) -> str:
    """Return a host name or an address unchanged, without scheme and port; raises ValueError."""
    if "://" in text:
        raise ValueError("is a URL, but must be only a host")
    if not _HOST.fullmatch(text) and not _is_ipv6(text):
        raise ValueError("must be only a host: a name or an address, without port and brackets")
    return text


def check_zookeeper_hosts(text: str) -> str:
    """Return `host:port,host:port/path` unchanged, ports and path optional; raises ValueError."""
    hosts, _, _ = text.partition("/")
    if "://" in text:
        raise ValueError("has a scheme, but must be only hosts")
    _check_list(hosts)
    return text


def check_kafka_servers(text: str) -> str:
    """Return `host:port,host:port` unchanged; raises ValueError."""
    if "://" in text:
        raise ValueError("has a scheme, but must be only hosts and ports")
    _check_list(text, needs_port=True)
    return text


def _split_url(
    text: str, schemes: Sequence[str], usual: str, *, secret: bool = False
) -> SplitResult:
    if _FORBIDDEN.search(text):
        raise ValueError("contains blanks or control characters")
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise ValueError(f"has no scheme such as {usual}")
    if scheme.lower() not in schemes:
        named = "another scheme" if secret else f"the scheme {scheme!r}"
        raise ValueError(f"has {named}, but must have {_enumerate_words(schemes, 'or')}")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("cannot be parsed as a URL") from None
    return parts


def _check_list(text: str, *, needs_port: bool = False) -> None:
    for entry in text.split(","):
        if not entry.strip():
            raise ValueError("has an entry without a host")
        _check_host_and_port(entry.strip(), needs_port=needs_port)


def _check_host_and_port(text: str, *, needs_port: bool = False, secret: bool = False) -> None:
    """Raise ValueError unless it is `host` or `host:port`, an IPv6 address in brackets."""
    if _is_ipv6(text):
        raise ValueError("has an IPv6 address without brackets")
    six = _IPV6.fullmatch(text)
    host, separator, port = (
        (six[1], ":" if six[2] is not None else "", six[2] or "")
        if six is not None
        else text.partition(":")
    )
    if not host:
        raise ValueError("has no host")
    if not (_is_ipv6(host) if six is not None else _HOST.fullmatch(host)):
        raise ValueError(f"has an invalid host{'' if secret else f': {host!r}'}")
    if needs_port and not separator:
        raise ValueError(f"has no port in {text!r}")
    if separator and not (_PORT.fullmatch(port) and 0 < int(port) <= _LARGEST_PORT):
        where = "" if secret else f": {text!r}"
        raise ValueError(f"has a port that is not a number from 1 to {_LARGEST_PORT}{where}")


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _enumerate_words(words: Sequence[str], last: str = "and") -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
