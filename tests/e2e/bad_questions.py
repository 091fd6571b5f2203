"""Paths, methods, parameters and headers that mean nothing here."""

import base64
import json
from collections.abc import Iterator

from tests.e2e.bad_requests import VALUE, BadRequest, in_url, json_bytes, sending

CONFIG, KEY, DOCUMENT = "/api/v1/config", "/api/v1/config/database.host", "/api/configs/orders"
CHANGES, EFFECTIVE = "/api/v1/changes", "/api/v1/effective"
STREAM = "/api/v1/stream"
DIGITS = "7" * 5000
NO_NUMBERS = {
    "a word": VALUE,
    "a fraction": "1.5",
    "a power": "1e3",
    "a number in hexadecimal": "0x10",
    "Arabic digits": "\u0661",
    "5,000 digits": DIGITS,
    "not a number": "NaN",
    "true": "true",
    "a list": "[1]",
}
PATHS = {
    "a way up": f"{CONFIG}/../changes",
    "a way up at the end": f"{CONFIG}/..",
    "a way up at the start": "/../etc/passwd",
    "a way up by escapes": f"{CONFIG}/%2e%2e/changes",
    "a way up in half escapes": f"{CONFIG}/.%2E/changes",
    "an encoded slash": f"{CONFIG}/a%2Fb",
    "an encoded slash of a document": "/api/configs/a%2fb",
    "a backslash": f"{CONFIG}/a\\b",
    "a way up with backslashes": f"{CONFIG}/..\\..\\a",
    "an encoded backslash": f"{CONFIG}/a%5Cb",
    "an encoded NUL": f"{CONFIG}/a%00",
    "a NUL after a route": "/live%00",
    "a newline after a route": "/live%0A",
    "a newline after a list": f"{CONFIG}%0a",
    "a newline after a key's history": f"{KEY}/history%0A",
    "a control character": f"{CONFIG}/a%1b",
    "a deleted character": f"{CONFIG}/a%7f",
    "half an escape": f"{CONFIG}/a%2",
    "an escape that is none": f"{CONFIG}/a%zz",
    "Latin-1": f"{CONFIG}/%e4",
    "an overlong slash": f"{CONFIG}/a%c0%af",
    "a surrogate": f"{CONFIG}/%ed%a0%80",
    "half of UTF-8": f"{CONFIG}/%e2%82",
}
NOWHERE = ["/api", "/api/v2/config", "/api/v1", "/API/v1/config", "//live", "/live/x", "*"]
NOWHERE += [f"{CONFIG}//", f"{CONFIG}/a/b", f"{CONFIG}/a/histories", f"{DOCUMENT}/versions"]
NOWHERE += ["/api/v1//config", "/api/v1/./config", "/.git/config"]
METHODS = {
    "/": {"GET"},
    "/live": {"GET"},
    "/ready": {"GET"},
    "/health": {"GET"},
    "/metrics": {"GET"},
    "/stats": {"GET"},
    CONFIG: {"GET", "POST", "PATCH"},
    f"{CONFIG}/bulk": {"GET", "POST", "PUT", "DELETE"},  # `bulk` is a key, too
    KEY: {"GET", "PUT", "DELETE"},
    f"{KEY}/history": {"GET"},
    f"{KEY}/rollback": {"POST"},
    EFFECTIVE: {"GET"},
    "/api/v1/import": {"POST"},
    "/api/v1/export": {"GET"},
    CHANGES: {"GET"},
    STREAM: {"GET"},
    f"/api/v1/writes/{'0' * 32}": {"GET"},
    "/api/configs": {"GET"},
    DOCUMENT: {"GET", "POST", "PUT", "DELETE"},
    f"{DOCUMENT}/history": {"GET"},
    f"{DOCUMENT}/diff": {"GET"},
    f"{DOCUMENT}/rollback": {"POST"},
}
IF_MATCH = {
    "nothing": "",
    "a bare number": "1",
    "an open quote": '"1',
    "single quotes": "'1'",
    "a comma alone": ",",
    "a weak nothing": "W/",
    "a weak tag in small": 'w/"1"',
    "two tags without a comma": '"1" "2"',
    "a star among tags": '"1", *',
    "a quote in a tag": '"1"2"',
    "a space in a tag": '"1 2"',
}
STALE = ['"99"', 'W/"1"', '"0"', '"01"', '"-1"', '"1.0"', f'"{DIGITS}"', '"ä"', f'"{VALUE}"', '""']


