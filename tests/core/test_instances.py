"""What a registration may say, what is refused and where, and the id of an unnamed instance."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import (
    MAX_METADATA_BYTES,
    Url,
    default_id,
    instance_json,
    read_registration,
    read_url,
)
from tests.core.drawn import json_values
from tests.core.drawn_instances import registrations
from tests.trials import trials

quick = settings(max_examples=trials(60))


def registration(**members: Any) -> dict[str, Any]:
    return {"service_name": "billing", "service_url": "http://10.0.0.7:8080", **members}


def test_what_is_not_said_has_its_default() -> None:
    instance = read_registration(registration())

    assert instance.url == Url("http", "10.0.0.7", 8080)
    assert (instance.weight, instance.ttl_seconds, instance.warmup_seconds) == (100, 30, 0)
    assert (instance.health_check_url, instance.zone, instance.version) == (None, None, None)
    assert (instance.metadata, instance.tags) == ({}, ())
    assert read_registration(registration(zone=None, weight=None, tags=None)) == instance


@quick
@given(registrations)
def test_what_was_read_is_written_and_read_as_the_same(drawn: dict[str, Any]) -> None:
    instance = read_registration(drawn)

    written = json.loads(json.dumps(instance_json(instance)))

    assert read_registration(written) == instance
    assert {name: written[name] for name, value in drawn.items() if value is not None} == {
        name: value for name, value in drawn.items() if value is not None
    }


@quick
@given(registrations, st.sampled_from(sorted(registration(health_check_url=0, x=0))), json_values)
def test_whatever_else_is_sent_is_read_or_refused_with_its_place(
    drawn: dict[str, Any], member: str, value: Any
) -> None:
    try:
        read_registration({**drawn, member: value})
    except DefinitionError as error:
        pointer = error.pointer
    else:
        return

    assert pointer.startswith(f"/{member}")


@pytest.mark.parametrize(
    ("member", "value", "pointer"),
    [
        ("service_name", "a/b", "/service_name"),
        ("service_name", "..", "/service_name"),
        ("instance_id", "a/b", "/instance_id"),
        ("instance_id", "", "/instance_id"),
        ("instance_id", "x" * 129, "/instance_id"),
        ("instance_id", ":a", "/instance_id"),
        ("instance_id", "a:", "/instance_id"),
        ("service_url", "http://a:1/?q=1", "/service_url"),
        ("health_check_url", "ftp://a/health", "/health_check_url"),
        ("health_check_url", "tcp://a:1", "/health_check_url"),
        ("health_check_url", "http://a/%0a", "/health_check_url"),
        ("service_url", "javascript://a:1/%0aalert(1)", "/service_url"),
        ("health_check_url", "/health", "/health_check_url"),
        ("metadata", {"a": 1}, "/metadata/a"),
        ("metadata", {"a/b": None}, "/metadata/a~1b"),
        ("metadata", {"a": "\0"}, "/metadata/a"),
        ("metadata", {"a": "\ud800"}, "/metadata"),
        ("metadata", [], "/metadata"),
        ("tags", "a", "/tags"),
        ("tags", ["a", ""], "/tags/1"),
        ("tags", ["a\n"], "/tags/0"),
        ("tags", ["\ud800"], "/tags/0"),
        ("tags", ["a"] * 33, "/tags"),
        ("weight", -1, "/weight"),
        ("weight", 1001, "/weight"),
        ("weight", 0.5, "/weight"),
        ("weight", True, "/weight"),
        ("zone", "a b", "/zone"),
        ("version", "\t", "/version"),
        ("ttl_seconds", 0, "/ttl_seconds"),
        ("ttl_seconds", 86_401, "/ttl_seconds"),
        ("warmup_seconds", -0.1, "/warmup_seconds"),
        ("warmup_seconds", 10**400, "/warmup_seconds"),
        ("colour", "red", "/colour"),
    ],
)
def test_a_flaw_is_refused_at_its_place(member: str, value: object, pointer: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        read_registration(registration(**{member: value}))

    assert refused.value.pointer == pointer


@pytest.mark.parametrize("value", [None, [], "x", {}, {"service_name": "a"}])
def test_what_is_no_registration_is_refused(value: object) -> None:
    with pytest.raises(DefinitionError):
        read_registration(value)


def test_metadata_may_take_16_kib_as_json_and_not_a_byte_more() -> None:
    fitting = {"a": "é" * ((MAX_METADATA_BYTES - 8) // 2)}

    assert read_registration(registration(metadata=fitting)).metadata == fitting
    with pytest.raises(DefinitionError, match="16385 bytes"):
        read_registration(registration(metadata={"ab": fitting["a"]}))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a", Url("http", "a", 80)),
        ("HTTPS://A.Example/", Url("https", "a.example", 443)),
        ("http://a:65535/x/y?z=%20", Url("http", "a", 65535, "/x/y", "?z=%20")),
        ("http://a/?z", Url("http", "a", 80, "/", "?z")),
        ("http://a:/", Url("http", "a", 80)),
        ("grpc://a_b.c-d.:1", Url("grpc", "a_b.c-d.", 1)),
        ("http://[2001:DB8:0::7]:8080/x", Url("http", "2001:db8::7", 8080, "/x")),
        ("http://[::ffff:10.0.0.1]", Url("http", "10.0.0.1", 80)),
        ("http://[::ffff:a00:1]", Url("http", "10.0.0.1", 80)),
        ("http://xn--4ca.example/%C3%A4", Url("http", "xn--4ca.example", 80, "/%C3%A4")),
        ("http://a/%20%25%2f%e2%82%ac", Url("http", "a", 80, "/%20%25%2f%e2%82%ac")),
        ("ws://a", Url("ws", "a", 80)),
        ("wss://a", Url("wss", "a", 443)),
        ("grpcs://a:50051", Url("grpcs", "a", 50051)),
        ("TCP://a:6379", Url("tcp", "a", 6379)),
    ],
)
def test_a_url_is_taken_apart(text: str, url: Url) -> None:
    assert read_url(text) == url
    assert read_url(str(url)) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an absolute"),
        ("/x", "not an absolute"),
        ("//a/x", "not an absolute"),
        ("a:80", "not an absolute"),
        ("http:a", "not an absolute"),
        ("http://", "cannot be read"),
        ("http://:80", "cannot be read"),
        ("http:///x", "cannot be read"),
        ("1http://a", "cannot be read"),
        ("http://a b", "cannot be read"),
        ("http://a\\b", "cannot be read"),
        ("http://a\n", "cannot be read"),
        ("http://a/\t", "cannot be read"),
        ("http://ä", "xn--"),
        ("http://a/ä", "percent-encoded"),
        ("http://\u212a", "xn--"),  # the Kelvin sign, which is a k in lower case
        ("http://a%2eb", "cannot be read"),
        ("http://a%00", "cannot be read"),
        ("javascript:alert(1)", "not an absolute"),
        ("data:text/html,x", "not an absolute"),
        ("javascript://a:1/%0aalert(1)", "the scheme javascript"),
        ("JavaScript://a:1/", "the scheme javascript"),
        ("file://a:1/etc/passwd", "the scheme file"),
        ("ftp://a:21", "the scheme ftp"),
        ("vbscript://a:1", "the scheme vbscript"),
        ("gopher://a:70", "the scheme gopher"),
        ("h2c://a:70", "the scheme h2c"),
        ("http+unix://a:1", "the scheme http"),
        (f"{'s' * 900}://a:1", "the scheme s"),
        ("http://a/%0a", "encoded control"),
        ("http://a/%0D%0Ax", "encoded control"),
        ("http://a/x%00", "encoded control"),
        ("http://a/x?y=%1f", "encoded control"),
        ("http://a/%7F", "encoded control"),
        ("http://a/%c2%85", "encoded control"),
        ("http://a/%5c%5Cevil", "encoded control"),
        ("http://a/%", "a % that"),
        ("http://a/%zz", "a % that"),
        ("http://a/%2", "a % that"),
        ("http://a?x=%u000a", "a % that"),
        ("http://a\\@b", "credentials"),
        ("http://@a", "credentials"),
        ("http://a/\r\nHost: b", "cannot be read"),
        ("http://a/\0", "cannot be read"),
        ("http://[]:80", "cannot be read"),
        ("http://a:80:80", "cannot be read"),
        ("http://a:\u0661", "cannot be read"),  # a digit, elsewhere
        ("http://a/x#y", "cannot be read"),
        ("http://[fe80::1%25eth0]", "cannot be read"),
        ("http://[a", "cannot be read"),
        ("http://u:p@a", "credentials"),
        ("http://a@b", "credentials"),
        ("http://a:0", "port outside"),
        ("http://a:65536", "port outside"),
        ("http://a:99999999", "port outside"),
        ("http://a:x", "cannot be read"),
        ("http://a:-1", "cannot be read"),
        ("grpc://a", "names no port"),
        ("http://[1:2]", "an address that cannot"),
        ("http://256.0.0.1", "an address that cannot"),
        ("http://127.1", "an address that cannot"),
        ("http://2130706433", "an address that cannot"),
        ("http://0x7f000001", "an address that cannot"),
        ("http://0177.0.0.1", "an address that cannot"),
        ("http://a..b", "a host that cannot"),
        ("http://.", "a host that cannot"),
        ("http://-a", "a host that cannot"),
        (f"http://{'a' * 64}", "a host that cannot"),
        (f"http://{'a.' * 127}b", "a host that cannot"),
        (f"http://a/{'x' * 1000}", "longer than"),
    ],
)
def test_what_is_no_url_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        read_url(text)


def test_the_id_of_an_unnamed_instance_is_frozen() -> None:
    for url in ("http://10.0.0.7:8080", "HTTP://10.0.0.7:8080/", "http://[::ffff:10.0.0.7]:8080"):
        found = read_registration(registration(service_url=url)).instance_id
        assert found == "48b3bc2913fb7be7def17488ad0b07d5"
    other = read_url("http://10.0.0.7:8080/x")
    assert default_id("billing", other) == "e92cdc53a2c25843ec5a09b38c44f161"
