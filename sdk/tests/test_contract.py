"""What every client promises: the real one against the real service, and the one for tests."""

from queue import Queue
from typing import Any

import pytest

from pilothouse import ConfigChange, PilothouseError
from sdk.tests.rigs import FakeRig, RealRig, Rig
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess


@pytest.fixture(params=["fake", "real"])
def rig(request: pytest.FixtureRequest, service: ServiceProcess) -> Rig:
    return FakeRig() if request.param == "fake" else RealRig(service)


def switch(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        "off_variant": "off",
        "enabled": True,
        **more,
    }


def serving_rule(variant: str, when: Any = None) -> list[dict[str, Any]]:
    return [{"id": "rule", "when": when, "serve": {"variant": variant}}]


ANA = {"attribute": "user_id", "op": "in", "values": ["ana"]}


def test_a_configuration_is_read_by_type_section_and_default(rig: Rig) -> None:
    rig.set("db.host", "db1")
    rig.set("db.port", "5432")
    rig.set("origins", ["a", "b"])

    with rig.open(defaults={"db": {"name": "orders"}}) as client:
        assert client.ready()
        assert client.config.get("db.host", "x") == "db1"
        assert client.config.get_int("db.port") == 5432
        assert client.config.section("db") == {"host": "db1", "port": "5432", "name": "orders"}
        assert client.config.get_list("origins") == ["a", "b"]
        assert client.config.get("nowhere", "x") == "x"
        assert (client.config.source, client.config.is_stale) == ("service", False)
        assert client.last_error is None


def test_a_change_is_told_by_path_with_both_values(rig: Rig) -> None:
    rig.set("db.host", "db1")
    heard: Queue[ConfigChange] = Queue()

    with rig.open() as client:
        end = client.on_change("db", heard.put)
        rig.set("other", 1)
        rig.set("db.host", "db2")
        modified = heard.get(timeout=30)
        rig.set("db.port", 1)
        added = heard.get(timeout=30)
        rig.unset("db.port")
        removed = heard.get(timeout=30)
        end()
        rig.set("db.host", "db3")
        wait_until(lambda: client.config.get("db.host") == "db3", "the change is there")

    assert modified == ConfigChange("db.host", "db1", "db2", modified.change_type)
    kinds = [change.change_type.value for change in (modified, added, removed)]
    assert kinds == ["modified", "added", "removed"]
    assert heard.empty()


