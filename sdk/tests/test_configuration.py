import asyncio
import logging
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pilothouse import ChangeType, ConfigChange, Configuration
from pilothouse.config_state import state_of

DATA: dict[str, Any] = {
    "db": {
        "host": "db1",
        "port": 5432,
        "pool": {"size": "20", "ratio": 0.5},
        "replicas": ["a", "b"],
    },
    "debug": "yes",
    "level": 3.0,
    "huge": "1e999",
    "names": "ana, ben,,",
    "nothing": None,
    "empty": {},
    "password": {"$secret": "masked"},
}


def configuration(data: dict[str, Any], defaults: dict[str, Any] | None = None) -> Configuration:
    config = Configuration(defaults)
    config.swap(state_of(data, config.defaults, source="service", revision=7, version='"7"'))
    return config


def test_values_are_read_by_dotted_key() -> None:
    config = configuration(DATA)

    assert config.get("db.host") == "db1"
    assert config.get("db.pool") == {"size": "20", "ratio": 0.5}
    assert config.get("db.nowhere", "else") == "else"
    assert config.get("nothing", "default") is None
    assert config.section("db")["replicas"] == ["a", "b"]
    assert config.section("db.host") == config.section("nowhere") == {}
    assert "db.pool.size" in config
    assert "db.pool.depth" not in config


def test_typed_reads_understand_text_and_fall_back_where_they_cannot() -> None:
    config = configuration(DATA)

    assert config.get_int("db.port") == 5432
    assert config.get_int("db.pool.size", 1) == 20
    assert config.get_int("level") == 3
    assert config.get_int("db.pool.ratio", 9) == 9
    assert config.get_int("huge", 9) == 9
    assert config.get_float("db.pool.ratio") == 0.5
    assert config.get_float("huge", 1.5) == 1.5
    assert config.get_bool("debug") is True
    assert config.get_bool("db.host", default=False) is False
    assert config.get_list("names") == ["ana", "ben"]
    assert config.get_list("db.port", ["x"]) == ["x"]
    assert config.get_int("nowhere") is None


def test_an_unreadable_value_is_told_once_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    config = configuration({"port": "hunter2"})

    for _ in range(3):
        assert config.get_int("port", 80) == 80

    assert [record.getMessage() for record in caplog.records] == [
        "configuration key port is not readable as integer; the default is used"
    ]


def test_a_masked_secret_is_no_value(caplog: pytest.LogCaptureFixture) -> None:
    config = configuration(DATA)

    assert config.get("password", "default") == "default"
    assert "password" not in config.section()
    assert "reveal_secrets" in caplog.text


def test_what_is_handed_out_may_be_changed_without_changing_what_is_held() -> None:
    config = configuration(DATA)

    config.get("db.replicas").append("c")
    config.section("db")["pool"]["size"] = 0
    config.held.own_data().clear()

    assert config.get("db.replicas") == ["a", "b"]
    assert config.get_int("db.pool.size") == 20


def test_defaults_lie_below() -> None:
    config = configuration({"db": {"host": "db1"}}, {"db": {"host": "local", "port": 1}, "x": 2})

    assert config.section("db") == {"host": "db1", "port": 1}
    assert config.get("x") == 2


class Pool(BaseModel):
    size: int
    ratio: float


def test_a_section_becomes_a_model() -> None:
    config = configuration(DATA)

    assert config.as_model(Pool, "db.pool") == Pool(size=20, ratio=0.5)
    with pytest.raises(ValidationError):
        config.as_model(Pool, "db")


def test_listeners_hear_of_their_key_and_of_their_section() -> None:
    config = configuration({"db": {"host": "a", "port": 1}, "dbx": 1, "gone": 1})
    of_key: list[ConfigChange] = []
    of_section: list[ConfigChange] = []
    of_all: list[ConfigChange] = []
    config.on_change("db.port", of_key.append)
    config.on_change("db", of_section.append)
    config.on_change("", of_all.append)

    config.swap(
        state_of({"db": {"host": "b", "port": 1}, "dbx": 2, "new": 1}, {}, source="service")
    )

    assert of_key == []
    assert of_section == [ConfigChange("db.host", "a", "b", ChangeType.MODIFIED)]
    assert [(change.path, change.change_type.value) for change in of_all] == [
        ("db.host", "modified"),
        ("dbx", "modified"),
        ("gone", "removed"),
        ("new", "added"),
    ]


def test_a_callback_that_raises_is_logged_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = configuration({})
    heard: list[Any] = []

    def failing(_: ConfigChange) -> None:
        raise RuntimeError("boom")

    config.on_change("a", failing)
    end = config.on_change("a", lambda change: heard.append(change.new_value))
    config.swap(state_of({"a": 1}, {}, source="service"))
    end()
    config.swap(state_of({"a": 2}, {}, source="service"))

    assert heard == [1]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_a_callback_may_be_a_coroutine_function() -> None:
    config = configuration({})
    heard: list[int] = []

    async def hear(change: ConfigChange) -> None:
        heard.append(change.new_value)

    config.on_change("", hear)
    config.swap(state_of({"a": 1}, {}, source="service"))
    await asyncio.sleep(0)

    assert heard == [1]
