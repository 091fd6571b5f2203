"""Schemas, rules and validations that no schema, rule or validation can be."""

from collections.abc import Iterator
from typing import Any

from tests.e2e.bad_requests import VALUE, BadRequest, sending

SCHEMAS, VALIDATE, VIOLATIONS = "/api/v1/schemas", "/api/v1/validate", "/api/v1/violations"
SCHEMA = f"{SCHEMAS}/orders"
RULE = {"id": "a", "rule": "true"}
NESTED: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
# Every route with a body: what it is sent when nothing is wrong, and wrong types of its members.
TYPES: dict[tuple[str, str], tuple[dict[str, Any], dict[str, list[Any]]]] = {
    ("PUT", SCHEMA): (
        {"schema": {}},
        {
            "schema": [None, 1, VALUE, [VALUE]],
            "mode": [None, 1, VALUE, ["warn"]],
            "plain_secret": [None, True, VALUE],
            "applies_to": [1, VALUE, {"services": ["a"]}, [], [{}] * 21, [None], [VALUE]],
            "description": [None, 1, VALUE * 1000],
            "comment": [None, 1, VALUE * 1000],
        },
    ),
    ("POST", f"{SCHEMA}/rollback"): (
        {"version": 1},
        {"version": [None, 0, -1, True, 1.5, "1", 2**31, VALUE], "comment": [None, 1]},
    ),
    ("POST", f"{SCHEMAS}/import"): (
        {"schemas": {}},
        {
            "schemas": [None, 1, VALUE, [VALUE], {"a": VALUE}, {"a": {}}, {"a": {"schema": 1}}],
            "format": [None, VALUE],
            "comment": [None, 1],
        },
    ),
    ("POST", VALIDATE): (
        {"changes": [{}]},
        {
            "changes": [
                *(None, 1, VALUE, {}, [], [{}] * 101, [None], [VALUE]),
                *([{"set": VALUE}], [{"set": [VALUE]}], [{"unset": VALUE}], [{"unset": [1]}]),
                *([{"environment": None}], [{"service_name": 1}], [{"user": True}]),
            ],
        },
    ),
}
APPLICATIONS: dict[str, dict[str, Any]] = {
    "no environment": {"environments": []},
    "no service": {"services": []},
    "a pattern with a blank": {"environments": ["a b"]},
    "a pattern of a class": {"services": ["[ab]"]},
    "a pattern of 64 characters": {"services": ["x" * 64]},
    "a pattern with an umlaut": {"services": ["bücher"]},
    "an empty pattern": {"services": [""]},
    "101 patterns": {"services": ["a"] * 101},
    "a key with brackets": {"at": "[a.b]"},
    "an item of a list": {"at": "a[0]"},
    "a key of 513 characters": {"at": "a" * 513},
    "a misspelt member": {"service": ["a"]},
}
BAD_SCHEMAS: dict[str, Any] = {
    "a type that is none": {"properties": {"a": {"type": VALUE}}},
    "a limit that is a text": {"properties": {"a": {"minimum": VALUE}}},
    "an open pattern": {"properties": {"a": {"pattern": f"({VALUE}"}}},
    "look-around": {"properties": {"a": {"pattern": f"(?={VALUE})"}}},
    "a pattern that explodes": {"pattern": "((a{1,500}){1,500}){1,500}"},
    "a reference to a server": {"$ref": f"http://127.0.0.1:1/{VALUE}"},
    "a reference to a file": {"$ref": "file:///etc/passwd"},
    "a reference to nothing": {"$ref": "#/$defs/none"},
    "itself": {"$ref": "#"},
    "another draft": {"$schema": "http://json-schema.org/draft-04/schema#"},
    "no draft": {"$schema": VALUE},
    "256 KiB": {"description": "x" * 262_144},
    "5,001 objects": {"anyOf": [{}] * 5001},
    "33 levels": {"enum": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    "a secret below not": {"not": {"properties": {"a": {"secret": True}}}},
    "a secret that is a text": {"properties": {"a": {"secret": "yes"}}},
    "a default at a secret": {"properties": {"a": {"writeOnly": True, "default": VALUE}}},
    "rules below the root": {"properties": {"a": {"x-rules": [RULE]}}},
}
BAD_RULES: dict[str, Any] = {
    "no list": VALUE,
    "51 of them": [{"id": str(number), "rule": "true"} for number in range(51)],
    "no object": [VALUE],
    "no id": [{"rule": "true"}],
    "one id twice": [RULE, RULE],
    "an unknown member": [{**RULE, "text": VALUE}],
    "1,001 characters": [{**RULE, "rule": "t" * 1001}],
    "no expression": [{**RULE, "rule": ""}],
    "half an expression": [{**RULE, "rule": "config.a >"}],
    "an unknown name": [{**RULE, "rule": "configuration.a > 1"}],
    "an unknown function": [{**RULE, "rule": "config.a.shout()"}],
}
BAD_NAMES = ("for", "export", "import", "x" * 64, "a%20b", "b%C3%BCcher", "-a", "*")


def cases() -> Iterator[BadRequest]:
    for (method, target), (good, members) in TYPES.items():
        for member, values in members.items():
            for number, value in enumerate(values):
                body = {**good, member: value}
                title = f"{method} {target}: {member} {number}"
                yield sending(title, 422, "invalid", method, target, body)
        body = {**good, "colour": VALUE}
        yield sending(f"{target}: unknown", 422, "invalid", method, target, body)
        yield sending(f"{target}: empty", 422, "invalid", method, target, {})
        yield sending(f"{target}: no JSON", 400, "bad_json", method, target, b"{" + VALUE.encode())
        deep = b'{"schema":' + b'{"not":' * 999 + b"{}" + b"}" * 1000
        yield sending(f"{target}: deep", 400, "bad_json", method, target, deep)
    yield from _bad_schemas()
    yield from _bad_names()
    yield from _bad_changes()


def _bad_schemas() -> Iterator[BadRequest]:
    for title, application in APPLICATIONS.items():
        body: dict[str, Any] = {"schema": {}, "applies_to": [application]}
        is_shape = title in {
            *("no environment", "no service", "101 patterns"),
            *("a key of 513 characters", "a misspelt member"),
        }
        code = "invalid" if is_shape else "bad_schema"
        yield sending(f"applies_to: {title}", 422, code, "PUT", SCHEMA, body)
    for title, schema in BAD_SCHEMAS.items():
        yield sending(f"schema: {title}", 422, "bad_schema", "PUT", SCHEMA, {"schema": schema})
    for title, rules in BAD_RULES.items():
        body = {"schema": {"x-rules": rules}}
        yield sending(f"rules: {title}", 422, "bad_rule", "PUT", SCHEMA, body)
        yield sending(f"dry: {title}", 422, "bad_rule", "PUT", f"{SCHEMA}?dry_run=true", body)
    yield sending("a bare schema", 422, "invalid", "PUT", SCHEMA, NESTED)


def _bad_names() -> Iterator[BadRequest]:
    for name in BAD_NAMES:
        target = f"{SCHEMAS}/{name}"
        yield sending(f"schema {name[:9]}", 422, "bad_schema_name", "PUT", target, {"schema": {}})
        yield BadRequest(f"no {name[:9]}", 404, "schema_not_found", "DELETE", target)
        yield BadRequest(f"{name[:9]} was", 404, "schema_not_found", "GET", f"{target}/history")
    missing = "schema_version_not_found"
    yield sending("no version", 404, missing, "POST", f"{SCHEMA}/rollback", {"version": 1})
    yield BadRequest("no schema", 404, "schema_not_found", "GET", SCHEMA)
    yield BadRequest("no diff", 404, "schema_not_found", "GET", f"{SCHEMA}/diff")
    yield BadRequest("version 0", 422, "invalid", "GET", f"{SCHEMA}?version=0")
    for parameter in ("environment", "service_name"):
        for target in (f"{SCHEMAS}/for", VIOLATIONS):
            query = f"{target}?{parameter}=a%20b"
            yield BadRequest(f"{target} of {parameter}", 422, "bad_filter", "GET", query)
    yield BadRequest("violations of", 422, "bad_filter", "GET", f"{VIOLATIONS}?schema=%2A")
    for target in (SCHEMAS, VIOLATIONS):
        yield BadRequest(f"{target} cursor", 400, "bad_cursor", "GET", f"{target}?cursor={VALUE}")
        yield BadRequest(f"{target} limit", 422, "invalid", "GET", f"{target}?limit=0")
    tagged: dict[str, Any] = {"schema": {}}
    yield sending("no tag", 400, "bad_if_match", "PUT", SCHEMA, tagged, If_Match=VALUE)
    yield sending("no such tag", 412, "stale_schema", "PUT", SCHEMA, tagged, If_Match='"7"')


def _bad_changes() -> Iterator[BadRequest]:
    changes: dict[str, tuple[int, str, list[dict[str, Any]]]] = {
        "a name with a blank": (422, "bad_name", [{"environment": "a b"}]),
        "one layer twice": (422, "document_twice", [{"set": {"a": 1}}, {"unset": ["b"]}]),
        "a key in a key": (409, "key_conflict", [{"set": {"a": 1, "a.b": VALUE}}]),
        "half a secret": (422, "bad_member", [{"set": {"a": {"$secret": VALUE}}}]),
        "a mask": (422, "nothing_masked", [{"set": {"a": {"$secret": "masked"}}}]),
    }
    for title, (status, code, listed) in changes.items():
        yield sending(f"validate: {title}", status, code, "POST", VALIDATE, {"changes": listed})
