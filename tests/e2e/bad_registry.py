"""What can be wrong with what the registry is sent, and how it must be answered."""

from collections.abc import Iterator
from typing import Any

from tests.e2e.bad_requests import VALUE, BadRequest, in_url, sending
from tests.e2e.registry import REGISTRY

SERVICE = "billing"  # the service that stands there, with the instance i-1
GOOD = {"service_name": "new", "service_url": "http://10.0.0.9:8080"}
HERE = f"{REGISTRY}/services/{SERVICE}"
# Of every body that is read: what is right, and the types each member may have.
BODIES: dict[tuple[str, str], tuple[dict[str, Any], dict[str, str]]] = {
    ("POST", f"{REGISTRY}/register"): (
        GOOD,
        {
            "service_name": "string",
            "service_url": "string",
            "health_check_url": "string null",
            "instance_id": "string null",
            "metadata": "object null",
            "tags": "array null",
            "weight": "integer null",
            "zone": "string null",
            "version": "string null",
            "ttl_seconds": "integer null",
            "warmup_seconds": "number integer null",
        },
    ),
    ("POST", f"{REGISTRY}/deregister"): (
        {"service_name": SERVICE, "instance_id": "i-9"},
        {
            "service_name": "string",
            "instance_id": "string null",
            "service_url": "string null",
            "epoch": "integer null",
        },
    ),
    ("PUT", f"{HERE}/instances/i-1/heartbeat"): ({}, {"epoch": "integer null"}),
    ("POST", f"{HERE}/instances/i-1/drain"): (
        {},
        {"epoch": "integer null", "grace_seconds": "number integer"},
    ),
}
OF_TYPE: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "integer": 1,
    "number": 1.5,
    "string": VALUE,
    "array": [VALUE],
    "object": {"colour": VALUE},
}
NO_NAMES = (
    "a/b",
    "..",
    ".",
    "",
    " ",
    "a b",
    "ä",
    "-a",
    "a.",
    "x" * 64,
    "a\n",
    "%2e",
    "a..b",
    "a:b",
)
NO_IDS = ("a/b", "..", ".", "", " ", "a b", "ä", "-a", "a.", "x" * 129, "a\n", "%2e", ":a", "a@")
# By member: what it may not be, and at which place it is told.
FLAWS: dict[str, dict[str, tuple[Any, str]]] = {
    "service_name": {repr(name): (name, "/service_name") for name in NO_NAMES},
    "instance_id": {repr(name): (name, "/instance_id") for name in NO_IDS},
    "zone": {repr(name): (name, "/zone") for name in NO_NAMES},
    "service_url": {
        url[:60]: (url, "/service_url")
        for url in (
            *("", "/", "a", "10.0.0.7:80", "//a/b", "http:a", "http://", "http:///x", "http://:80"),
            *("http://a:0", "http://a:65536", "http://a:-1", "http://a:x", "http://a:99999999999"),
            *("http://u:hunter2@a", "http://a?x=1", "http://a#x", "http://a b", "http://a\\b"),
            *("http://127.1", "http://0x7f.1", "http://2130706433", "http://0177.0.0.1"),
            *("http://[::1", "http://[1:2]", "http://[fe80::1%25eth0]", "http://256.1.1.1"),
            *("http://ä", "http://a\u0000", "http://a\n", "grpc://a", "://a", "1http://a"),
            *("javascript:alert(1)", "javascript://a:1/%0aalert(1)", "JAVASCRIPT://a:1/x"),
            *(
                "data:text/html,x",
                "file:///etc/passwd",
                "file://a:1/x",
                "vbscript://a:1",
                "ftp://a",
            ),
            *("http://a/%0d%0aX: y", "http://a/%00", "http://a/%7f", "http://a/%c2%85"),
            *("http://a/%5cb", "http://a/%", "http://a/%zz", "http://@a", "http://a:80:80"),
            f"http://a/{'x' * 1000}",
        )
        if "\0" not in url
    },
    "health_check_url": {
        url[:60]: (url, "/health_check_url")
        for url in (
            *("", "/health", "ftp://a/health", "grpc://a:1", "http://a:0", "http://u:p@a/"),
            *("tcp://a:1", "ws://a", "javascript://a:1/%0ax", "http://a/%0d%0a", "http://a/#x"),
            *("http://0x7f.1/", "http://127.1/", "http://2852039166/"),
            *("http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]/"),
            *("http://[::ffff:a9fe:a9fe]:81/", "http://[::169.254.169.254]/", "http://0.0.0.0/"),
            *("http://[64:ff9b::a9fe:a9fe]/", "http://[2002:a9fe:a9fe::1]/", "https://[fe80::1]/"),
            *("http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://168.63.129.16/"),
            *("http://224.0.0.1/", "http://255.255.255.255/", "http://[::]/", "http://[ff02::1]/"),
        )
    },
    "weight": {str(number): (number, "/weight") for number in (-1, 1001, 10**30)},
    "ttl_seconds": {str(number): (number, "/ttl_seconds") for number in (0, -1, 86_401, 10**30)},
    "warmup_seconds": {str(n): (n, "/warmup_seconds") for n in (-0.1, 86_400.5, 1e308, 10**300)},
    "version": {
        "nothing": ("", "/version"),
        "too much": ("x" * 101, "/version"),
        "a line feed": ("1\n2", "/version"),
    },
    "tags": {
        "33": (["a"] * 33, "/tags"),
        "an empty one": (["a", ""], "/tags/1"),
        "a long one": (["x" * 101], "/tags/0"),
        "a tabulator": (["a", "b", "\t"], "/tags/2"),
    },
    "metadata": {
        "a number": ({"a": 1}, "/metadata/a"),
        "null": ({"a": None}, "/metadata/a"),
        "an object": ({"a/b": {}}, "/metadata/a~1b"),
        "16 KiB and a byte": ({"a": "x" * (16 * 1024 - 7)}, "/metadata"),
        "16 KiB of names": ({f"name{number}": "" for number in range(1300)}, "/metadata"),
        "700 kB": ({"a": "x" * 700_000}, "/metadata/a"),
    },
}
QUERIES = {
    "an unknown strategy": ("url?strategy=fastest", "invalid"),
    "a strategy in capitals": ("url?strategy=RANDOM", "invalid"),
    "an empty strategy": ("url?strategy=", "invalid"),
    "the strategy hash without a key": ("url?strategy=hash", "key_missing"),
    "a revision that is none": ("url?min_revision=x", "invalid"),
}


