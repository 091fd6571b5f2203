"""Bodies that are no JSON, that are too much of it, or that say what a route does not ask for."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.e2e.bad_requests import MANY, MIB, VALUE, BadRequest, json_bytes, sending

CONFIG, KEY, BULK = "/api/v1/config", "/api/v1/config/database.host", "/api/v1/config/bulk"
DOCUMENT = "/api/configs/orders"
# Every route with a JSON body: what it is sent when nothing is wrong, and what each member may be.
ROUTES: dict[tuple[str, str], tuple[dict[str, Any], dict[str, str]]] = {
    ("POST", CONFIG): (
        {"key": "new", "value": VALUE},
        {
            "key": "string",
            "environment": "string",
            "service_name": "string",
            "user": "string null",
            "is_encrypted": "boolean",
            "comment": "string",
        },
    ),
    ("PUT", KEY): ({"value": VALUE}, {"is_encrypted": "boolean null", "comment": "string"}),
    ("PATCH", CONFIG): (
        {"set": {"new": VALUE}},
        {"set": "object", "encrypt": "array", "unset": "array", "comment": "string"},
    ),
    ("POST", f"{KEY}/rollback"): ({"version": 1}, {"version": "integer", "comment": "string"}),
    ("POST", BULK): (
        {"keys": ["a"]},
        {
            "environment": "string",
            "service_name": "string",
            "user": "string null",
            "keys": "array null",
            "items": "array null",
        },
    ),
    ("POST", "/api/configs/new"): (
        {"config_data": {"a": VALUE}},
        {"config_data": "object", "comment": "string", "created_by": "string null"},
    ),
    ("PUT", DOCUMENT): (
        {"config_data": {"a": VALUE}},
        {"config_data": "object", "comment": "string", "created_by": "string null"},
    ),
    ("POST", f"{DOCUMENT}/rollback"): ({"version": 1}, {"version": "integer", "comment": "string"}),
}
OF_TYPE: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "integer": 1,
    "number": 1.5,
    "string": VALUE,
    "array": [{"colour": VALUE}],
    "object": {"colour": VALUE},
}
REQUIRED = {"key", "value", "version", "config_data"}
# Refused wherever they would be stored.
INEXACT = {
    "a number that becomes 0": b'{"key": "a", "value": 1e-400, "comment": "hunter2"}',
    "a decimal of 19 digits": b'{"key": "a", "value": [0.1234567890123456789, "hunter2"]}',
}
NO_JSON = {
    "a word": b"hunter2",
    "a number beyond every double": b'{"key": "a", "value": 1e400, "comment": "hunter2"}',
    "an open object": b'{"key": "a", "value": "hunter2"',
    "two objects": b'{"key": "a", "value": "hunter2"} {}',
    "a comment": b'{"key": "a", /* hunter2 */ "value": 1}',
    "single quotes": b"{'key': 'a', 'value': 'hunter2'}",
    "a comma too many": b'{"key": "a", "value": "hunter2",}',
    "a leading zero": b'{"key": "a", "value": 0123}',
    "a bare fraction": b'{"key": "a", "value": .5}',
    "a raw newline": b'{"key": "a", "value": "hunter2\n"}',
    "a byte order mark": b'\xef\xbb\xbf{"key": "a", "value": "hunter2"}',
    "UTF-16": '{"key": "a", "value": "hunter2"}'.encode("utf-16"),
    "Latin-1": '{"key": "a", "value": "hunter2ä"}'.encode("latin-1"),
    "a half of UTF-8": b'{"key": "a", "value": "hunter2\xe2\x82"}',
    "an overlong slash": b'{"key": "a", "value": "hunter2\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"key": "a", "value": "hunter2\xed\xa0\x80"}',
    "a surrogate in a value": b'{"key": "a", "value": "hunter2\\ud800"}',
    "surrogates the wrong way round": b'{"key": "a", "value": "\\ude00\\ud83d"}',
    "a surrogate in a key": b'{"key": "a\\udfff", "value": "hunter2"}',
    "a surrogate in a member": b'{"key": "a", "value": {"\\ud800": "hunter2"}}',
    "a surrogate in a field": b'{"key": "a", "value": 1, "\\ud800": "hunter2"}',
    "a NUL in a value": b'{"key": "a", "value": "hunter2\\u0000"}',
    "a NUL in a member": b'{"key": "a", "value": {"a\\u0000": "hunter2"}}',
    "a NUL in a comment": b'{"key": "a", "value": 1, "comment": "\\u0000"}',
    "a raw NUL": b'{"key": "a", "value": "hunter2\x00"}',
    "NaN": b'{"key": "a", "value": NaN}',
    "Infinity": b'{"key": "a", "value": Infinity}',
    "-Infinity": b'{"key": "a", "value": [-Infinity]}',
    "1e400": b'{"key": "a", "value": 1e400}',
    "-1e400": b'{"key": "a", "value": {"b": -1e400}}',
    "an integer of 5,000 digits": b'{"key": "a", "value": ' + b"7" * 5000 + b"}",
    "a fraction of 5,000 digits": b'{"key": "a", "value": ' + b"7" * 5000 + b".5}",
    "a member twice": b'{"key": "a", "value": {"b": "hunter2", "b": "hunter2"}}',
    "a member twice in two spellings": b'{"key": "a", "value": {"b": "hunter2", "\\u0062": 1}}',
    "a field twice": b'{"key": "a", "value": 1, "value": "hunter2"}',
    "a member twice in a list": b'{"key": "a", "value": [{"b": 1, "b": "hunter2"}]}',
    "65 levels of lists": b'{"key": "a", "value": ' + b"[" * 64 + b"]" * 64 + b"}",
    "65 levels of objects": b'{"key": "a", "value": ' + b'{"a":' * 64 + b"1" + b"}" * 65,
    "100,000 levels": b"[" * 100_000,
    "100,000 levels, closed": b'{"key": "a", "value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
NO_OBJECT = {
    "null": b"null",
    "true": b"true",
    "a number": b"17",
    "a string": b'"hunter2"',
    "an array": b'["hunter2"]',
    "an array of one": b'[{"key": "a", "value": "hunter2"}]',
}
RESERVED: dict[str, Any] = {
    "an own value that is a section": {"$value": {"b": VALUE}},
    "an own value in a list": [{"$value": VALUE}],
    "an own value deep in a list": [[{"b": [{"$value": VALUE}]}]],
    "a secret of a list that is text": [{"$secret": VALUE}],
    "a secret that is text": {"$secret": VALUE},
    "a secret without a value": {"$secret": {}},
    "a secret of null": {"$secret": None},
    "a secret with more than a value": {"$secret": {"value": VALUE, "more": VALUE}},
    "a secret with a neighbour": {"$secret": {"value": VALUE}, "b": VALUE},
    "a secret in a secret": {"$secret": {"value": {"$secret": {"value": VALUE}}}},
    "a mask with a neighbour": {"$secret": "masked", "b": VALUE},
    "a stored secret": {"$secret": "v1:aGVsbG8=", "fingerprint": "aGVsbG8="},
}
ROLLBACKS: dict[str, Any] = {
    "0": 0,
    "-1": -1,
    "10**10": 10**10,
    "10**30": 10**30,
    "true": True,
    "text": "1",
    "a fraction": 1.0,
    "null": None,
    "a list": [1],
}


def cases() -> Iterator[BadRequest]:
    yield from _no_json()
    yield from _no_object()
    yield from _other_fields()
    yield from _too_large()
    yield from _too_many()
    yield from _reserved_members()
    yield from _conflicting()
    yield from _rollbacks()
    yield from _other_media_types()


def _no_json() -> Iterator[BadRequest]:
    for what, body in (NO_JSON | INEXACT).items():
        for method, target in (("POST", CONFIG), ("PUT", DOCUMENT)):
            yield sending(f"{what} to {target}", 400, "bad_json", method, target, body)


def _no_object() -> Iterator[BadRequest]:
    for method, target in ROUTES:
        title = f"to {method} {target}"
        yield sending(f"no body {title}", 422, "invalid", method, target, b"")
        yield sending(f"blanks {title}", 400, "bad_json", method, target, b" \n")
        for what, body in NO_OBJECT.items():
            yield sending(f"{what} {title}", 422, "invalid", method, target, body)


def _other_fields() -> Iterator[BadRequest]:
    for (method, target), (good, members) in ROUTES.items():
        to = f"to {method} {target}"
        body = {**good, "colour": VALUE}
        yield sending(f"an unknown field {to}", 422, "invalid", method, target, body)
        for member in sorted(REQUIRED.intersection(good)):
            rest = {name: value for name, value in good.items() if name != member}
            yield sending(f"no {member} {to}", 422, "invalid", method, target, rest)
        for member, types in members.items():
            for found, value in OF_TYPE.items():
                if found not in types.split():
                    title = f"{found} as {member} {to}"
                    wrong = {**good, member: value}
                    yield sending(title, 422, "invalid", method, target, wrong)
    for found, value in OF_TYPE.items():
        if found != "string":
            for member in ("unset", "encrypt"):
                body = {"set": {"a": VALUE}, member: [value]}
                title = f"{found} among keys to {member}"
                yield sending(title, 422, "invalid", "PATCH", CONFIG, body)
            yield sending(f"{found} among keys", 422, "invalid", "POST", BULK, {"keys": [value]})
        yield sending(f"{found} among items", 422, "invalid", "POST", BULK, {"items": [value]})
    for member, length in (("comment", 1001), ("created_by", 201)):
        body = {"config_data": {"a": VALUE}, member: "x" * length}
        yield sending(f"a {member} of {length}", 422, "invalid", "PUT", DOCUMENT, body)


def _too_large() -> Iterator[BadRequest]:
    large = json_bytes({"key": "new", "value": "x" * MIB})[: MIB - 1] + b'"}'
    for method, target in (("POST", CONFIG), ("PUT", DOCUMENT), ("POST", "/api/v1/import")):
        to = f"to {method} {target}"
        yield sending(f"1 MiB + 1 {to}", 413, "too_large", method, target, large)
        chunked = BadRequest(f"1 MiB + 1 in chunks {to}", 413, "too_large", method, target, large)
        yield replace(chunked, chunked=True)
        length = {"Content-Length": str(MIB + 1)}
        declared = f"1 MiB + 1 only declared {to}"
        yield BadRequest(declared, 413, "too_large", method, target, b"", length)
    waits = {"Content-Length": str(MIB + 1), "Expect": "100-continue"}
    yield BadRequest("1 MiB + 1 asked for first", 413, "too_large", "POST", CONFIG, b"", waits)
    vast = {"Content-Length": "9" * 18}
    yield BadRequest("a body without end", 413, "too_large", "PUT", DOCUMENT, b"", vast)
    yield BadRequest("a GET with 1 MiB + 1", 413, "too_large", "GET", CONFIG, b"", waits)
    code = "document_too_large"
    for what, text in {
        "letters": "x" * 800_000,
        "wide letters": "\u4e16" * 270_000,
        "clefs": "\U0001d11e" * 200_000,
    }.items():
        body = {"key": "new", "value": text}
        yield sending(f"800 kB of {what}", 413, code, "POST", CONFIG, body)
        document = {"config_data": {"a": {"b": [text]}}}
        yield sending(f"a document of 800 kB {what}", 413, code, "PUT", DOCUMENT, document)
    secret = {"key": "new", "value": "x" * 700_000, "is_encrypted": True}
    yield sending("a secret too large once sealed", 413, code, "POST", CONFIG, secret)
    more = {"set": {"more": "x" * 300_000}}
    target = f"{CONFIG}?service_name=large"
    yield sending("a change that adds up to too much", 413, code, "PATCH", target, more)


def _too_many() -> Iterator[BadRequest]:
    keys = [f"k{number}" for number in range(MANY)]
    for member in ("unset", "encrypt"):
        body = {"set": {"a": VALUE}, member: keys}
        yield sending(f"10,001 keys to {member}", 422, "invalid", "PATCH", CONFIG, body)
    many: dict[str, Any] = {"keys": keys[:1001], "items": [{"key": key} for key in keys[:1001]]}
    for member, value in many.items():
        yield sending(f"1,001 {member}", 422, "invalid", "POST", BULK, {member: value})


def _reserved_members() -> Iterator[BadRequest]:
    for what, value in RESERVED.items():
        code = "bad_member"
        yield sending(what, 422, code, "POST", CONFIG, {"key": "new", "value": value})
        yield sending(f"{what} put", 422, code, "PUT", KEY, {"value": value})
        yield sending(f"{what} set", 422, code, "PATCH", CONFIG, {"set": {"new": value}})
        document = {"config_data": {"new": value}}
        yield sending(f"{what} in a new one", 422, code, "POST", "/api/configs/new", document)
        yield sending(f"{what} in an old one", 422, code, "PUT", DOCUMENT, document)
        plain = {"value": value, "is_encrypted": False}
        yield sending(f"{what} in plain", 422, code, "PUT", KEY, plain)
        sealed = {"value": value, "is_encrypted": True}
        yield sending(f"{what} to seal", 422, code, "PUT", KEY, sealed)
    mask = {"$secret": "masked"}
    nothing = "nothing_masked"
    yield sending("a mask of nothing", 422, nothing, "POST", CONFIG, {"key": "new", "value": mask})
    yield sending("a mask of what is plain", 422, nothing, "PUT", KEY, {"value": mask})
    whole = {"config_data": mask}
    yield sending("a document that is a secret", 422, "bad_member", "PUT", DOCUMENT, whole)
    moved = {"config_data": {"moved": mask}}
    yield sending("a mask under another key", 422, nothing, "PUT", DOCUMENT, moved)


def _conflicting() -> Iterator[BadRequest]:
    code = "key_conflict"
    for what, members in {
        "a value and its section": {"new": VALUE, "new.b": VALUE},
        "a section and its value": {"new.b.c": VALUE, "new": {"b": VALUE}},
        "a list and its section": {"new": [VALUE], "new.b": VALUE},
        "a secret and its section": {"new": {"$secret": {"value": VALUE}}, "new.b": VALUE},
    }.items():
        yield sending(f"{what} set at once", 409, code, "PATCH", CONFIG, {"set": members})
        document = {"config_data": {"outer": members}}
        yield sending(f"{what} in a document", 409, code, "PUT", DOCUMENT, document)
    on = {"set": {"database.host.name": VALUE}}
    yield sending("a key below a value", 409, code, "PATCH", CONFIG, on)
    over = {"set": {"fine": 1, "database": VALUE}}
    yield sending("a value over a section", 409, code, "PATCH", CONFIG, over)
    below = {"key": "database.host.name", "value": VALUE}
    yield sending("a new key below a value", 409, code, "POST", CONFIG, below)
    above = {"key": "database", "value": VALUE}
    yield sending("a new value over a section", 409, code, "POST", CONFIG, above)
    same = {"key": "database.host", "value": VALUE}
    yield sending("a key that exists", 409, "key_exists", "POST", CONFIG, same)
    target = "/api/configs/orders"
    again = {"config_data": {"a": VALUE}}
    yield sending("a document that exists", 409, "document_exists", "POST", target, again)
    seal = {"set": {"new": VALUE}, "encrypt": ["nowhere"]}
    yield sending("encrypting what is absent", 404, "key_not_found", "PATCH", CONFIG, seal)


def _rollbacks() -> Iterator[BadRequest]:
    for target in (f"{KEY}/rollback", f"{DOCUMENT}/rollback"):
        for what, version in ROLLBACKS.items():
            body = {"version": version, "comment": VALUE}
            yield sending(f"{what} to {target}", 422, "invalid", "POST", target, body)
        ahead = {"version": 2**31 - 1}
        title = f"a version to come to {target}"
        yield sending(title, 404, "version_not_found", "POST", target, ahead)


def _other_media_types() -> Iterator[BadRequest]:
    body = json_bytes({"key": "new", "value": VALUE})
    code = "unsupported_media_type"
    for media in (
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "json",
        "*/*",
    ):
        headers = {"Content-Type": media}
        yield BadRequest(f"JSON as {media}", 415, code, "POST", CONFIG, body, headers)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = b"key=a&value=hunter2"
    yield BadRequest("a form", 415, code, "POST", CONFIG, sent, form)
    page = {**form, "Origin": "http://pilothouse"}
    yield BadRequest("JSON as a form from a page", 415, code, "POST", CONFIG, body, page)
    bare = {"Origin": "http://pilothouse"}
    yield BadRequest("JSON as nothing from a page", 415, code, "POST", CONFIG, body, bare)
