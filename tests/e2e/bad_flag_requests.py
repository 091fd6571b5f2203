"""Requests about flags that must be refused whatever the definition; E is the environment."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.e2e.bad_bodies import INEXACT, NO_JSON, NO_OBJECT, OF_TYPE
from tests.e2e.bad_names import NAMES, NOT_IN_PATHS
from tests.e2e.bad_requests import JSON, MIB, VALUE, BadRequest, in_url, json_bytes, sending
from tests.e2e.flags import EVALUATE, FLAGS, OFREP, SEGMENTS

HERE = "environment=E"
BATCH, USAGE, SET = f"{EVALUATE}/batch", "/api/v1/flag-usage", "/api/v1/flag-set"
IMPORT, EXPORT = f"{FLAGS}/import", f"{FLAGS}/export"
SPARE, STAFF = f"{FLAGS}/spare?{HERE}", f"{SEGMENTS}/staff?{HERE}"
# Every route with a body that is judged as everywhere; OFREP's own are below.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", FLAGS): {"name": "new", "environment": "E"},
    ("PUT", SPARE): {},
    ("PATCH", SPARE): {},
    ("POST", SEGMENTS): {"name": "new", "environment": "E"},
    ("PUT", STAFF): {},
    ("PATCH", STAFF): {},
    ("POST", EVALUATE): {"flag_name": "base", "environment": "E"},
    ("POST", BATCH): {"environment": "E"},
    ("POST", USAGE): {"environment": "E", "evaluations": {}},
    ("POST", f"{IMPORT}?{HERE}&format=flagd"): {"flags": {}},
}
MEMBERS: dict[tuple[str, str], dict[str, str]] = {
    ("POST", EVALUATE): {
        "flag_name": "string",
        "user_id": "string integer null",
        "environment": "string",
        "context": "object",
        "explain": "boolean",
    },
    ("POST", BATCH): {
        "flag_names": "array null",
        "user_id": "string integer null",
        "environment": "string",
        "context": "object",
    },
    ("POST", USAGE): {"environment": "string", "evaluations": "object"},
}
NONE = {"environment": ""}
COUNTS: dict[str, Any] = {
    "a list": [],
    "a count of a flag": {"base": 1},
    "a count below 0": {"base": {"on": -1}},
    "half a count": {"base": {"on": 0.5}},
    "a count as a text": {"base": {"on": "1"}},
    "2**53": {"base": {"on": 2**53}},
    "10,001 flags": {f"f{n}": {} for n in range(10_001)},
    "10,001 variants": {"base": {f"v{n}": 1 for n in range(10_001)}},
}
TAGS = ["1", '"', '"1', '1"', "hunter2", '"1", hunter2', "W/", ","]
METHODS = {
    FLAGS: "DELETE",
    f"{FLAGS}/base": "POST",
    f"{FLAGS}/base/history": "DELETE",
    f"{FLAGS}/base/usage": "POST",
    SEGMENTS: "PUT",
    f"{SEGMENTS}/staff": "POST",
    SET: "POST",
    USAGE: "GET",
    EXPORT: "POST",
}
FILES: dict[str, Any] = {
    "no flags": {},
    "flags as a list": {"flags": []},
    "a flag as a list": {"flags": {"a": []}},
    "a flag of another state": {"flags": {"a": {"state": "ON", "variants": {"on": True}}}},
    "a flag without variants": {"flags": {"a": {"state": "ENABLED", "defaultVariant": "on"}}},
    "mixed variants": {"flags": {"a": {"state": "ENABLED", "variants": {"a": 1, "b": "x"}}}},
    "an unknown word": {
        "flags": {"a": {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"map": []}}}
    },
    "a name that cannot be one": {"flags": {"a b": {"state": "ENABLED", "variants": {"a": 1}}}},
    "what it cannot refer to": {
        "flags": {"a": {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"$ref": "no"}}}
    },
}


def cases() -> Iterator[BadRequest]:
    yield from _no_json()
    yield from _other_members()
    yield from _names()
    yield from _environments()
    yield from _questions()
    yield from _conflicts()
    yield from _tags()
    yield from _methods()
    yield from _too_large()
    yield from _counts()
    yield from _files()


def _no_json() -> Iterator[BadRequest]:
    for what, body in (NO_JSON | INEXACT).items():
        yield sending(f"{what} as a flag", 400, "bad_json", "POST", FLAGS, body)
    for what, body in NO_JSON.items():
        yield sending(f"{what} to evaluate", 400, "bad_json", "POST", EVALUATE, body)
    levels = b'{"when": ' + b'{"not": ' * 1000 + b"null" + b"}" * 1001
    for (method, target), good in BODIES.items():
        to = f"to {method} {target}"
        for what in ("a field twice", "a surrogate in a value", "a NUL in a value", "1e400"):
            yield sending(f"{what} {to}", 400, "bad_json", method, target, NO_JSON[what])
        yield sending(f"1,000 levels {to}", 400, "bad_json", method, target, levels)
        for what, body in NO_OBJECT.items():
            # An import takes lists: of several documents, or what Unleash Edge saves.
            is_list = body.startswith(b"[") and target.startswith(IMPORT)
            code = "flags_not_expressed" if is_list else "invalid"
            yield sending(f"{what} {to}", 422, code, method, target, body)
        yield sending(f"no body {to}", 422, "invalid", method, target, b"")
        for media in ("text/plain", "application/xml", "multipart/form-data; boundary=x"):
            sent, headers = json_bytes(good), {"Content-Type": media}
            code = "unsupported_media_type"
            yield BadRequest(f"{media} {to}", 415, code, method, target, sent, headers)


def _other_members() -> Iterator[BadRequest]:
    for (method, target), members in MEMBERS.items():
        good = BODIES[method, target]
        body = {**good, "colour": VALUE}
        yield sending(f"a colour to {target}", 422, "invalid", method, target, body)
        for member, types in members.items():
            for found, value in OF_TYPE.items():
                if found not in types.split():
                    title = f"{found} as {member} to {target}"
                    wrong = {**good, member: value}
                    yield sending(title, 422, "invalid", method, target, wrong)
    many = {"environment": "E", "flag_names": ["base"] * 10_001}
    yield sending("10,001 flags to evaluate", 422, "invalid", "POST", BATCH, many)
    numbers = {"environment": "E", "flag_names": [1]}
    yield sending("a number among flags to evaluate", 422, "invalid", "POST", BATCH, numbers)


def _names() -> Iterator[BadRequest]:
    for what, name in NAMES.items():
        status, code = (400, "bad_json") if what == "a NUL" else (422, "bad_flag")
        body = {"name": name, "environment": "E"}
        for path in (FLAGS, SEGMENTS):
            yield sending(f"{what} as a new name in {path}", status, code, "POST", path, body)
            if not name or what in NOT_IN_PATHS:
                continue
            target = f"{path}/{in_url(name)}?{HERE}"
            gone = "flag_not_found" if path == FLAGS else "segment_not_found"
            for method in ("GET", "PUT", "PATCH", "DELETE"):
                title = f"{what} to {method} in {path}"
                yield sending(title, 404, gone, method, target, b"" if method == "GET" else {})
    for what in sorted(NOT_IN_PATHS & NAMES.keys()):
        target = f"{FLAGS}/{in_url(NAMES[what])}?{HERE}"
        yield sending(f"{what} in a path", 400, "bad_path", "GET", target, b"")
    other = {"name": "other"}
    yield sending("another name to replace", 422, "bad_flag", "PUT", SPARE, other)
    yield sending("another name to change", 422, "bad_flag", "PATCH", STAFF, other)
    reserved = {"name": "export", "environment": "E"}
    yield sending("the name of the export", 422, "bad_flag", "POST", FLAGS, reserved)


def _environments() -> Iterator[BadRequest]:
    for what in ("empty", "a space", "two dots", "a Cyrillic letter", "a NUL", "64 characters"):
        name = NAMES[what]
        status, code = (400, "bad_json") if what == "a NUL" else (422, "bad_environment")
        for path, body in (
            (FLAGS, {"name": "new"}),
            (SEGMENTS, {"name": "new"}),
            (EVALUATE, {"flag_name": "base"}),
            (BATCH, {}),
            (USAGE, {"evaluations": {"base": {"on": 1}}}),
        ):
            title = f"{what} as the environment of {path}"
            yield sending(title, status, code, "POST", path, {**body, "environment": name})
        if what == "a NUL":
            code = "bad_query"
        query = f"?environment={in_url(name)}"
        for path in (FLAGS, SEGMENTS, SET, f"{FLAGS}/base", f"{FLAGS}/base/history"):
            yield sending(
                f"{what} as environment to GET {path}", status, code, "GET", path + query, b""
            )
        for method in ("PUT", "PATCH", "DELETE"):
            target = f"{FLAGS}/base{query}"
            title = f"{what} as environment to {method}"
            yield sending(title, status, code, method, target, b"" if method == "DELETE" else {})
    two = {"environment": "default"}
    yield sending("two environments", 422, "bad_flag", "PATCH", SPARE, two)
    elsewhere = "?environment=nowhere"
    gone = "flag_not_found"
    yield sending("an unknown environment", 404, gone, "PUT", f"{FLAGS}/base{elsewhere}", {})
    yield sending("deleted elsewhere", 404, gone, "DELETE", f"{FLAGS}/base{elsewhere}", b"")
    base = {"flag_name": "base", "environment": "nowhere"}
    yield sending("evaluated elsewhere", 404, gone, "POST", EVALUATE, base)
    yield sending("no name of an environment", 422, "bad_environment", "PUT", f"{FLAGS}/base", NONE)


def _questions() -> Iterator[BadRequest]:
    for question in (
        "limit=0",
        "limit=1001",
        "limit=x",
        "enabled=maybe",
        "stale_days=-1",
        "stale_days=36501",
        "stale_days=9e9",
        "min_revision=-1",
    ):
        target = f"{FLAGS}?{HERE}&{question}"
        yield sending(f"flags with {question}", 422, "invalid", "GET", target, b"")
    for path in (FLAGS, f"{FLAGS}/base/history", SEGMENTS):
        for what, cursor in {"no cursor": "hunter2", "a list": "W10", "a number": "WzFd"}.items():
            if (what, path) != ("a number", f"{FLAGS}/base/history"):
                target = f"{path}?{HERE}&cursor={cursor}"
                yield sending(
                    f"{what} as a cursor of {path}", 400, "bad_cursor", "GET", target, b""
                )
    comment = f"{FLAGS}/spare?{HERE}&comment={'x' * 1001}"
    yield sending("a comment of 1,001 to delete", 422, "invalid", "DELETE", comment, b"")
    for path in ("gone", "gone/history", "gone/usage"):
        yield sending(f"GET {path}", 404, "flag_not_found", "GET", f"{FLAGS}/{path}?{HERE}", b"")
    for path in ("gone", "gone/history"):
        target = f"{SEGMENTS}/{path}?{HERE}"
        yield sending(f"GET segment {path}", 404, "segment_not_found", "GET", target, b"")


def _conflicts() -> Iterator[BadRequest]:
    code = "flag_exists"
    for path, name in ((FLAGS, "base"), (SEGMENTS, "staff")):
        body = {"name": name, "environment": "E"}
        yield sending(f"{name} that exists", 409, code, "POST", path, body)
    for path in (f"{FLAGS}/base", f"{SEGMENTS}/crew", f"{SEGMENTS}/staff"):
        title = f"what others need: {path}"
        yield sending(title, 409, "flag_in_use", "DELETE", f"{path}?{HERE}", b"")
    fewer = {"variants": {"off": False}, "default_variant": "off", "off_variant": "off"}
    target = f"{FLAGS}/base?{HERE}"
    yield sending("a variant others need", 409, "flag_in_use", "PATCH", target, fewer)
    ring = {"prerequisites": [{"flag": "top", "variants": ["on"]}]}
    yield sending("a circle of flags", 422, "bad_flag", "PATCH", target, ring)
    itself = {"prerequisites": [{"flag": "spare", "variants": ["on"]}]}
    yield sending("a flag that needs itself", 422, "bad_flag", "PATCH", SPARE, itself)


def _tags() -> Iterator[BadRequest]:
    for target in (SPARE, STAFF):
        for tag in ('"7"', '"0"', '"7", "8"', 'W/"1"'):
            stale = {"If-Match": tag}
            for method in ("PUT", "PATCH", "DELETE"):
                title = f"If-Match {tag} to {method} {target}"
                sent = json_bytes({"description": "x"}) if method != "DELETE" else b""
                code = "flag_version_mismatch"
                yield BadRequest(title, 412, code, method, target, sent, {**JSON, **stale})
        for tag in TAGS:
            title = f"If-Match {tag} to {target}"
            headers = {"If-Match": tag}
            yield BadRequest(title, 400, "bad_if_match", "DELETE", target, b"", headers)
    gone = {"If-Match": "*"}
    target = f"{FLAGS}/gone?{HERE}"
    yield BadRequest(
        "If-Match * on nothing", 412, "flag_version_mismatch", "DELETE", target, b"", gone
    )


def _methods() -> Iterator[BadRequest]:
    for path, method in METHODS.items():
        yield sending(f"{method} {path}", 405, "method_not_allowed", method, f"{path}?{HERE}", b"")


def _too_large() -> Iterator[BadRequest]:
    for (method, target), good in BODIES.items():
        if target.startswith(IMPORT):  # has a bound of its own
            continue
        large = json_bytes({**good, "description": "x" * MIB})
        title = f"1 MiB to {method} {target}"
        yield sending(title, 413, "too_large", method, target, large)
        chunked = sending(f"{title} in chunks", 413, "too_large", method, target, large)
        yield replace(chunked, chunked=True)


def _counts() -> Iterator[BadRequest]:
    for what, counts in COUNTS.items():
        body = {"environment": "E", "evaluations": counts}
        yield sending(f"{what} as usage", 422, "invalid", "POST", USAGE, body)


def _files() -> Iterator[BadRequest]:
    target = f"{IMPORT}?{HERE}&format=flagd"
    for what, body in FILES.items():
        yield sending(f"{what} in flagd", 422, "flags_not_expressed", "POST", target, body)
    unleash = f"{IMPORT}?{HERE}&format=unleash"
    for what, body in {"no features": {}, "features as an object": {"features": {}}}.items():
        yield sending(f"{what} of Unleash", 422, "flags_not_expressed", "POST", unleash, body)
    for question in ("", "format=yaml", "format=flagd&dry_run=perhaps"):
        target = f"{IMPORT}?{HERE}&{question}"
        yield sending(f"imported with {question!r}", 422, "invalid", "POST", target, {"flags": {}})
        target = f"{EXPORT}?{HERE}&{question.replace('dry_run', 'leave_out')}"
        yield sending(f"exported with {question!r}", 422, "invalid", "GET", target, b"")


OFREP_CONTEXTS: dict[str, tuple[bytes, str]] = {
    **{
        what: (body, "PARSE_ERROR")
        for what, body in (NO_JSON | NO_OBJECT).items()
        if b"\\ud" not in body and b"\\u0000" not in body and b"\\ude" not in body
    },
    "blanks": (b" ", "PARSE_ERROR"),
    "1,000 levels": (b'{"context": ' + b"[" * 1000 + b"]" * 1000 + b"}", "PARSE_ERROR"),
    **{
        f"{found} as a context": (json.dumps({"context": value}).encode(), "INVALID_CONTEXT")
        for found, value in OF_TYPE.items()
        if found not in {"null", "object"}
    },
    **{
        f"{found} as a key": (
            json.dumps({"context": {"targetingKey": value}}).encode(),
            "INVALID_CONTEXT",
        )
        for found, value in OF_TYPE.items()
        if found not in {"null", "string", "integer"}
    },
}
OFREP_PATHS = (OFREP, f"{OFREP}/base", f"{OFREP}/gone")
