"""Many clients at once: nothing is lost, no version has two winners, every answer is true."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import TypeVar

import pytest

from tests.e2e.client import Layer, Service, body_of
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

WRITERS = 50
T = TypeVar("T")


def at_once(
    layers: Sequence[Layer], do: Callable[[Layer, int], T], times: int = WRITERS
) -> list[T]:
    """Do it so many times at the same time, through each replica in turn."""
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(do, islice(cycle(layers), times), range(times)))


@pytest.fixture(scope="module")
def replica(real: Service) -> Iterator[Service]:
    """A second process on the same Vault and the same database."""
    with ServiceProcess(real.settings) as process:
        yield Service(process, real.backend, real.settings)


def seen_through(layer: Layer, service: Service) -> Layer:
    return Layer(service, layer.environment, layer.service)


@pytest.fixture
def twice(real: Service, replica: Service) -> list[Layer]:
    """One layer, seen through two replicas."""
    for service in (real, replica):
        service.wait_until_ready()
    layer = real.layer()
    return [layer, seen_through(layer, replica)]


@pytest.fixture(
    params=[
        pytest.param("service_embedded", id="embedded"),
        *(pytest.param(name, marks=pytest.mark.servers) for name in ("real", "twice")),
    ]
)
def layers(request: pytest.FixtureRequest) -> list[Layer]:
    found = request.getfixturevalue(request.param)
    return [found.layer()] if request.param != "twice" else list(found)


def until_written(write: Callable[[], Answer]) -> Answer:
    """Ask again as long as the answer is that nothing was written: too many others were."""
    answer = write()
    while answer.status in {409, 503}:
        answer = write()
    return answer


def test_fifty_writers_of_one_document_lose_nothing(layers: list[Layer]) -> None:
    layer = layers[0]
    layer.create("start", 0)

    answers = at_once(layers, lambda each, n: until_written(lambda: each.patch(set={f"k{n}": n})))

    written = [body_of(answer) for answer in answers]
    assert all(each["changed"] for each in written)
    assert sorted(each["version"] for each in written) == list(range(2, WRITERS + 2))
    revisions = {
        each["version"]: int(answer.headers["X-Revision"])
        for each, answer in zip(written, answers, strict=True)
    }
    found = body_of(layer.document(min_revision=max(revisions.values())))
    assert found["version"] == WRITERS + 1
    assert found["config_data"] == {"start": 0} | {f"k{n}": n for n in range(WRITERS)}
    changes = layer.changes()
    assert [each["version"] for each in changes] == list(range(1, WRITERS + 2))
    assert {each["action"] for each in changes[1:]} == {"updated"}
    assert {each["version"]: each["revision"] for each in changes[1:]} == revisions


def test_each_version_holds_exactly_what_its_writer_was_told(layers: list[Layer]) -> None:
    layer = layers[0]
    layer.create("start", 0)

    answers = at_once(
        layers, lambda each, n: until_written(lambda: each.patch(set={f"k{n}": n})), 12
    )

    newest = max(int(answer.headers["X-Revision"]) for answer in answers)
    body_of(layer.document(min_revision=newest))
    for n, answer in enumerate(answers):
        version = body_of(answer)["version"]
        assert body_of(layer.diff(version - 1, version))["added"] == {f"k{n}": n}


def test_of_fifty_writers_with_the_same_tag_one_wins(layers: list[Layer]) -> None:
    layer = layers[0]
    tag = layer.create("a", -1).headers["ETag"]

    answers = at_once(layers, lambda each, n: each.put("a", n, headers={"If-Match": tag}))

    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 404, 412, 503}
    winner = statuses.index(200)
    revision = answers[winner].headers["X-Revision"]
    assert body_of(layer.get("a", min_revision=revision))["value"] == winner
    assert len(layer.changes()) == 2


def test_of_fifty_creators_of_one_key_one_wins(layers: list[Layer]) -> None:
    layer = layers[0]

    answers = at_once(layers, lambda each, n: each.create("a", n))

    statuses = [answer.status for answer in answers]
    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 409, 503}
    assert len(layer.changes()) == 1
    assert body_of(layer.get("a"))["value"] == statuses.index(201)


def test_a_counter_that_everybody_reads_and_writes_loses_no_count(layers: list[Layer]) -> None:
    layers[0].create("count", 0)

    def count(layer: Layer, _: int) -> int:
        """Add one five times, each time until the tag still was the newest; tell the revision."""
        revision = 0
        for _ in range(5):
            while True:
                seen = layer.get("count", resolve=False)
                if seen.status != 200:  # this replica has not heard of it yet
                    continue
                tag = {"If-Match": seen.headers["ETag"]}
                answer = layer.put("count", body_of(seen)["value"] + 1, headers=tag)
                assert answer.status in {200, 412, 503}
                if answer.status == 200:
                    revision = int(answer.headers["X-Revision"])
                    break
        return revision

    newest = max(at_once(layers, count, 8))

    assert body_of(layers[0].get("count", min_revision=newest))["value"] == 40


def test_a_reader_never_sees_half_a_write_nor_goes_back(layers: list[Layer]) -> None:
    layer = layers[0]
    layer.patch(set={"a": 0, "b": {"c": 0}})

    def act(each: Layer, number: int) -> list[tuple[int, int]]:
        if number == 0:
            for value in range(1, 31):
                body_of(each.patch(set={"a": value, "b.c": value}))
            return []
        found = [body_of(layer.effective())["data"] for _ in range(30)]
        return [(data["a"], data["b"]["c"]) for data in found]

    readers = at_once([layer], act, 6)

    assert all(a == c for seen in readers for a, c in seen)
    assert all(seen == sorted(seen) for seen in readers)


def test_documents_do_not_wait_for_each_other(service: Service) -> None:
    layers = [service.layer() for _ in range(WRITERS)]

    answers = at_once(layers, lambda each, n: each.create("a", n))

    assert {answer.status for answer in answers} == {201}
    assert [body_of(layer.get("a"))["value"] for layer in layers] == list(range(WRITERS))


def test_what_one_replica_wrote_the_other_reads_when_asked_to(twice: list[Layer]) -> None:
    here, there = twice

    for value in range(10):
        revision = here.patch(set={"a": value}).headers["X-Revision"]
        found = there.get("a", min_revision=revision)
        assert body_of(found)["value"] == value
        assert int(found.headers["X-Revision"]) >= int(revision)


def test_a_wait_at_one_replica_ends_with_a_write_at_the_other(twice: list[Layer]) -> None:
    here, there = twice
    revision = here.create("a", 1).headers["X-Revision"]
    tag = there.effective(min_revision=revision).headers["ETag"]
    headers = {"If-None-Match": tag, "Prefer": "wait=9"}

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(there.effective, headers=headers)
        here.put("a", 2)
        answer = waiting.result(9)

    assert body_of(answer)["data"]["a"] == 2


def test_one_idempotency_key_at_two_replicas_is_one_write(twice: list[Layer]) -> None:
    headers = {"Idempotency-Key": f"both of {twice[0].service}"}

    answers = at_once(twice, lambda each, _: each.create("a", 1, headers=headers), 10)

    assert {answer.status for answer in answers} == {201}
    assert len({answer.headers["X-Revision"] for answer in answers}) == 1
    assert len(twice[0].changes()) == 1


def test_a_secret_written_at_one_replica_is_revealed_at_the_other(twice: list[Layer]) -> None:
    here, there = twice
    revision = here.create("a", "secret", is_encrypted=True).headers["X-Revision"]

    found = there.get("a", reveal=True, min_revision=revision)

    assert body_of(found)["value"] == "secret"
