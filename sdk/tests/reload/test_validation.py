"""What a configuration is held against."""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pilothouse.reload import (
    ConfigManager,
    EnvironmentConfigSource,
    FileConfigSource,
    InvalidConfig,
    ReloadStatus,
    Rules,
    StartFailed,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["db"],
    "properties": {
        "db": {
            "type": "object",
            "required": ["host"],
            "additionalProperties": False,
            "properties": {
                "host": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$"},
                "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                "mode": {"enum": ["ro", "rw", 1]},
                "ratio": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                "either": {"anyOf": [{"type": "null"}, {"type": "integer", "multipleOf": 2}]},
            },
        }
    },
}
ANYTHING = st.recursive(
    st.sampled_from([None, True, 0, 1, 2, 3, 0.5, 70000, 1.0, "", "ab", "AB", "ro"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["db", "host", "port", "mode", "ratio", "tags", "either", "x"]), inner
        )
    ),
    max_leaves=8,
)


@given(
    ANYTHING
    | st.fixed_dictionaries(
        {
            "db": st.dictionaries(
                st.sampled_from(["host", "port", "mode", "ratio", "tags", "either"]), ANYTHING
            )
        }
    )
)
def test_a_schema_refuses_what_json_schema_refuses(value: Any) -> None:
    config = value if isinstance(value, dict) else {"db": value}

    expected = jsonschema.Draft202012Validator(SCHEMA).is_valid(config)

    assert (Rules(SCHEMA).flaws(config) == []) == expected


def test_a_flaw_names_its_place() -> None:
    flaws = Rules(SCHEMA).flaws({"db": {"port": "x", "tags": [1], "other": 1}})

    assert list(map(str, flaws)) == [
        "db.port: is not of type integer (type)",
        "db.tags.0: is not of type string (type)",
        "db.other: is not known here (additionalProperties)",
        "db.host: is missing (required)",
    ]
    assert [(flaw.pointer, flaw.keyword) for flaw in flaws[:2]] == [
        ("/db/port", "type"),
        ("/db/tags/0", "type"),
    ]


def test_a_keyword_that_would_not_be_checked_is_refused() -> None:
    for schema in (
        {"properties": {"a": {"lowest": 1}}},
        {"properties": {"a": {"format": "e-mail"}}},
        {"items": {"$ref": "https://schemas.invalid/other.json"}},
        {"type": "text"},
        {"properties": {"a": 1}},
    ):
        with pytest.raises(ValueError, match=r"^at '"):
            Rules(schema)


def test_a_schema_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pilothouse_core.json_schema", raising=False)
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)

    with pytest.raises(ImportError, match=r"pip install 'pilothouse-client\[schema\]'"):
        Rules(SCHEMA)
    assert Rules(dict).flaws({"a": 1}) == []


class Settings(BaseModel):
    password: int


def test_a_pydantic_model_is_a_schema_and_shows_no_values() -> None:
    flaws = Rules(Settings.model_validate).flaws({"password": "hunter2"})

    assert [flaw.path for flaw in flaws] == ["password"]
    assert "hunter2" not in str(flaws)


def test_a_check_looks_at_several_fields() -> None:
    def pool_fits(config: Any) -> str | None:
        return "min is above max" if config["min"] > config["max"] else None

    rules = Rules(checks=[pool_fits, lambda config: ["a", "b"] if config["min"] == 7 else []])

    assert rules.flaws({"min": 1, "max": 2}) == []
    assert list(map(str, rules.flaws({"min": 7, "max": 2}))) == ["min is above max", "a", "b"]
    assert str(rules.flaws({"min": 1})[0]) == "pool_fits failed with KeyError"


async def test_a_merged_configuration_that_breaks_a_rule_is_not_put_in_force(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"min": 1, "max": 2}')
    manager = ConfigManager(
        watch_files=False,
        rules=Rules(checks=[lambda config: "min" if config["min"] > config["max"] else None]),
    )
    manager.add_source(FileConfigSource(file))

    async with manager:
        file.write_text('{"min": 3, "max": 2}')
        result = await manager.reload()
        refused = manager.health()
        with pytest.raises(InvalidConfig):
            manager.override("max", 0)
        file.write_text('{"min": 3, "max": 4}')
        repaired = await manager.reload()

    assert (result.status, result.errors) == (ReloadStatus.FAILED, ("configuration: min",))
    assert (refused.is_healthy, refused.error) == (False, "min")
    assert repaired.succeeded
    assert manager.get_section() == {"min": 3, "max": 4}


async def test_credentials_in_a_file_are_found_before_expansion(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("db: {password: correct-horse-9, other_password: '${SECRET}'}\n")
    known = {"SECRET": "battery-staple-7"}
    warning, refusing = ConfigManager(), ConfigManager()
    source = FileConfigSource(file, environment=known, rules=Rules(credentials="warn"))
    warning.add_source(source)
    refusing.add_source(
        FileConfigSource(file, environment=known, rules=Rules(credentials="refuse"))
    )

    result = await warning.start()
    await warning.stop()

    assert result.succeeded
    assert [text.split(": ")[1] for text in result.warnings] == ["db.password"]
    assert [flaw.kind for flaw in source.validate_config(warning.get_section())] == [
        "credential"
    ] * 2
    with pytest.raises(StartFailed, match=r"db\.password: .* as plain text"):
        await refusing.start()


async def test_a_source_is_held_against_its_own_rules() -> None:
    manager = ConfigManager()
    rules = Rules({"properties": {"port": {"type": "integer"}}})
    manager.add_source(EnvironmentConfigSource("X", environment={"X_PORT": "no"}, rules=rules))

    with pytest.raises(StartFailed, match="port: is not of type integer \\(type\\)"):
        await manager.start()
