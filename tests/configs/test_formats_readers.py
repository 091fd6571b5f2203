"""Exported files as programs of others read them."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.configs.formats import NotExpressible, parse, render
from tests.configs.test_formats import texts
from tests.servers.program import INTEROP, Program
from tests.trials import trials

# Of these most values are made that some reader takes for something else.
_CHARACTERS = [
    *"ab1 '\"`\\$#{}:=-\n\r\t,;[]",
    "${A}",
    "\\\\",
    "\\n",
    "\xa0",
    "\u2028",
    "\x85",
    "\ufeff",
]
_VALUES = texts | st.lists(st.sampled_from(_CHARACTERS), max_size=8).map("".join)
_LISTS = st.lists(
    _VALUES | st.integers() | st.none() | st.dictionaries(_VALUES, _VALUES, max_size=2), max_size=3
)


@pytest.fixture(scope="module")
def node() -> Iterator[Program]:
    with Program(["node", INTEROP / "dotenv.mjs"]) as program:
        yield program


def writable_values(values: Sequence[object]) -> dict[str, tuple[object, str]]:
    """Return each value that can be written, with the file that holds it and one more entry."""
    files = {}
    for number, value in enumerate(values):
        try:
            text = render({f"K{number}": value, "LAST": "z"}, "dotenv")
        except NotExpressible:
            continue
        files[f"K{number}"] = (value, text)
    return files


def is_read_back(value: object, found: Mapping[str, Any], name: str) -> bool:
    """Tell whether a reader has found what was written: text as it is, all else as JSON."""
    if found.keys() != {name, "LAST"} or found["LAST"] != "z":
        return False
    return bool(found[name] == value or json.loads(found[name]) == value)


@settings(max_examples=trials(20), deadline=None)
@given(st.lists(_VALUES | _LISTS, max_size=40))
def test_every_reader_of_dotenv_reads_what_was_written(node: Program, values: list[object]) -> None:
    files = writable_values(values)

    by_node = node.ask("parse", files=[text for _, text in files.values()])
    for (name, (value, text)), found in zip(files.items(), by_node, strict=True):
        assert is_read_back(value, found, name), (text, found)
        assert is_read_back(value, dotenv_values(stream=io.StringIO(text)), name), text
        assert is_read_back(value, parse(text, "dotenv")[0].data, name), text


class Wanted(BaseSettings):
    model_config = SettingsConfigDict(env_nested_delimiter="__", extra="ignore")

    server_port: int
    folder: str
    password: str
    origins: list[str]
    limits: dict[str, int]
    timeout: float | None = 5.0
    banner: str


def test_settings_of_pydantic_are_read_from_an_exported_file(tmp_path: Path) -> None:
    data = {
        "server": {"port": 8080},
        "folder": "C:\\new\\table",
        "password": "pa$$word #1",
        "origins": ["https://a.example", "C:\\\\x", "it's ${HOME}"],
        "limits": {},
        "timeout": None,
        "banner": 'two "lines"\nand a tab\t',
    }
    file = tmp_path / ".env"
    file.write_text(render(data, "dotenv"), encoding="utf-8")

    found = Wanted(_env_file=file, _env_file_encoding="utf-8")

    assert found.model_dump() == {
        "server_port": 8080,
        **{name: data[name] for name in ("folder", "password", "origins", "banner")},
        "limits": {},
        "timeout": 5.0,
    }
