"""The files of a folder: read with their places, written without following links."""

import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from pilothouse.cli.exit_codes import ExitCode, Failure, failure, usage
from pilothouse.cli.folders.entries import FOLDERS, USERS, BadPath, Content, Entry, entry_at
from pilothouse.cli.yaml_text import load_yaml
from pilothouse_core.keys import names_of
from pilothouse_core.trees import BadKey, DuplicateKey, KeysConflict, nested_tree

MANIFEST = "pilothouse.yaml"
FORMAT = "pilothouse-folder-1"
GROUPS = ("config", USERS, "flags", "segments", "schemas", "templates", "policies")
_LARGEST_FILE = 32 * 1024 * 1024  # bytes: what the service takes of one request


@dataclass(frozen=True)
class EntryFile:
    """One file of the folder; `text` is kept to find the line of a key."""

    path: Path
    content: Content = field(repr=False)
    text: str = field(repr=False)

    def place_of(self, names: Sequence[str]) -> str:
        """Return `file:line:column` of a member, or of the nearest one around it."""
        documents = load_yaml().document_positions(self.text) or [{}]
        positions = {_names_of_place(path): position for path, position in documents[0].items()}
        while names:
            if tuple(names) in positions:
                line, column = positions[tuple(names)]
                return f"{self.path}:{line}:{column}"
            names = names[:-1]
        return str(self.path)


def _names_of_place(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the names of a place as a key has them: dotted members are several names."""
    return tuple(
        name for step in path for name in ([str(step)] if isinstance(step, int) else names_of(step))
    )


@dataclass(frozen=True)
class FolderFiles:
    """What a folder holds; `groups` is what its manifest says that it holds all of."""

    files: Mapping[Entry, EntryFile]
    groups: Collection[str] | None
    ignored: list[Path]


def read_folder(root: Path) -> FolderFiles:
    """Read every file of a folder; raises Failure (usage) that names all that is wrong."""
    if not root.is_dir():
        raise usage(f"{root} is not a folder")
    files: dict[Entry, EntryFile] = {}
    ignored: list[Path] = []
    flaws: list[str] = []
    for path in _paths_below(root, flaws):
        try:
            entry = entry_at(PurePosixPath(path.relative_to(root)))
        except BadPath as error:
            if path.suffix.lower() in {".yaml", ".yml", ".json"}:
                flaws.append(f"{path}: {error}")
            else:
                ignored.append(path)
            continue
        try:
            text, content = read_yaml(path)
            files[entry] = EntryFile(path, _content_of(entry, content), text)
        except ValueError as error:
            flaws.append(f"{path}{_after(str(error))}")
    if flaws:
        raise usage(f"{root} cannot be read", errors=[{"detail": flaw} for flaw in flaws])
    return FolderFiles(files, _groups_of(root), ignored)


def _after(reason: str) -> str:
    """Return what follows the path: `:LINE:COLUMN: reason` where a place is known."""
    return reason if reason.startswith(":") else f": {reason}"


def _paths_below(root: Path, flaws: list[str]) -> Iterator[Path]:
    """Yield the regular files of the kinds' folders; links and other things are flaws."""
    for name in sorted(FOLDERS.values()):
        yield from _walk(root / name, flaws)


def _walk(path: Path, flaws: list[str]) -> Iterator[Path]:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            for each in sorted(path.iterdir()):
                if not each.name.startswith("."):
                    yield from _walk(each, flaws)
        elif stat.S_ISREG(mode):
            yield path
        else:
            what = "a symbolic link, which is not followed" if stat.S_ISLNK(mode) else "not a file"
            flaws.append(f"{path}: {what}")
    except FileNotFoundError:
        return
    except OSError as error:
        flaws.append(f"{path}: cannot be read: {error.strerror}")


def read_yaml(path: Path) -> tuple[str, Any]:
    """Return the text and the content of a YAML file; raises ValueError with the place."""
    strict_yaml = load_yaml()
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError(f"larger than {_LARGEST_FILE // 1024 // 1024} MiB")
        text = path.read_bytes().decode("utf-8-sig")
        return text, strict_yaml.loads(text, exact=True)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f":{line}: not UTF-8") from None
    except strict_yaml.BadYaml as error:
        place = "" if error.line is None else f":{error.line}:{error.column}"
        raise ValueError(f"{place}: {error.reason}") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def _content_of(entry: Entry, content: Any) -> Content:
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ValueError("does not contain an object")  # noqa: TRY004 - of what the file holds
    if entry.kind != "config":
        return content
    try:
        return nested_tree(content)
    except (BadKey, DuplicateKey, KeysConflict) as error:
        raise ValueError(str(error)) from None