def cases() -> Iterator[BadRequest]:
    yield from _paths()
    yield from _methods()
    yield from _queries()
    yield from _numbers()
    yield from _cursors()
    yield from _preconditions()
    yield from _idempotency_keys()
    yield from _events()
    yield from _writes()
    yield from _heads()


def _paths() -> Iterator[BadRequest]:
    for what, target in PATHS.items():
        yield BadRequest(f"{what} in a path", 400, "bad_path", "GET", target)
        yield sending(
            f"{what} in a path to write", 400, "bad_path", "PUT", target, {"value": VALUE}
        )
    for target in NOWHERE:
        yield BadRequest(f"nothing at {target}", 404, "no_such_route", "GET", target)
        yield sending(f"nothing to write at {target}", 404, "no_such_route", "POST", target, {})


def _methods() -> Iterator[BadRequest]:
    for target, methods in METHODS.items():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            if method not in methods:
                title = f"{method} {target}"
                body = (
                    b"" if method in {"GET", "OPTIONS", "TRACE"} else json_bytes({"value": VALUE})
                )
                yield sending(title, 405, "method_not_allowed", method, target, body)


def _queries() -> Iterator[BadRequest]:
    for what, text in {
        "a NUL": "a%00",
        "Latin-1": "%e4",
        "a surrogate": "%ed%a0%80",
        "half of UTF-8": "a%e2%82",
        "an overlong slash": "%c0%af",
    }.items():
        for target in (
            f"{CHANGES}?entity=",
            f"{EFFECTIVE}?x=",
            "/api/v1/import?comment=",
            "/live?",
        ):
            method = "POST" if "import" in target else "GET"
            title = f"{what} in the query of {target}"
            yield BadRequest(title, 400, "bad_query", method, target + text, b"a: hunter2")
    for parameter, target in {
        "resolve": KEY,
        "reveal": KEY,
        "reveal of all": EFFECTIVE,
        "dry_run": "/api/v1/import",
    }.items():
        name = parameter.split()[0]
        method = "POST" if name == "dry_run" else "GET"
        for text in ("", VALUE, "2", "null"):
            title = f"{text!r} as {parameter}"
            yield BadRequest(
                title, 422, "invalid", method, f"{target}?{name}={text}", b"a: hunter2"
            )
    for name in ("environment", "kind", "entity"):
        target = f"{CHANGES}?{name}={'x' * 141}"
        yield BadRequest(f"a long {name}", 422, "invalid", "GET", target)


def _numbers() -> Iterator[BadRequest]:
    limited = [CONFIG, CHANGES, "/api/configs", f"{DOCUMENT}/history", f"{KEY}/history"]
    places = [(f"{target}?limit=", ["", "0", "-1", "1001", "9" * 30]) for target in limited]
    versions = [f"{KEY}?version=", f"{DOCUMENT}?version=", f"{DOCUMENT}/diff?old_version="]
    versions.append(f"{DOCUMENT}/diff?new_version=")
    places += [(target, ["", "0", "-1", str(2**31), "9" * 30]) for target in versions]
    places.append((f"{CHANGES}?since=", ["", "-1", str(2**63), "9" * 30]))
    reading = [CONFIG, KEY, EFFECTIVE, CHANGES, DOCUMENT, "/api/configs", f"{DOCUMENT}/history"]
    reading += [f"{DOCUMENT}/diff", f"{KEY}/history", "/api/v1/export", "/api/v1/writes/0"]
    least = [f"{target}?min_revision=" for target in reading]
    places += [(target, ["", "-1", str(2**63), "9" * 30]) for target in least]
    for target, others in places:
        for text in [*NO_NUMBERS.values(), *others]:
            title = f"{text[:20]!r} in {target}"
            yield BadRequest(title, 422, "invalid", "GET", target + in_url(text))
    for target in versions:
        title = f"a version to come in {target}"
        yield BadRequest(title, 404, "version_not_found", "GET", f"{target}{2**31 - 1}")


def _cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _cursors() -> Iterator[BadRequest]:
    shapes: dict[str, tuple[str, list[object]]] = {
        CONFIG: ("text", [[], [1], ["a", "b"], [None], {"a": 1}, "a", [["a"]]]),
        "/api/configs": ("two texts", [[], ["a"], ["a", 1], ["a", "b", "c"], "ab"]),
        CHANGES: ("a number", [[], ["1"], [True], [1.0], [-1], [2**63], [10**400], [1, 2], 1]),
        f"{DOCUMENT}/history": ("a number", [["1"], [False], [-1], [2**63], [10**30], [None]]),
    }
    for target, (_, values) in shapes.items():
        for value in values:
            title = f"the cursor of {json.dumps(value)[:20]} at {target}"
            cursor = f"{target}?cursor={_cursor(value)}"
            yield BadRequest(title, 400, "bad_cursor", "GET", cursor)
        for text in (VALUE, "!", "%20", "%C3%A4", "YQ", "bnVsbA", "W05hTl0"):
            title = f"the cursor {text} at {target}"
            yield BadRequest(title, 400, "bad_cursor", "GET", f"{target}?cursor={text}")
        vast = f"{target}?cursor={'A' * 2049}"
        yield BadRequest(f"a cursor of 2,049 at {target}", 422, "invalid", "GET", vast)