def cases() -> Iterator[BadRequest]:
    yield from _bodies()
    yield from _members()
    yield from _other_bodies()
    yield from _nobody()
    yield from _names_in_paths()
    for title, (rest, code) in QUERIES.items():
        yield BadRequest(title, 422, code, "GET", f"{HERE}/{rest}")
    for rest in ("limit=0", "limit=1001", "limit=x"):
        yield BadRequest(rest, 422, "invalid", "GET", f"{REGISTRY}/services?{rest}")
    yield BadRequest("no cursor", 400, "bad_cursor", "GET", f"{REGISTRY}/services?cursor=hunter2")
    for method, path in (
        *(("GET", "register"), ("PUT", "deregister"), ("DELETE", "services/billing")),
        *(("POST", "discover/billing"), ("POST", "prometheus"), ("POST", "services")),
    ):
        title = f"{method} {path}"
        yield BadRequest(title, 405, "method_not_allowed", method, f"{REGISTRY}/{path}")


def _bodies() -> Iterator[BadRequest]:
    for (method, target), (good, _) in BODIES.items():
        to = f"to {target.rpartition('/')[2]}"
        for other in ([good], VALUE, 1, True):
            title = f"{type(other).__name__} {to}"
            yield sending(title, 422, "invalid", method, target, other)
        for what, text in {"half": b'{"epoch": 1', "NaN": b'{"epoch": NaN}', "no": b"x"}.items():
            yield sending(f"{what} JSON {to}", 400, "bad_json", method, target, text)


def _members() -> Iterator[BadRequest]:
    for (method, target), (good, members) in BODIES.items():
        to = f"to {target.rpartition('/')[2]}"
        colour = {**good, "colour": VALUE}
        yield sending(f"an unknown member {to}", 422, "invalid", method, target, colour)
        for member, types in members.items():
            for found, value in OF_TYPE.items():
                if found not in types.split():
                    title, body = f"{found} as {member} {to}", {**good, member: value}
                    yield sending(title, 422, "invalid", method, target, body)
        for member in ("service_name", "service_url"):
            if member in good:
                rest = {name: value for name, value in good.items() if name != member}
                yield sending(f"no {member} {to}", 422, "invalid", method, target, rest)
        for epoch in (-1, 2**53) if "epoch" in members else ():
            title, body = f"epoch {epoch} {to}", {**good, "epoch": epoch}
            yield sending(title, 422, "invalid", method, target, body)


