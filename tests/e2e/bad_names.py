"""Names and keys outside the grammar, wherever one can stand."""

from collections.abc import Iterator

from tests.e2e.bad_requests import VALUE, BadRequest, in_url, json_bytes, sending

NAMES = {
    "empty": "",
    "a space": "a b",
    "a leading space": " a",
    "a trailing space": "a ",
    "one dot": ".",
    "two dots": "..",
    "dots inside": "a..b",
    "a leading dot": ".a",
    "a trailing dot": "a.",
    "a leading dash": "-a",
    "a trailing dash": "a-",
    "a Cyrillic letter": "d\u0435fault",
    "a digit of full width": "a\uff11",
    "a combining accent": "e\u0301",
    "an invisible space": "a\u200b",
    "a Kelvin sign": "\u212a",
    "a newline": "a\n",
    "a newline inside": "a\nb",
    "a tab": "a\tb",
    "a slash": "a/b",
    "a way up": "../a",
    "a backslash": "a\\b",
    "an encoded way up": "%2e%2e",
    "a NUL": "a\0",
    "a colon": "a:b",
    "a wildcard": "*",
    "a question mark": "a?b",
    "64 characters": "a" * 64,
    "8 KiB": "a" * 8192,
}
# These go to every route, the others to one that reads and to one that writes.
ASKED_EVERYWHERE = {"empty", "two dots", "a Cyrillic letter", "a newline", "a NUL", "64 characters"}
# A member may have nearly any name; see test_any_keys.py.
NO_KEYS = {"empty", "a newline", "a newline inside", "a tab", "a NUL", "8 KiB"}
KEYS = {what: name for what, name in NAMES.items() if what in NO_KEYS} | {
    "a deleted character": "a\x7f",
    "a newline in brackets": "a[b\n]",
    "a member of 257": "a b" * 85 + "ab",
    "8 KiB of segments": ".".join("a" * 4096),
}
# What the path itself must not hold is refused before anybody looks for a name in it.
NOT_IN_PATHS = {
    "two dots",
    "a newline",
    "a newline inside",
    "a newline in brackets",
    "a deleted character",
    "a tab",
    "a slash",
    "a way up",
    "a backslash",
    "a NUL",
}


def cases() -> Iterator[BadRequest]:
    for what, name in NAMES.items():
        yield from _bad_names(what, name)
        yield from _named_in_query(what, name)
        yield from _named_in_path(what, name)
    for what, key in KEYS.items():
        yield from _bad_keys(what, key)
        yield from _keyed_in_query(what, key)
        yield from _keyed_in_path(what, key)
    for what, member in KEYS.items():
        if what != "empty":
            yield from _members(what, member)


def _bad_names(what: str, name: str) -> Iterator[BadRequest]:
    status, code = (400, "bad_json") if what == "a NUL" else (422, "bad_name")
    for field in ("environment", "service_name", "user"):
        title = f"{what} as {field}"
        body = {"key": "a", "value": VALUE, field: name}
        yield sending(f"{title} of a key", status, code, "POST", "/api/v1/config", body)
        bulk = "/api/v1/config/bulk"
        yield sending(f"{title} of many", status, code, "POST", bulk, {"keys": ["a"], field: name})
        item = {"key": "a", field: name}
        yield sending(f"{title} of one of many", status, code, "POST", bulk, {"items": [item]})


def _named_in_query(what: str, name: str) -> Iterator[BadRequest]:
    status, code = (400, "bad_query") if what == "a NUL" else (422, "bad_name")
    for field in ("environment", "service_name", "user"):
        query, title = f"{field}={in_url(name)}", f"{what} as {field} in the query"
        key, document = {"value": VALUE}, {"set": {"a": VALUE}}
        for method, target, body in (
            ("PATCH", "/api/v1/config", document),
            ("GET", "/api/v1/effective", None),
            ("GET", "/api/v1/config", None),
            ("GET", "/api/v1/config/a", None),
            ("PUT", "/api/v1/config/a", key),
            ("DELETE", "/api/v1/config/a", None),
            ("GET", "/api/v1/config/a/history", None),
            ("POST", "/api/v1/config/a/rollback", {"version": 1}),
            ("GET", "/api/v1/export", None),
            ("POST", "/api/v1/import", {"a": VALUE}),
        )[: None if what in ASKED_EVERYWHERE else 2]:
            sent = b"" if body is None else json_bytes(body)
            where = f"{title} of {method} {target}"
            file = {"Content_Type": "application/yaml"} if "import" in target else {}
            yield sending(where, status, code, method, f"{target}?{query}", sent, **file)


