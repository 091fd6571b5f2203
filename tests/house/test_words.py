"""The words of the glossary's "not" list occur neither in the documentation nor in the code."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
LEFT_OUT = ("docs/glossary.md",)  # has to name the words
# Folders whose docstrings, comments and texts have to keep to the list as well.
CODE = ("app", "core/src", "sdk/src")

# Phrases that contain a word of the list and are the right ones.
ALLOWED = {
    "far away": "a distance",
    "there is none": "nothing exists, rather than: it is not one",
    "--nobody": "an option of the command line",
}

_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\([^)\s]*\)")
_NONE = re.compile(r"\bNone\b")  # of Python, not a word of the sentence


def unused_words() -> list[str]:
    _, _, table = GLOSSARY.read_text(encoding="utf-8").partition("\n## Words that we do not use\n")
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def pattern_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for whole words in any case, with any white space between them."""
    words = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in phrases)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)


WORDS = pattern_of(unused_words())


def violations(name: str, text: str) -> list[str]:
    """Return each place with a word of the list, outside of code and of allowed phrases."""
    prose = _FENCE.sub(_blank, text)
    prose = _LINK.sub(_blank, _CODE.sub(_blank, prose))
    prose = pattern_of(ALLOWED).sub(_blank, prose)
    return [
        f"{name}:{prose.count(chr(10), 0, match.start()) + 1}: {match[0]!r}"
        for match in WORDS.finditer(prose)
    ]


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def pages() -> Iterator[str]:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT).as_posix()
        if not name.startswith(LEFT_OUT):
            yield name


def prose(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings, comments and texts with a blank of a module, each with its line.

    Names and short words of programs, such as the event of a log line, have no blank.
    """
    source = module.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, _NONE.sub(_blank, node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], _NONE.sub(_blank, token.string)


def texts(document: Any) -> Iterator[str]:
    """Yield every text of a JSON document that has a blank."""
    if isinstance(document, str):
        if " " in document:
            yield document
    elif isinstance(document, dict | list):
        for value in document.values() if isinstance(document, dict) else document:
            yield from texts(value)


@pytest.mark.parametrize("name", sorted(pages()))
def test_no_page_uses_a_word_of_the_list(name: str) -> None:
    assert violations(name, (ROOT / name).read_text(encoding="utf-8")) == []


def test_the_template_of_settings_uses_no_word_of_the_list() -> None:
    text = (ROOT / "env.template").read_text(encoding="utf-8")

    assert violations("env.template", text) == []


def test_no_description_of_a_setting_uses_a_word_of_the_list() -> None:
    for name, setting in Settings.model_fields.items():
        assert violations(name, setting.description or "") == []


def test_no_text_of_the_openapi_document_uses_a_word_of_the_list() -> None:
    document = json.loads((ROOT / "docs/reference/openapi.json").read_text(encoding="utf-8"))

    found = {violation for text in texts(document) for violation in violations(text, text)}
    assert found == set()


@pytest.mark.parametrize("folder", CODE)
def test_no_docstring_comment_or_message_uses_a_word_of_the_list(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))

    assert modules
    found = [
        violation
        for module in modules
        for line, text in prose(module)
        for violation in violations(f"{module.relative_to(ROOT).as_posix()}:{line}", text)
    ]
    assert found == []


def test_the_list_finds_its_words_in_prose_and_not_in_code() -> None:
    text = "Vault is Away.\n\n```\ntold\n```\n\nA `whoever` far\naway\ngoes  on.\n"

    assert violations("page", text) == ["page:1: 'Away'", "page:9: 'goes  on'"]


def test_every_allowed_phrase_contains_a_word_of_the_list() -> None:
    assert [phrase for phrase in ALLOWED if not WORDS.search(phrase)] == []
