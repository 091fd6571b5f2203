"""`env.template` has every setting once, with its default."""

import re
from collections import Counter

import pytest

from app.settings import Settings
from pilothouse_core.config_files import parse
from pilothouse_core.judgement.schemas import CompiledSchema, violations
from tests.docs.generate import ROOT, SETTINGS_SCHEMA
from tests.docs.settings_schema import settings_schema, settings_schema_text

LINE = re.compile(r"^#? ?([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)
NAMES = {name.upper() for name in Settings.model_fields}


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return LINE.findall((ROOT / "env.template").read_text(encoding="utf-8"))


def test_the_template_has_every_setting_exactly_once(lines: list[tuple[str, str]]) -> None:
    assert Counter(name for name, _ in lines) == Counter(NAMES)


def test_the_template_copied_as_it_is_changes_nothing(
    lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    default = Settings()

    for name, value in lines:
        monkeypatch.setenv(name, value)

    assert Settings() == default


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


SCHEMA = settings_schema()
COMPILED = CompiledSchema(SCHEMA)


def test_the_committed_schema_is_what_the_code_says() -> None:
    assert SETTINGS_SCHEMA.read_text(encoding="utf-8") == settings_schema_text(), "run `make docs`"
    assert SCHEMA["properties"].keys() == NAMES


def test_the_template_meets_the_schema() -> None:
    [section] = parse((ROOT / "env.template").read_text(encoding="utf-8"), "dotenv")

    assert violations(COMPILED, section.data) == ()


def test_the_schema_knows_which_settings_are_secret() -> None:
    secret = {
        name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field)
    }

    assert set(COMPILED.walk.secret_keys(dict.fromkeys(NAMES, "x"))) == secret


SAMPLES = ("-1", "0", "1", "2", "65535", "65536", "10000000", "0.5", "nan", "yes", "TRUE", "maybe")
WORDS = (
    "open",
    "required",
    "OPEN",
    "json",
    "INFO",
    "info",
    "production",
    "x y",
    "/services",
    "a,b",
)


def is_valid(name: str, value: str) -> bool:
    return violations(COMPILED, {name.upper(): value}) == ()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_schema_refuses_no_value_that_the_service_takes(name: str) -> None:
    """What is wrong with several settings together, or with an address, it cannot say."""
    for value in (*SAMPLES, *WORDS):
        try:
            Settings.model_validate({name: value})
        except ValueError:
            continue
        assert is_valid(name, value), value


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, field in Settings.model_fields.items()
        if SCHEMA["properties"][name.upper()].get("enum") or field.annotation in {int, float, bool}
    ],
)
def test_the_schema_refuses_other_words_for_options_and_numbers(name: str) -> None:
    for value in ("maybe", "1 2", ""):
        with pytest.raises(ValueError, match=name):
            Settings.model_validate({name: value})
        assert not is_valid(name, value), value


def test_the_bounds_hold_for_numbers() -> None:
    for name, field in SCHEMA["properties"].items():
        if "maximum" in field:
            assert violations(COMPILED, {name: field["maximum"]}) == ()
            assert violations(COMPILED, {name: field["maximum"] + 1}) != ()