def _groups_of(root: Path) -> Collection[str] | None:
    path = root / MANIFEST
    if not path.is_file():
        return None
    try:
        _, manifest = read_yaml(path)
    except ValueError as error:
        raise usage(f"{path}{_after(str(error))}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise usage(f"{path}: `format` is not {FORMAT}")
    groups = manifest.get("contents")
    if not isinstance(groups, list) or not all(group in GROUPS for group in groups):
        raise usage(f"{path}: `contents` lists what the folder holds: {', '.join(GROUPS)}")
    return groups


@dataclass(frozen=True)
class Written:
    """What an export did to the files of a folder, by their paths in it."""

    written: list[PurePosixPath]
    removed: list[PurePosixPath]
    foreign: list[PurePosixPath]


def write_folder(
    root: Path, contents: Mapping[Entry, Content], groups: Collection[str], *, prune: bool
) -> Written:
    """Write a file for each entry; what else lies there is removed with `prune`, else listed.

    Only files that could have been written here before are removed. Raises Failure.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        present = {PurePosixPath(path.relative_to(root)) for path in _files_to_keep(root)}
        texts = {entry.path: _text_of(entry, content) for entry, content in contents.items()}
        manifest = {"format": FORMAT, "contents": [group for group in GROUPS if group in groups]}
        texts[PurePosixPath(MANIFEST)] = load_yaml().dumps(manifest)
        _refuse_twins(root, texts)
        written = [path for path, text in texts.items() if _write(root, path, text)]
        foreign = sorted(present - texts.keys())
        removed = [path for path in foreign if prune and _is_removable(path, groups)]
        for path in removed:
            _remove(root, path)
    except OSError as error:
        sentence = f"{error.filename or root} cannot be written: {error.strerror}"
        raise failure("file", sentence, ExitCode.FAILED) from None
    return Written(sorted(written), removed, [path for path in foreign if path not in removed])


def _files_to_keep(root: Path) -> list[Path]:
    flaws = [f"{root / MANIFEST}: a symbolic link"] if (root / MANIFEST).is_symlink() else []
    paths = list(_paths_below(root, flaws))
    if flaws:
        raise usage(f"{root} cannot be written", errors=[{"detail": flaw} for flaw in flaws])
    return paths


def _text_of(entry: Entry, content: Content) -> str:
    text: str = load_yaml().dumps(_in_member_order(content) if entry.kind == "config" else content)
    return text


def _in_member_order(value: Any) -> Any:
    """Return a value whose members are in the order of their names, so that it compares well."""
    if isinstance(value, dict):
        return {name: _in_member_order(value[name]) for name in sorted(value)}
    return [_in_member_order(item) for item in value] if isinstance(value, list) else value


def _refuse_twins(root: Path, paths: Collection[PurePosixPath]) -> None:
    """Refuse names that a file system without upper and lower case would take for one."""
    (root / MANIFEST).touch()
    if not (root / MANIFEST.upper()).exists():
        return
    by_name: dict[str, PurePosixPath] = {}
    for path in paths:
        twin = by_name.setdefault(str(path).casefold(), path)
        if twin != path:
            raise usage(f"{path} and {twin} are one file on this file system")


def _write(root: Path, path: PurePosixPath, text: str) -> bool:
    """Write a file if it says something else; return whether it did."""
    place, content = root / path, text.encode()
    if place.is_file() and place.read_bytes() == content:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(place, flags, 0o666), "wb") as file:
        file.write(content)
    return True


def _is_removable(path: PurePosixPath, groups: Collection[str]) -> bool:
    try:
        return entry_at(path).group in groups
    except BadPath:
        return False


def _remove(root: Path, path: PurePosixPath) -> None:
    (root / path).unlink()
    for folder in path.parents[:-2]:
        try:
            (root / folder).rmdir()
        except OSError:  # something else is in it
            return


def failure_at(file: EntryFile, refusal: Failure) -> Failure:
    """Return a refusal with the places in the file of what it names."""
    flaws = refusal.problem.get("errors")
    if not isinstance(flaws, list) or not flaws:
        return refusal.of_file(str(file.path))
    placed = [
        {**flaw, "place": file.place_of(_names_of_flaw(flaw))}
        for flaw in flaws
        if isinstance(flaw, Mapping)
    ]
    return Failure({**refusal.problem, "errors": placed, "file": str(file.path)}, refusal.exit_code)


def _names_of_flaw(flaw: Mapping[str, Any]) -> Sequence[str]:
    if key := flaw.get("key"):
        return names_of(str(key))
    parts = str(flaw.get("pointer") or "").removeprefix("#").split("/")[1:]
    return [unquote(part).replace("~1", "/").replace("~0", "~") for part in parts]