def _preconditions() -> Iterator[BadRequest]:
    writes: list[tuple[str, str, object]] = [
        ("PUT", KEY, {"value": VALUE}),
        ("DELETE", KEY, None),
        ("PATCH", CONFIG, {"set": {"a": VALUE}}),
        ("PUT", DOCUMENT, {"config_data": {"a": VALUE}}),
        ("DELETE", DOCUMENT, None),
        ("POST", f"{DOCUMENT}/rollback", {"version": 1}),
    ]
    for method, target, body in writes:
        sent = b"" if body is None else json_bytes(body)
        for what, header in IF_MATCH.items():
            title = f"If-Match of {what}: {method} {target}"
            yield sending(title, 400, "bad_if_match", method, target, sent, If_Match=header)
        for header in STALE:
            title = f"If-Match of {header[:20]}: {method} {target}"
            yield sending(title, 412, "stale_version", method, target, sent, If_Match=header)
    nowhere = f"{CONFIG}?service_name=nowhere"
    body = {"set": {"a": VALUE}}
    title = "If-Match of anything where there is nothing"
    yield sending(title, 412, "stale_version", "PATCH", nowhere, body, If_Match="*")


def _idempotency_keys() -> Iterator[BadRequest]:
    posts: list[tuple[str, object]] = [
        (CONFIG, {"key": "new", "value": VALUE}),
        ("/api/configs/new", {"config_data": {"a": VALUE}}),
        (f"{KEY}/rollback", {"version": 1}),
        (f"{DOCUMENT}/rollback", {"version": 1}),
        ("/api/v1/import?format=json", {"a": VALUE}),
    ]
    code = "bad_idempotency_key"
    for target, body in posts:
        for what, key in {
            "nothing": "",
            "201 characters": "x" * 201,
            "a tab": "a\tb",
            "a control character of Latin-1": "a\x85b",
            "a soft hyphen": "a\xadb",
        }.items():
            title = f"an Idempotency-Key of {what} at {target}"
            yield sending(title, 400, code, "POST", target, body, Idempotency_Key=key)


def _events() -> Iterator[BadRequest]:
    for text in ("", VALUE, "-1", "1.5", "\u00b2", "0x1", "1, 2", DIGITS, "9" * 19):
        headers = {"Last-Event-ID": text}
        title = f"a stream after {text[:20]!r}"
        yield BadRequest(title, 422, "invalid", "GET", STREAM, b"", headers)


def _writes() -> Iterator[BadRequest]:
    for what, text in {
        "a word": VALUE,
        "31 digits": "0" * 31,
        "33 digits": "0" * 33,
        "capitals": "A" * 32,
        "a newline": "0" * 31 + "%0a",
        "wide digits": "%EF%BC%91" * 32,
    }.items():
        status, code = (400, "bad_path") if what == "a newline" else (422, "invalid")
        yield BadRequest(f"{what} as a write", status, code, "GET", f"/api/v1/writes/{text}")
    unknown = f"/api/v1/writes/{'0' * 32}"
    yield BadRequest("an unknown write", 404, "write_not_found", "GET", unknown)


def _heads() -> Iterator[BadRequest]:
    for method, target in (("GET", CONFIG), ("POST", CONFIG)):
        body = b"" if method == "GET" else json_bytes({"key": "new", "value": VALUE})
        many = {f"X-{number}": VALUE for number in range(10_000)}
        code = "headers_too_large"
        yield sending(
            f"a header of 70 KiB: {method}", 431, code, method, target, body, X_A="x" * 70_000
        )
        yield BadRequest(f"10,000 headers: {method}", 431, code, method, target, body, many)
    for accepted in ("image/png", "text/html", "application/json;q=0", "application/vnd.hunter2"):
        headers = {"Accept": accepted}
        title = f"a configuration as {accepted}"
        yield BadRequest(title, 406, "refused", "GET", EFFECTIVE, b"", headers)