def test_a_callback_that_fails_stops_nobody(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    heard: Queue[ConfigChange] = Queue()

    def fail(_: ConfigChange) -> None:
        raise RuntimeError

    with rig.open() as client:
        client.on_change("", fail)
        client.on_change("", heard.put)
        rig.set("a", 1)
        assert heard.get(timeout=30).path == "a"

    assert "a callback failed" in caplog.text


def test_a_flag_that_is_not_there_is_the_default_and_says_so(rig: Rig) -> None:
    with rig.open() as client:
        assert client.flags.is_on("nowhere") is False
        assert client.flags.is_on("nowhere", default=True) is True
        assert client.flags.variant("nowhere", default="red") == "red"
        assert client.flags.value("nowhere", 7) == 7
        details = client.flags.details("nowhere", 7, user_id="ana")

    assert (details.value, details.variant, details.reason) == (7, None, "ERROR")
    assert details.error_code == "FLAG_NOT_FOUND"


def test_a_flag_is_evaluated_with_its_reason(rig: Rig) -> None:
    with rig.open() as client:
        rig.define_segment({"name": "staff", "when": ANA})
        rig.define_flag(switch("new", rules=serving_rule("on", {"segment": "staff"})))
        wait_until(lambda: "new" in client.flags, "the flag is there")

        assert client.flags.is_on("new", user_id="ana") is True
        assert client.flags.is_on("new", user_id="bob") is False
        assert client.flags.variant("new", user_id="ana") == "on"
        details = client.flags.details("new", user_id="ana")
        assert (details.reason, details.rule_id, details.version) == ("TARGETING_MATCH", "rule", 1)
        assert details.revision == client.flags.revision > 0
        assert client.flags.details("new").reason == "DEFAULT"
        assert (client.flags.source, client.flags.is_stale) == ("service", False)


def test_flags_have_values_of_every_type(rig: Rig) -> None:
    values: dict[str, Any] = {
        "string": "blue",
        "integer": 7,
        "number": 0.5,
        "object": {"a": [1]},
    }
    with rig.open() as client:
        for kind, value in values.items():
            variants = {"one": value}
            definition = {"name": kind, "type": kind, "variants": variants, "enabled": True}
            rig.define_flag({**definition, "default_variant": "one", "off_variant": None})
        wait_until(lambda: "object" in client.flags, "the last flag is there")

        assert {name: client.flags.value(name) for name in values} == values
        assert client.flags.is_on("string") is True
        client.flags.value("object")["a"].append(2)
        assert client.flags.value("object") == values["object"]


def test_a_disabled_flag_without_an_off_variant_is_the_callers_default(rig: Rig) -> None:
    with rig.open() as client:
        rig.define_flag(switch("new", enabled=False, off_variant=None))
        wait_until(lambda: "new" in client.flags, "the flag is there")

        details = client.flags.details("new", default=True)

    assert (details.value, details.variant, details.reason) == (True, None, "DISABLED")
    assert details.error_code is None


def test_a_changed_flag_is_told_with_all_that_need_it(rig: Rig) -> None:
    heard: Queue[frozenset[str]] = Queue()

    with rig.open() as client:
        client.flags.on_update(heard.put)
        rig.define_flag(switch("gate"))
        assert heard.get(timeout=30) == {"gate"}
        needs = [{"flag": "gate", "variants": ["on"]}]
        rig.define_flag(switch("new", default_variant="on", prerequisites=needs))
        assert heard.get(timeout=30) == {"new"}
        assert client.flags.details("new").prerequisite == "gate"
        rig.define_flag(switch("gate", default_variant="on"))
        assert heard.get(timeout=30) == {"gate", "new"}
        assert client.flags.is_on("new")


def test_a_removed_flag_is_gone(rig: Rig) -> None:
    with rig.open() as client:
        rig.define_flag(switch("new", default_variant="on"))
        wait_until(lambda: client.flags.is_on("new"), "the flag is there")
        rig.remove_flag("new")
        wait_until(lambda: not client.flags.is_on("new"), "the flag is gone")


def test_what_another_flag_needs_is_not_removed(rig: Rig) -> None:
    with rig.open() as client:
        rig.define_flag(switch("gate", default_variant="on"))
        needs = [{"flag": "gate", "variants": ["on"]}]
        rig.define_flag(switch("new", default_variant="on", prerequisites=needs))
        with pytest.raises((ValueError, AssertionError)):
            rig.remove_flag("gate")
        with pytest.raises((ValueError, AssertionError)):
            rig.define_flag(switch("bad", rules=serving_rule("on", {"segment": "nobody"})))
        wait_until(lambda: client.flags.is_on("new"), "the flags are there")
        assert "bad" not in client.flags


def test_an_override_counts_until_it_is_taken_back(rig: Rig) -> None:
    with rig.open() as client:
        rig.define_flag(switch("gate"))
        needs = [{"flag": "gate", "variants": ["on"]}]
        rig.define_flag(switch("new", default_variant="on", prerequisites=needs))
        wait_until(lambda: "new" in client.flags, "the flags are there")

        client.flags.override("gate", True)  # noqa: FBT003 - a value like any other
        client.flags.override("made-up", {"a": 1})

        assert client.flags.is_on("gate")
        assert client.flags.is_on("new")
        assert client.flags.value("made-up") == {"a": 1}
        rig.define_flag(switch("gate", description="another"))
        assert client.flags.is_on("gate")
        client.flags.clear_overrides()
        assert not client.flags.is_on("new")
        assert "made-up" not in client.flags
        with pytest.raises(ValueError, match="set"):
            client.flags.override("gate", {1})


def test_what_is_held_stays_readable_after_the_end(rig: Rig) -> None:
    rig.set("a", 1)
    client = rig.open()
    rig.define_flag(switch("new", default_variant="on"))
    wait_until(lambda: client.flags.is_on("new"), "the flag is there")
    client.refresh()
    client.close()
    client.close()

    assert client.config.get("a") == 1
    assert client.flags.is_on("new")


@pytest.mark.parametrize(
    "context",
    [
        {"user_id": object()},
        {"user_id": float("nan"), "deep": {"er": object()}},
        {"name": "x", "environment": {}},
        {"user_id": "\ud800"},
    ],
)
def test_no_context_makes_an_evaluation_fail(rig: Rig, context: dict[str, Any]) -> None:
    with rig.open() as client:
        rig.define_flag(switch("new", rules=serving_rule("on", ANA)))
        wait_until(lambda: "new" in client.flags, "the flag is there")

        assert client.flags.is_on("new", **context) is False
        assert client.flags.is_on(["no name"], default=True) is True  # type: ignore[arg-type]


def test_an_error_is_one_of_the_clients(rig: Rig) -> None:
    with rig.open() as client:
        client.close()
        with pytest.raises(PilothouseError):
            client.run(_nothing())


async def _nothing() -> None:
    pass
