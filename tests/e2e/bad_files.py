"""Files that an import refuses, in each format."""

from collections.abc import Iterator

from tests.e2e.bad_requests import BadRequest, in_url

DEEP = 65
BOMB = """
a: &a [hunter2, hunter2, hunter2, hunter2, hunter2, hunter2, hunter2, hunter2, hunter2, hunter2]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]
f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]
"""
YAML = {
    "no YAML": "a: [hunter2",
    "a tab": "a:\n\tb: hunter2",
    "a key twice": "a: hunter2\na: hunter2",
    "a list as a document": "- hunter2",
    "a scalar as a document": "hunter2",
    "a second document that is none": "a: hunter2\n---\n- hunter2",
    "a Python object": "a: !!python/object/apply:os.system [hunter2]",
    "a Python name": "a: !!python/name:os.system hunter2",
    "a tag of its own": "a: !vault hunter2",
    "binary": "a: !!binary aHVudGVyMg==",
    "a timestamp by tag": "a: !!timestamp 2020-01-01",
    "a set": "a: !!set {hunter2}",
    "a tag directive": "%TAG ! tag:hunter2,2000:\n---\na: hunter2",
    "not a number": "a: .nan",
    "infinity": "a: -.inf",
    "beyond every double": "a: !!float 1.0e+400",
    "an integer of 5,000 digits": "a: " + "7" * 5000,
    "an alias of nothing": "a: *hunter2",
    "an alias of itself": "a: &a\n  b: *a",
    "a merge of a list": "a:\n  <<: [hunter2]",
    "a key that is a mapping": "? {a: hunter2}\n: 1",
    "65 levels": "a: " + "[" * DEEP + "]" * DEEP,
    "65 levels by aliases": "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 30 + "*a" + "]" * 30,
    "50,000 levels": "a: " + "[" * 50_000,
    "a NUL by escape": 'a: "hunter2\\0"',
    "a surrogate by escape": 'a: "hunter2\\ud800"',
    "a control character": "a: hunter2\x01",
    "a profile without a name": "spring.config.activate.on-profile: ''\nc: hunter2",
    "a profile that is no text": "spring.config.activate.on-profile: no\nc: hunter2",
}
OTHERS = {
    "json": {
        "no JSON": '{"a": hunter2}',
        "nothing": "",
        "an array": '["hunter2"]',
        "a string": '"hunter2"',
        "a member twice": '{"a": "hunter2", "a": 1}',
        "NaN": '{"a": NaN}',
        "1e400": '{"a": 1e400}',
        "an integer of 5,000 digits": '{"a": ' + "7" * 5000 + "}",
        "a NUL by escape": '{"a": "hunter2\\u0000"}',
        "a surrogate by escape": '{"a\\ud800": "hunter2"}',
        "65 levels": '{"a": ' + "[" * 64 + "]" * 64 + "}",
    },
    "properties": {
        "a key twice": "a=hunter2\na=hunter2",
        "half an escape": "a=hunter2\\u12",
        "a NUL by escape": "a=hunter2\\u0000",
        "a surrogate by escape": "a=hunter2\\ud800",
        "a list with a gap": "a[0]=hunter2\na[2]=hunter2",
        "a list that starts late": "a[999999]=hunter2",
        "an index of 5,000 digits": "a[" + "7" * 5000 + "]=hunter2",
        "a broken index": "a[0=hunter2\na[0]b=hunter2",
        "65 levels": "a" + "[0]" * DEEP + "=hunter2",
        "a list and a member": "a[0]=hunter2\na[0].b=hunter2",
    },
    "dotenv": {
        "no assignment": "hunter2",
        "an open quote": 'A="hunter2',
        "something after a quote": "A='hunter2' hunter2",
        "a name twice": "A=hunter2\nA=hunter2",
        "a space before the sign": "A B=hunter2",
    },
}
OUTSIDE_THE_GRAMMAR = {
    "yaml": 'a:\n  "b\\tc": hunter2',
    "json": '{"a": {"b\\u0007c": "hunter2"}}',
    "properties": "a.b\\tc=hunter2",
    "dotenv": f"{'A' * 257}=hunter2",
}
RESERVED = {
    "yaml": "a: {$secret: hunter2}",
    "json": '{"a": [{"$value": "hunter2"}]}',
    "properties": "a[0].$value=hunter2",
}


def cases() -> Iterator[BadRequest]:
    yield _file("too many aliases", 413, "file_too_complex", "yaml", BOMB)
    repeated = "a: &a " + "hunter2" * 5000 + "\nb: [" + "*a," * 200 + "*a]"
    yield _file("one long text repeated", 413, "file_too_complex", "yaml", repeated)
    merges = "a0: &a0 {b: hunter2}\n" + "".join(
        f"a{number}: &a{number} {{x: *a{number - 1}, y: *a{number - 1}}}\n"
        for number in range(1, 40)
    )
    yield _file("aliases that double", 413, "file_too_complex", "yaml", merges)
    for form, files in {"yaml": YAML, **OTHERS}.items():
        for what, text in files.items():
            yield _file(what, 422, "bad_file", form, text)
    for form, text in OUTSIDE_THE_GRAMMAR.items():
        yield _file("a key outside the grammar", 422, "bad_key", form, text)
    for form, text in RESERVED.items():
        yield _file("a member that is kept", 422, "bad_member", form, text)
    profile = "a: hunter2\n---\nspring.config.activate.on-profile: ../a\nb: hunter2"
    yield _file("a profile that is no name", 422, "bad_name", "yaml", profile)
    masked = '{"new": {"$secret": "masked"}}'
    yield _file("a mask of nothing", 422, "nothing_masked", "json", masked)
    for form in ("yaml", "json", "properties", "dotenv"):
        for what, sent in {
            "Latin-1": "a=hunter2ä".encode("latin-1"),
            "UTF-16": "a=hunter2".encode("utf-16"),
            "a surrogate in UTF-8": b"a=hunter2\xed\xa0\x80",
            "a raw NUL": b"a=hunter2\x00",
        }.items():
            target = f"/api/v1/import?format={form}&service_name=new"
            if form == "properties":  # which are ISO-8859-1 otherwise, as Java writes them
                target += "&charset=utf-8"
            yield BadRequest(f"{what} as {form}", 400, "bad_text", "POST", target, sent)
    for form in ("xml", "YAML", "", "hunter2"):
        target = f"/api/v1/import?format={form}"
        yield BadRequest(f"the format {form!r}", 422, "invalid", "POST", target, b"a: 1")
    remark = f"/api/v1/import?comment={'x' * 1001}"
    yield BadRequest("an import's comment of 1001", 422, "invalid", "POST", remark, b"a: 1")
    perhaps = "/api/v1/import?dry_run=hunter2"
    yield BadRequest("perhaps a dry run", 422, "invalid", "POST", perhaps, b"a: 1")


def _file(what: str, status: int, code: str, form: str, text: str) -> BadRequest:
    target = f"/api/v1/import?format={in_url(form)}&service_name=new"
    return BadRequest(f"{what} in {form}", status, code, "POST", target, text.encode())
