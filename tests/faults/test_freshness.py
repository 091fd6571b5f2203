"""Old answers are found: in histories made by hand, and in seeded bugs of what readers rely on."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

from tests.faults.bugs_read import JOINED, READ_BUGS
from tests.faults.checker import Truth
from tests.faults.freshness import stale
from tests.faults.history import Told
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.readers import Reader
from tests.faults.stage import Stage
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

SHOP = "layers/default/shop"


class Looks:
    """What readers were shown of a shop that has version 1 at revision 10, 2 at 20 and so on."""

    def __init__(self, versions: int) -> None:
        self.lines: list[dict[str, Any]] = []
        self._versions = versions

    def add_look(self, version: int | None, revision: int = 0, **facts: Any) -> Self:
        place = {"client": "r1", "replica": 0, "document": SHOP, "min_revision": None}
        shown = {"status": 200, "code": None, "data": {"a": version}, "settled": False}
        look = {"did": "looked", "version": version, "revision": revision}
        self.lines.append({**place, **shown, **look, **facts})
        return self

    def wrote(self, version: int) -> Self:
        request = {"did": "asked", "attempt": version, "document": SHOP, "key": "r1"}
        self.lines.append({**request, "value": f"r1-{version}", "expected": None})
        self.lines.append({"did": "answered", "attempt": version, "version": version})
        return self

    def stale(self) -> list[str]:
        numbers = range(1, self._versions + 1)
        texts: dict[int, str | None] = {n: json.dumps({"data": {"a": n}}) for n in numbers}
        about = {"environment": "default", "name": "shop"}
        rows = [{"revision": 10 * number, "version": number, **about} for number in numbers]
        return stale([json.dumps(line) for line in self.lines], Truth({SHOP: texts}, rows, {}, {}))


@pytest.fixture
def looks() -> Looks:
    return Looks(versions=3)


def test_readers_that_only_go_forward_have_seen_nothing_stale(looks: Looks) -> None:
    looks.wrote(1).add_look(1, 15, min_revision=10).add_look(1, 19).add_look(2, 20).add_look(2, 20)
    looks.add_look(1, 10, client="r2").add_look(3, 31, settled=True)

    assert looks.stale() == []


def test_a_version_that_goes_back_is_found(looks: Looks) -> None:
    looks.add_look(2, 20).add_look(1, 19, replica=1)

    assert looks.stale() == [f"r1 on replica 1 was shown version 1 of {SHOP} after version 2"]


def test_an_own_write_that_is_not_shown_is_found(looks: Looks) -> None:
    looks.wrote(2).add_look(1, 19)

    assert looks.stale() == [f"r1 on replica 0 was shown version 1 of {SHOP} after version 2"]


def test_an_answer_from_before_the_revision_asked_for_is_found(looks: Looks) -> None:
    looks.add_look(1, 19, min_revision=20)

    shown = f"r1 on replica 0 was shown version 1 of {SHOP}"
    assert looks.stale() == [
        f"{shown} at revision 19, revision 20 was asked for",
        f"{shown}, revision 20 was asked for and has version 2",
    ]


def test_an_answer_that_claims_a_revision_it_does_not_reflect_is_found(looks: Looks) -> None:
    looks.add_look(1, 29)

    assert looks.stale() == [
        f"r1 on replica 0 was shown version 1 of {SHOP} as of revision 29, which has version 2"
    ]


def test_an_answer_may_be_ahead_of_the_revision_it_claims(looks: Looks) -> None:
    assert looks.add_look(2, 10).stale() == []


def test_what_another_version_holds_is_found(looks: Looks) -> None:
    looks.add_look(2, 20, data={"a": 1})

    assert looks.stale() == [
        f"r1 on replica 0 was shown version 2 of {SHOP} and it holds something else"
    ]


def test_an_old_answer_when_all_is_quiet_is_found(looks: Looks) -> None:
    looks.add_look(2, 20, settled=True)

    assert looks.stale() == [
        f"r1 on replica 0 was shown version 2 of {SHOP} when all was quiet, version 3 is stored"
    ]


def test_not_yet_is_no_stale_answer(looks: Looks) -> None:
    looks.add_look(None, status=503, code="revision_not_reached", min_revision=40)

    assert looks.stale() == []


@pytest.mark.parametrize("code", ["revision_not_reached", "store_unavailable"])
def test_any_other_refusal_is_found(looks: Looks, code: str) -> None:
    looks.add_look(None, status=503, code=code)

    assert looks.stale() == [f"r1 on replica 0 was answered 503 {code} for {SHOP}"]


# --- seeded bugs, each in the story that brings it to light; without the bug all is well ---


CLAIMED = f"was shown version 1 of {SHOP}, revision 2 was asked for and has version 2"
UNHELD = {"FAILPOINT": ""}
FORGETFUL = {"CACHE_MEMORY_BYTES": "0", "VAULT_TIMEOUT_SECONDS": "9"}
FOLLOWS = Failpoint("before_follow", WAIT)
FOLLOWS_AGAIN = Failpoint("before_follow", WAIT, at=2)
FETCHES = Failpoint("before_fetch", WAIT)
SHARES = Failpoint("before_share", WAIT)
SHARED = Failpoint("after_share", WAIT)


class Scene:
    """Two replicas that know the first version of a shop, which is nowhere but in Vault.

    The second one remembers nothing, and can be held.
    """

    def __init__(self, stage: Stage, redis: RedisServer, bug: str = "", **own: str) -> None:
        self.stage = stage
        self._redis = redis
        self._prefix = redis.fresh_prefix()
        shared = {"SEEDED_BUG": bug, "REDIS_PREFIX": self._prefix, **redis.settings}
        self._replicas = stage.start_many({**shared, **own}, {**shared, **FORGETFUL})
        self.one, self.other = self._replicas
        self._client = stage.client()
        first = self.writes()
        self.other.request("GET", f"/api/configs?min_revision={first.revision}")
        self.wait_for_entries()
        self._redis.command("DEL", *self._entries())

    def _entries(self) -> list[bytes]:
        found: list[bytes] = self._redis.command("KEYS", f"{self._prefix}:config:*")
        return found

    def wait_for_entries(self) -> None:
        wait_until(lambda: bool(self._entries()), "the version is in Redis")

    def reader(self) -> Reader:
        return Reader(self.stage.history, self._replicas, self.stage.client().name)

    def writes(self) -> Told:
        return self._client.write(self.one, "shop")

    def goes_on_until(self, failpoint: Failpoint) -> None:
        """Let the second replica go on, and hold it where it is told."""
        before = self.times(failpoint)
        self.stage.arm(failpoint)
        wait_until(lambda: self.times(failpoint) > before, f"it has reached {failpoint}")

    def times(self, failpoint: Failpoint) -> int:
        return self.other.log().count(f"reached {failpoint}")


def read_while_a_change_is_followed(scene: Scene) -> None:
    """The replica is held between two looks at the log, and the first one has found a change."""
    scene.goes_on_until(FOLLOWS)
    answer = scene.writes()
    scene.goes_on_until(FOLLOWS_AGAIN)

    scene.reader().look(scene.other, "shop", answer.revision)


def read_while_an_older_fetch_is_under_way(scene: Scene) -> None:
    """Somebody asked before the write, and Vault has not answered him yet."""
    with ThreadPoolExecutor(2) as threads:
        scene.stage.arm(FETCHES)
        early = threads.submit(scene.reader().look, scene.other, "shop")
        wait_until(lambda: scene.times(FETCHES) == 1, "the fetch is under way")
        answer = scene.writes()
        late = threads.submit(scene.reader().look, scene.other, "shop", answer.revision)
        wait_until(lambda: late.done() or JOINED in scene.other.log(), "the late one is served")
        scene.stage.arm()
        early.result()
        late.result()


def read_after_an_older_version_came_late_to_redis(scene: Scene) -> None:
    """A replica shares what it has fetched when another has long written on top."""
    scene.stage.arm(SHARES)
    scene.reader().look(scene.other, "shop")
    wait_until(lambda: scene.times(SHARES) == 1, "the replica is about to share")
    answer = scene.writes()
    scene.wait_for_entries()
    scene.goes_on_until(SHARED)

    scene.reader().look(scene.other, "shop", answer.revision)


Story = Callable[[Scene], None]
STORIES: dict[str, tuple[Story, str]] = {
    "revision_first": (read_while_a_change_is_followed, CLAIMED),
    "joins_older_fill": (read_while_an_older_fetch_is_under_way, CLAIMED),
    "key_without_version": (read_after_an_older_version_came_late_to_redis, CLAIMED),
}


@pytest.fixture
def open_scene(stage: Stage, redis_server: RedisServer) -> Callable[[str], Scene]:
    return lambda bug: Scene(stage, redis_server, bug, **UNHELD)


def stale_reads(scene: Scene) -> list[str]:
    scene.stage.arm()
    scene.stage.settle()
    lines = scene.stage.history.lines()
    return stale(lines, scene.stage.truth(scene.one, lines))


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("bug", STORIES)
def test_a_seeded_bug_shows_something_stale(open_scene: Callable[[str], Scene], bug: str) -> None:
    story, violation = STORIES[bug]
    scene = open_scene(bug)

    story(scene)

    assert any(violation in sentence for sentence in stale_reads(scene))


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("bug", STORIES)
def test_the_same_story_without_the_bug_shows_nothing_stale(
    open_scene: Callable[[str], Scene], bug: str
) -> None:
    story, _ = STORIES[bug]
    scene = open_scene("")

    story(scene)

    assert stale_reads(scene) == []


def test_every_seeded_bug_has_its_story() -> None:
    assert set(STORIES) == set(READ_BUGS)


@pytest.mark.faults
@pytest.mark.slow
def test_what_a_replica_shows_of_its_own_write_another_does_not_take_back(
    stage: Stage, redis_server: RedisServer
) -> None:
    """Neither has followed the log that far; the first one knows of the write by itself."""
    scene = Scene(stage, redis_server)
    scene.goes_on_until(FOLLOWS)
    wait_until(lambda: f"reached {FOLLOWS}" in scene.one.log(), "neither follows the log")
    scene.writes()
    reader = scene.reader()

    assert reader.look(scene.one, "shop")["version"] == 2
    reader.look(scene.other, "shop", reader.revision)

    assert stale_reads(scene) == []
