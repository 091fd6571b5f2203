"""`env.template` has every setting once, with its default."""

import re
from collections import Counter

import pytest

from app.settings import Settings
from tests.docs.generate import ROOT

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