def _other_bodies() -> Iterator[BadRequest]:
    drain = f"{HERE}/instances/i-1/drain"
    for grace in (-1, 86_401, 1e308):
        grace_body = {"grace_seconds": grace}
        yield sending(f"a grace of {grace}", 422, "invalid", "POST", drain, grace_body)
    twice = b'{"service_name": "a", "service_name": "new", "service_url": "http://a"}'
    yield sending("a name twice", 400, "bad_json", "POST", f"{REGISTRY}/register", twice)
    large = b'{"service_name": "new", "metadata": {"a": "' + b"x" * 2**20 + b'"}}'
    yield sending("1 MiB", 413, "too_large", "POST", f"{REGISTRY}/register", large)
    whose = {"service_name": SERVICE}
    yield sending("whoever", 422, "bad_instance", "POST", f"{REGISTRY}/deregister", whose)
    for url in ("", "/", "a:80", "http://a:0"):
        title, body = f"deregistering {url!r}", {"service_name": SERVICE, "service_url": url}
        yield sending(title, 422, "bad_instance", "POST", f"{REGISTRY}/deregister", body)


def _nobody() -> Iterator[BadRequest]:
    code = "instance_not_found"
    for service, id_ in ((SERVICE, "i-9"), ("nobody", "i-1")):
        path = f"{REGISTRY}/services/{service}/instances/{id_}"
        of = f"for {id_} of {service}"
        yield sending(f"a heartbeat {of}", 404, code, "PUT", f"{path}/heartbeat", {})
        yield sending(f"an epoch {of}", 404, code, "PUT", f"{path}/heartbeat", {"epoch": 1})
        yield sending(f"a drain {of}", 404, code, "POST", f"{path}/drain", {"grace_seconds": 1})
        body = {"service_name": service, "instance_id": id_}
        yield sending(f"an end {of}", 404, code, "POST", f"{REGISTRY}/deregister", body)
    path = f"{HERE}/instances/i-1"
    for epoch in (0, 2, 2**53 - 1):
        late: dict[str, Any] = {"epoch": epoch}
        of = f"of epoch {epoch}"
        yield sending(f"a heartbeat {of}", 409, "old_epoch", "PUT", f"{path}/heartbeat", late)
        yield sending(f"a drain {of}", 409, "old_epoch", "POST", f"{path}/drain", late)
        body = {"service_name": SERVICE, "instance_id": "i-1", **late}
        yield sending(f"an end {of}", 409, "old_epoch", "POST", f"{REGISTRY}/deregister", body)


def _names_in_paths() -> Iterator[BadRequest]:
    code = "bad_service_name"
    for name in (*("a b", "ä", "-a", "a.", "*"), *("x" * 129, "a:")):
        yield from _odd_id(name)
    for name in ("a b", "ä", "-a", "a.", "x" * 64, "a:b", "*"):
        path, of = f"{REGISTRY}/services/{in_url(name)}", f"of {name!r}"
        yield BadRequest(f"instances {of}", 422, code, "GET", path)
        yield BadRequest(f"a URL {of}", 422, code, "GET", f"{path}/url")
        yield BadRequest(f"checks {of}", 422, code, "POST", f"{path}/health")
        discover = f"{REGISTRY}/discover/{in_url(name)}"
        yield BadRequest(f"discovery {of}", 422, code, "GET", discover)
        instance = f"{path}/instances/i-1"
        yield sending(f"a heartbeat {of}", 422, code, "PUT", f"{instance}/heartbeat", {})
        yield sending(f"a drain {of}", 422, code, "POST", f"{instance}/drain", {})


def _odd_id(id_: str) -> Iterator[BadRequest]:
    code, path = "bad_service_name", f"{HERE}/instances/{in_url(id_)}"
    yield sending(f"a heartbeat of the id {id_!r}", 422, code, "PUT", f"{path}/heartbeat", {})
    yield sending(f"a drain of the id {id_!r}", 422, code, "POST", f"{path}/drain", {})
