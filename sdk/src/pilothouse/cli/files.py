"""Files that commands read and write."""

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.cli.commands import SHARED, Session
from pilothouse.cli.exit_codes import ExitCode, failure, usage
from pilothouse.cli.values import STDIN
from pilothouse.cli.yaml_text import NotYaml, parsed_documents
from pilothouse_core import strict_json
from pilothouse_core.file_placement import ENDINGS, SHARED_STEM, format_of, place_files

FORMATS = {
    "yaml": "application/yaml",
    "json": "application/json",
    "properties": "text/x-java-properties",
    "dotenv": "text/x-dotenv",
}


@dataclass(frozen=True)
class ConfigFile:
    """One file to import; `path` is None for standard input.

    `environment` is the one in its name, if there is one; `note` says what was guessed.
    """

    path: Path | None
    service: str
    form: str
    environment: str | None = None
    note: str = ""

    @property
    def name(self) -> str:
        return STDIN if self.path is None else str(self.path)

    def content(self) -> bytes:
        return _bytes(self.path)


@dataclass(frozen=True)
class Known:
    """The names of the environments and services that have documents."""

    environments: Collection[str] = ()
    services: Collection[str] = ()


def config_files(
    paths: Sequence[Path], form: str | None, service: str | None, known: Callable[[], Known]
) -> tuple[Sequence[ConfigFile], Sequence[tuple[str, str]]]:
    """Return the files to import, and the entries of folders that are not imported, with reasons.

    Raises Failure (usage) if a named file cannot be imported.
    """
    files: list[ConfigFile] = []
    left_out: list[tuple[str, str]] = []
    for path in paths:
        if str(path) == STDIN:
            files.append(ConfigFile(None, service or SHARED, form or "yaml"))
        elif path.is_dir():
            inside, others = _of_folder(path, form, service, known())
            files += inside
            left_out += others
        else:
            files.append(_config_file(path, form, service))
    if not files:
        places = ", ".join(map(str, paths))
        raise usage(f"no file with one of the suffixes {', '.join(ENDINGS)} was found in {places}")
    return files, left_out


def _of_folder(
    folder: Path, form: str | None, service: str | None, known: Known
) -> tuple[list[ConfigFile], list[tuple[str, str]]]:
    inside = sorted(folder.iterdir())
    placed = place_files(
        (path.name for path in inside if path.is_file()),
        environments=known.environments,
        services=known.services,
    )
    files = [
        ConfigFile(
            folder / file.name,
            service or file.service,
            form or file.form,
            file.environment,
            file.note,
        )
        for file in placed.files
    ]
    reason = "it is not a file; import folders one by one"
    others = [(path.name, reason) for path in inside if not path.is_file()]
    left_out = sorted([*placed.left_out, *others])
    return files, [(str(folder / name), reason) for name, reason in left_out]


def _config_file(path: Path, form: str | None, service: str | None) -> ConfigFile:
    chosen = form or format_of(path.name)
    if chosen is None:
        raise usage(f"the suffix of {path} does not show its format; use --format")
    stem = SHARED if path.stem == SHARED_STEM or path.name.lower() == ".env" else path.stem
    return ConfigFile(path, service or stem, chosen)


def _bytes(path: Path | None) -> bytes:
    if path is None:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise failure("file", f"cannot be read: {error.strerror}", ExitCode.FAILED) from None


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, `-` for standard input; raises Failure."""
    return _bytes(None if str(path) == STDIN else path)


def read_document(path: Path) -> dict[str, Any] | list[Any]:
    """Return the content of a YAML or JSON file, `-` for standard input; raises Failure.

    For a YAML file with several documents this is a list of them.
    """
    content = _bytes(None if str(path) == STDIN else path)
    try:
        text = content.decode()
        documents = [_json(text)] if path.suffix == ".json" else parsed_documents(text)
    except (ValueError, NotYaml) as error:
        raise usage(f"{path} cannot be read: {error}") from None
    document = documents[0] if len(documents) == 1 else documents
    if not isinstance(document, (dict, list)):
        raise usage(f"{path} contains neither an object nor a list")
    return document


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a YAML or JSON file; raises Failure."""
    document = read_document(path)
    if not isinstance(document, dict):
        raise usage(f"{path} does not contain an object")
    return document


def _json(text: str) -> Any:
    return strict_json.loads(text.removeprefix("\ufeff"), exact=True)


def write_out(session: Session, text: str, path: Path | None) -> None:
    """Print text, or write it to a file."""
    if path is None:
        session.output.raw(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        sentence = f"{path} cannot be written: {error.strerror}"
        raise failure("file", sentence, ExitCode.FAILED) from None
    session.output.note(f"written to {path}")
