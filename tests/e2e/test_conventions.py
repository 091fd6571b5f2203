"""What holds for every address: tags, revisions, waiting, idempotency, lists, request ids."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of
from tests.servers.answer import Answer
from tests.servers.process import SLACK_SECONDS, wait_until

Write = Callable[[Layer, dict[str, str]], Answer]

WRITES: dict[str, Write] = {
    "PUT of a key": lambda layer, headers: layer.put("a", 2, headers=headers),
    "PATCH": lambda layer, headers: layer.patch(set={"a": 2}, headers=headers),
    "DELETE of a key": lambda layer, headers: layer.delete("a", headers=headers),
    "PUT of a document": lambda layer, headers: layer.put_document({"a": 2}, headers=headers),
    "DELETE of a document": lambda layer, headers: layer.delete_document(headers=headers),
}
READS: dict[str, Callable[[Layer], Answer]] = {
    "a key": lambda layer: layer.get("a"),
    "a key of its layer alone": lambda layer: layer.get("a", resolve=False),
    "a document": lambda layer: layer.document(),
    "an effective configuration": lambda layer: layer.effective(),
    "what a write answered": lambda layer: layer.patch(set={"a": 1}),
}


@pytest.fixture(params=WRITES.values(), ids=list(WRITES))
def write(request: pytest.FixtureRequest) -> Write:
    found: Write = request.param
    return found


@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
def test_a_tag_of_any_read_guards_a_write(
    layer: Layer, read: Callable[[Layer], Answer], write: Write
) -> None:
    layer.create("a", 1)
    tag = read(layer).headers["ETag"]

    answer = write(layer, {"If-Match": tag})

    assert answer.status in {200, 204}


@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
def test_a_write_over_another_version_than_was_read_is_refused(
    layer: Layer, read: Callable[[Layer], Answer], write: Write
) -> None:
    layer.create("a", 1)
    tag = read(layer).headers["ETag"]
    layer.create("b", 1)

    problem = body_of(write(layer, {"If-Match": tag}), 412)

    assert (problem["code"], problem["current_version"]) == ("stale_version", 2)
    assert body_of(layer.document())["config_data"] == {"a": 1, "b": 1}


def test_only_the_addressed_layer_is_compared(layer: Layer, write: Write) -> None:
    base = layer.at(environment="default")
    layer.create("a", 1)
    tag = layer.get("a").headers["ETag"]
    base.create("a", 0)

    assert layer.get("a").headers["ETag"] != tag
    assert write(layer, {"If-Match": tag}).status in {200, 204}


def test_a_star_matches_whatever_exists(layer: Layer, write: Write) -> None:
    layer.create("a", 1)

    assert write(layer, {"If-Match": "*"}).status in {200, 204}


def test_a_star_matches_nothing_that_does_not_exist(layer: Layer) -> None:
    assert layer.patch(set={"a": 1}, headers={"If-Match": "*"}).status == 412
    layer.create_document({})
    layer.delete_document()
    assert layer.patch(set={"a": 1}, headers={"If-Match": "*"}).status == 412


def test_one_of_several_tags_is_enough(layer: Layer) -> None:
    layer.create("a", 1)

    answer = layer.put("a", 2, headers={"If-Match": '"7-abc", "1"'})

    assert body_of(answer)["version"] == 2


@pytest.mark.parametrize("tag", ['W/"1"', '"x"', '"0"'])
def test_weak_and_foreign_tags_match_no_version(layer: Layer, tag: str) -> None:
    layer.create("a", 1)

    assert layer.put("a", 2, headers={"If-Match": tag}).status == 412


def test_a_malformed_tag_is_refused(layer: Layer) -> None:
    layer.create("a", 1)

    assert body_of(layer.put("a", 2, headers={"If-Match": "1"}), 400)["code"] == "bad_if_match"


def test_the_tag_of_a_layer_that_holds_nothing_guards_its_first_write(layer: Layer) -> None:
    layer.at(environment="default").create("a", 1)
    tag = layer.get("a").headers["ETag"]

    first = layer.patch(set={"a": 2}, headers={"If-Match": tag})
    second = layer.patch(set={"a": 3}, headers={"If-Match": tag})

    assert (first.status, second.status) == (200, 412)


def test_the_tag_of_a_deleted_layer_guards_its_next_write(layer: Layer) -> None:
    layer.at(environment="default").create("a", 1)
    layer.create("a", 2)
    layer.delete_document()
    tag = layer.get("a").headers["ETag"]

    answer = layer.patch(set={"a": 3}, headers={"If-Match": tag})

    assert body_of(answer)["version"] == 3


def test_a_rollback_can_be_guarded_too(layer: Layer) -> None:
    layer.create_document({"a": 1})
    layer.put_document({"a": 2})

    assert layer.rollback_document(1, headers={"If-Match": '"1"'}).status == 412
    assert layer.rollback_document(1, headers={"If-Match": '"2"'}).status == 200


TAGGED: dict[str, Callable[..., Answer]] = {
    "a key": lambda layer, **more: layer.get("a", **more),
    "a key of its layer alone": lambda layer, **more: layer.get("a", resolve=False, **more),
    "a document": lambda layer, **more: layer.document(**more),
    "an effective configuration": lambda layer, **more: layer.effective(**more),
}


@pytest.fixture(params=TAGGED.values(), ids=list(TAGGED))
def read_with_tag(request: pytest.FixtureRequest) -> Callable[..., Answer]:
    found: Callable[..., Answer] = request.param
    return found


def test_what_the_client_knows_is_not_sent_again(
    layer: Layer, read_with_tag: Callable[..., Answer]
) -> None:
    layer.create("a", 1)
    tag = read_with_tag(layer).headers["ETag"]

    known = read_with_tag(layer, headers={"If-None-Match": tag})
    weakly = read_with_tag(layer, headers={"If-None-Match": f'"x", W/{tag}'})
    layer.create("b", 2)
    changed = read_with_tag(layer, headers={"If-None-Match": tag})

    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", tag)
    assert int(known.headers["X-Revision"]) > 0
    assert weakly.status == 304
    assert changed.status == 200
    assert changed.headers["ETag"] != tag


def test_an_exported_file_is_not_sent_again(layer: Layer) -> None:
    layer.create("a", 1)
    tag = layer.export().headers["ETag"]

    answer = layer.export(headers={"If-None-Match": tag})

    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)


def test_every_write_tells_its_revision_and_every_read_reaches_it(layer: Layer) -> None:
    revision = int(layer.create("a", 1).headers["X-Revision"])
    later = int(layer.put("a", 2).headers["X-Revision"])
    reads = [
        layer.get("a", min_revision=later),
        layer.get("a", min_revision=later, resolve=False),
        layer.get("a", min_revision=later, version=1),
        layer.get("a", min_revision=later, reveal=True),
        layer.keys(min_revision=later),
        layer.history("a", min_revision=later),
        layer.effective(min_revision=later),
        layer.effective(min_revision=later, reveal=True),
        layer.document(min_revision=later),
        layer.document(min_revision=later, version=1),
        layer.document_history(min_revision=later),
        layer.of.get("/api/configs", min_revision=later),
        layer.of.get("/api/v1/changes", min_revision=later),
        layer.of.get("/api/v1/export", min_revision=later, **layer.names),
    ]

    assert later > revision
    assert [answer.status for answer in reads] == [200] * len(reads)
    assert all(int(answer.headers["X-Revision"]) >= later for answer in reads)


def test_rather_than_something_older_nothing_is_answered(service: Service) -> None:
    started = monotonic()

    answer = service.get("/api/v1/effective", min_revision=2**40)

    problem = body_of(answer, 503)
    assert problem["code"] == "revision_not_reached"
    assert problem["wanted"] == 2**40
    assert int(answer.headers["Retry-After"]) >= 1
    assert 1.5 < monotonic() - started < 2 + SLACK_SECONDS


def is_request_held(service: Service) -> bool:
    """Tell whether another request than the one that asks is being answered."""
    return service.metric("pilothouse_http_requests_in_progress") >= 2


def test_a_waiting_read_is_answered_soon_after_the_change(
    layer: Layer, read_with_tag: Callable[..., Answer]
) -> None:
    layer.create("a", 1)
    tag = read_with_tag(layer).headers["ETag"]
    headers = {"If-None-Match": tag, "Prefer": "wait=9"}

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read_with_tag, layer, headers=headers)
        wait_until(lambda: is_request_held(layer.of), "the read is held")
        written = layer.put("a", 2)
        started = monotonic()
        answer = waiting.result(9)

    assert answer.status == 200
    assert answer.headers["ETag"] != tag
    assert int(answer.headers["X-Revision"]) >= int(written.headers["X-Revision"]) - 1
    assert monotonic() - started < SLACK_SECONDS


def test_a_change_of_a_lower_layer_ends_the_wait_too(layer: Layer) -> None:
    layer.create("a", 1)
    tag = layer.effective().headers["ETag"]
    headers = {"If-None-Match": tag, "Prefer": "wait=9"}

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(layer.effective, headers=headers)
        wait_until(lambda: is_request_held(layer.of), "the read is held")
        layer.of.layer().create("elsewhere", 1)
        layer.at(environment="default").create("b", 2)

        found = body_of(waiting.result(9))

    assert (found["data"]["a"], found["data"]["b"]) == (1, 2)


def test_a_wait_in_vain_ends_with_what_the_client_knows(
    layer: Layer, read_with_tag: Callable[..., Answer]
) -> None:
    layer.create("a", 1)
    tag = read_with_tag(layer).headers["ETag"]
    started = monotonic()

    answer = read_with_tag(layer, headers={"If-None-Match": tag, "Prefer": "wait=1"})

    assert (answer.status, answer.headers["ETag"]) == (304, tag)
    assert 0.9 < monotonic() - started < 1 + SLACK_SECONDS


def test_a_wait_for_what_has_changed_already_is_none(layer: Layer) -> None:
    layer.create("a", 1)
    tag = layer.get("a").headers["ETag"]
    layer.put("a", 2)

    answer = layer.get("a", headers={"If-None-Match": tag, "Prefer": "wait=9"})

    assert body_of(answer)["value"] == 2


REPEATABLE: dict[str, Callable[[Layer, Any, dict[str, str]], Answer]] = {
    "a key created": lambda layer, value, headers: layer.create("k", value, headers=headers),
    "a document created": lambda layer, value, headers: layer.create_document(
        {"k": value}, headers=headers
    ),
    "a key rolled back": lambda layer, value, headers: layer.rollback(
        "a", 1, comment=str(value), headers=headers
    ),
    "a document rolled back": lambda layer, value, headers: layer.rollback_document(
        1, comment=str(value), headers=headers
    ),
    "a file imported": lambda layer, value, headers: layer.load(f"k: {value}", headers=headers),
}


@pytest.fixture(params=list(REPEATABLE))
def repeatable(
    request: pytest.FixtureRequest, layer: Layer
) -> Callable[[Any, dict[str, str]], Answer]:
    """Return a POST for this layer; its document exists unless the POST is to create it."""
    if request.param != "a document created":
        layer.create("a", 0)
        layer.put("a", 1)
    post = REPEATABLE[request.param]
    return lambda value, headers: post(layer, value, headers)


def test_the_same_key_gets_the_same_answer_again(
    layer: Layer, repeatable: Callable[[Any, dict[str, str]], Answer]
) -> None:
    key = {"Idempotency-Key": f"first of {layer.service}"}

    answers = [repeatable(1, key) for _ in range(3)]

    assert answers[0].status in {200, 201}
    assert {answer.status for answer in answers} == {answers[0].status}
    assert [answer.json() for answer in answers] == [answers[0].json()] * 3
    for header in ("ETag", "Location", "X-Revision"):
        assert len({answer.headers[header] for answer in answers}) == 1
    assert len([each for each in layer.changes() if each["version"] > 2]) <= 1


def test_the_same_key_is_remembered_when_others_have_written_since(
    layer: Layer, repeatable: Callable[[Any, dict[str, str]], Answer]
) -> None:
    key = {"Idempotency-Key": f"first of {layer.service}"}
    first = repeatable(1, key)
    layer.patch(set={"k": 2, "a": 3, "more": 4})
    before = len(layer.changes())

    again = repeatable(1, key)

    assert again.status == first.status
    assert again.json() == first.json()
    assert len(layer.changes()) == before


def test_the_same_key_with_another_body_is_refused(
    layer: Layer, repeatable: Callable[[Any, dict[str, str]], Answer]
) -> None:
    key = {"Idempotency-Key": f"first of {layer.service}"}
    repeatable(1, key)
    before = len(layer.changes())

    problem = body_of(repeatable(2, key), 422)

    assert problem["code"] == "idempotency_key_reused"
    assert len(layer.changes()) == before


def test_another_key_is_another_request(layer: Layer) -> None:
    layer.create_document({})

    versions = [
        body_of(layer.rollback_document(1, headers={"Idempotency-Key": f"{layer.service}{number}"}))
        for number in range(3)
    ]

    assert [answer["version"] for answer in versions] == [2, 3, 4]


def test_a_key_is_bound_to_its_address(layer: Layer) -> None:
    headers = {"Idempotency-Key": f"of {layer.service}"}
    layer.create("a", 0, headers=headers)

    answer = layer.of.layer().create_document({}, headers=headers)

    assert answer.status == 201


def test_requests_at_once_under_one_key_are_one_write(layer: Layer) -> None:
    headers = {"Idempotency-Key": f"race of {layer.service}"}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: layer.create("a", 1, headers=headers), range(8)))

    assert {answer.status for answer in answers} == {201}
    assert len({answer.headers["X-Revision"] for answer in answers}) == 1
    assert len(layer.changes()) == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_what_is_no_idempotency_key_is_refused(layer: Layer, key: str) -> None:
    problem = body_of(layer.create("a", 1, headers={"Idempotency-Key": key}), 400)

    assert problem["code"] == "bad_idempotency_key"
    assert layer.changes() == []


def test_a_list_is_followed_by_its_cursor(layer: Layer) -> None:
    layer.patch(set={f"k{number:02}": number for number in range(25)})
    found, cursor = [], None

    while True:
        page = body_of(layer.keys(limit=10, cursor=cursor, resolve=False))
        assert set(page) == {"items", "next"}
        found.append([item["value"] for item in page["items"]])
        cursor = page["next"]
        if cursor is None:
            break

    assert found == [list(range(10)), list(range(10, 20)), list(range(20, 25))]


LISTS = [
    "/api/v1/config",
    "/api/configs",
    "/api/v1/changes",
    "/api/v1/schemas",
    "/api/v1/violations",
]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1.5"])
def test_a_page_of_another_size_is_refused(service: Service, path: str, limit: str) -> None:
    problem = body_of(service.get(path, limit=limit), 422)

    assert problem["errors"][0]["parameter"] == "limit"


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_nobody_gave_out_is_refused(service: Service, path: str) -> None:
    assert body_of(service.get(path, cursor="abc"), 400)["code"] == "bad_cursor"


def test_a_slash_at_the_end_changes_nothing(service: Service, layer: Layer) -> None:
    body = {"key": "a", "value": 1, **layer.names}

    created = service.call("POST", "/api/v1/config/", body)
    patched = service.call("PATCH", "/api/v1/config/", {"set": {"a": 2}}, **layer.names)
    read = service.get("/api/v1/config/a/", **layer.names)
    document = service.get(f"/api/configs/{layer.service}/", environment=layer.environment)

    assert (created.status, patched.status, read.status, document.status) == (201, 200, 200, 200)
    assert body_of(read)["value"] == 2


def test_every_answer_has_a_request_id(service: Service) -> None:
    answers = [
        service.get("/live"),
        service.get("/api/v1/config/missing"),
        service.get("/nowhere"),
        service.call("DELETE", "/api/v1/config"),
        service.call("POST", "/api/v1/config", {}),
    ]

    ids = [answer.headers["X-Request-Id"] for answer in answers]

    assert len(set(ids)) == len(ids)
    assert [answer.json()["request_id"] for answer in answers[1:]] == ids[1:]


def test_a_request_id_is_taken_over(layer: Layer) -> None:
    answer = layer.create("a", 1, headers={"X-Request-Id": "mine-1.2_3"})

    assert answer.headers["X-Request-Id"] == "mine-1.2_3"
    assert layer.get("b", headers={"X-Request-Id": "no such id!"}).headers["X-Request-Id"] != (
        "no such id!"
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/api/v1/config", 405),
        ("GET", "/api/v1/config/missing", 404),
        ("POST", "/api/v1/config", 422),
        ("GET", "/api/v1/config?keys=%0A", 422),
    ],
)
def test_every_failure_is_a_problem_document(
    service: Service, method: str, path: str, status: int
) -> None:
    answer = service.call(method, path, {} if method == "POST" else None)

    problem = body_of(answer, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert {"type", "title", "detail", "code", "request_id"} <= set(problem)
    assert "Traceback" not in json.dumps(problem)
