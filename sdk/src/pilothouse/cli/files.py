"""Files that commands read and write."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.cli.commands import SHARED, Session
from pilothouse.cli.exits import ExitCode, failure, usage
from pilothouse.cli.values import STDIN
from pilothouse.cli.yaml_text import NotYaml, parsed

FORMATS = {
    "yaml": "application/yaml",
    "json": "application/json",
    "properties": "text/x-java-properties",
    "dotenv": "text/x-dotenv",
}
_ENDINGS = {
    ".yml": "yaml",
    ".yaml": "yaml",
    ".json": "json",
    ".properties": "properties",
    ".env": "dotenv",
}
_SHARED_STEM = "application"


@dataclass(frozen=True)
class ConfigFile:
    """One file to import; `path` is None for standard input."""

    path: Path | None
    service: str
    form: str

    @property
    def name(self) -> str:
        return STDIN if self.path is None else str(self.path)

    def content(self) -> bytes:
        return _bytes(self.path)


def config_files(
    paths: Sequence[Path], form: str | None, service: str | None
) -> Sequence[ConfigFile]:
    """Return the files that are meant; raises Failure (usage) where one cannot be."""
    files = list(_config_files(paths, form, service))
    if not files:
        raise usage(f"there is no file with one of {', '.join(_ENDINGS)} in what was named")
    return files


def _config_files(
    paths: Sequence[Path], form: str | None, service: str | None
) -> Iterator[ConfigFile]:
    for path in paths:
        if str(path) == STDIN:
            yield ConfigFile(None, service or SHARED, form or "yaml")
        elif path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file())
            for file in inside:
                if file.suffix in _ENDINGS:
                    yield _config_file(file, form, service)
        else:
            yield _config_file(path, form, service)


def _config_file(path: Path, form: str | None, service: str | None) -> ConfigFile:
    chosen = form or _ENDINGS.get(path.suffix)
    if chosen is None:
        raise usage(f"the format of {path} is not to be seen from its ending; say --format")
    stem = SHARED if path.stem == _SHARED_STEM else path.stem
    return ConfigFile(path, service or stem, chosen)


def _bytes(path: Path | None) -> bytes:
    if path is None:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise failure("file", f"cannot be read: {error.strerror}", ExitCode.FAILED) from None


def read_document(path: Path) -> dict[str, Any]:
    """Return the object a YAML or JSON file holds, `-` for standard input; raises Failure."""
    content = _bytes(None if str(path) == STDIN else path)
    try:
        text = content.decode()
        document = json.loads(text) if path.suffix == ".json" else parsed(text)
    except (ValueError, NotYaml) as error:
        raise usage(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise usage(f"{path} holds no object")
    return document


def write_out(session: Session, text: str, path: Path | None) -> None:
    """Print text, or write it into a file."""
    if path is None:
        session.output.raw(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        sentence = f"{path} cannot be written: {error.strerror}"
        raise failure("file", sentence, ExitCode.FAILED) from None
    session.output.note(f"written to {path}")