def _named_in_path(what: str, name: str) -> Iterator[BadRequest]:
    if what in NOT_IN_PATHS:
        status, code = 400, "bad_path"
    else:
        status, code = 422, "bad_name"
    at = f"/api/configs/{in_url(name)}"
    data = {"config_data": {"a": VALUE}}
    if name:
        yield sending(f"{what} as a document", status, code, "POST", at, data)
        yield sending(f"{what} as a document to replace", status, code, "PUT", at, data)
        yield sending(f"{what} as a document to delete", status, code, "DELETE", at, b"")
        yield sending(f"{what} as a document to read", status, code, "GET", at, b"")
    else:
        yield sending("no name of a document", 405, "method_not_allowed", "POST", at, data)
    status, code = (400, "bad_query") if what == "a NUL" else (422, "bad_name")
    target = f"/api/configs/orders?environment={in_url(name)}"
    yield sending(f"{what} as a document's environment", status, code, "PUT", target, data)


def _bad_keys(what: str, key: str) -> Iterator[BadRequest]:
    status, code = (400, "bad_json") if what == "a NUL" else (422, "bad_key")
    config, bulk = "/api/v1/config", "/api/v1/config/bulk"
    new = {"key": key, "value": VALUE}
    yield sending(f"{what} as a new key", status, code, "POST", config, new)
    yield sending(f"{what} as a key of many", status, code, "POST", bulk, {"keys": [key]})
    yield sending(f"{what} as one of many", status, code, "POST", bulk, {"items": [{"key": key}]})
    for change in ({"set": {key: VALUE}}, {"unset": [key]}, {"encrypt": [key]}):
        title = f"{what} to {next(iter(change))}"
        yield sending(title, status, code, "PATCH", config, {"set": {"a": VALUE}, **change})


def _keyed_in_query(what: str, key: str) -> Iterator[BadRequest]:
    status, code = (400, "bad_query") if what == "a NUL" else (422, "bad_key")
    for parameter in ("keys", "keys%5B%5D", "prefix"):
        if key or parameter != "prefix":
            target = f"/api/v1/config?{parameter}={in_url(key)}"
            yield BadRequest(f"{what} as {parameter} of a list", status, code, "GET", target)


def _keyed_in_path(what: str, key: str) -> Iterator[BadRequest]:
    if not key:
        return
    status, code = (400, "bad_path") if what in NOT_IN_PATHS else (422, "bad_key")
    at = f"/api/v1/config/{in_url(key)}"
    yield BadRequest(f"{what} as a key to read", status, code, "GET", at)
    yield BadRequest(f"{what} as a key to read alone", status, code, "GET", f"{at}?resolve=false")
    yield BadRequest(f"{what} as a key once read", status, code, "GET", f"{at}?version=1")
    yield BadRequest(f"{what} as a key to reveal", status, code, "GET", f"{at}?reveal=true")
    yield sending(f"{what} as a key to replace", status, code, "PUT", at, {"value": VALUE})
    yield BadRequest(f"{what} as a key to remove", status, code, "DELETE", at)
    yield BadRequest(f"{what} as a key with a history", status, code, "GET", f"{at}/history")
    back = f"{at}/rollback"
    yield sending(f"{what} as a key to roll back", status, code, "POST", back, {"version": 1})


def _members(what: str, member: str) -> Iterator[BadRequest]:
    status, code = (400, "bad_json") if what == "a NUL" else (422, "bad_key")
    for place, data in (("", {member: VALUE}), (" below another", {"b": {member: VALUE}})):
        title = f"{what} as a member{place}"
        body = {"config_data": data}
        yield sending(f"{title} of a document", status, code, "POST", "/api/configs/new", body)
        key = {"key": "a", "value": {"b": data}}
        yield sending(f"{title} of a key's value", status, code, "POST", "/api/v1/config", key)
        imported = "/api/v1/import?service_name=new&format=json"
        refused = "bad_file" if what == "a NUL" else "bad_key"
        yield sending(f"{title} of a file", 422, refused, "POST", imported, data)
