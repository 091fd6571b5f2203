"""A directory of YAML and JSON files as a source."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from pilothouse.reload.documents import suffix_of
from pilothouse.reload.errors import BadConfig, ReloadError, SourceUnavailable
from pilothouse.reload.merge import merge_layers
from pilothouse.reload.sources.file import FileConfigSource
from pilothouse.reload.sources.file_watch import directory_events
from pilothouse.reload.validation import Flaw, Rules

_SUFFIXES = frozenset({".yaml", ".yml", ".json", ".toml"})
_SECOND_LOOK_SECONDS = 0.25


class DirectoryConfigSource:
    """All YAML, JSON and TOML files of a directory; later names override earlier ones.

    Files may be added and removed. Each is read as `FileConfigSource` does. Names that begin with
    a dot are ignored. The directory is one source: while one of its files is invalid, the last
    content of all of them stays in force.
    """

    kind = "file"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        priority: int = 100,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - symlinks on the path may change
        self.priority = priority
        self.name = name or f"dir:{path}"
        self.rules = rules or Rules()
        self.warnings: tuple[str, ...] = ()
        self._environment = environment
        self._files: dict[str, FileConfigSource] = {}  # of the last load that found any
        self._seen: list[str] | None = None  # names, of the last load, also of one that failed

    async def load_config(self) -> Mapping[str, Any]:
        """Return the content of the files, merged.

        Raises SourceUnavailable and BadConfig, which name the file, and SourceUnavailable if all
        files are gone at once, as with a volume that is not mounted.
        """
        self._seen = None
        names = await self._names()
        if set(self._files) - set(names):
            # Editors and deployments remove a file before they create its successor.
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            names = await self._names()
        self._seen = names
        if self._files and not names:
            raise SourceUnavailable("all files are gone")
        self._files = {name: self._files.get(name) or self._file(name) for name in names}
        files = self._files.values()
        # All of them, even if one is invalid: each remembers the content of its last load.
        trees = await asyncio.gather(*map(_load_file, files), return_exceptions=True)
        for tree in trees:
            if isinstance(tree, BaseException):
                raise tree
        self.warnings = tuple(f"{file.name}: {one}" for file in files for one in file.warnings)
        return merge_layers(tree for tree in trees if not isinstance(tree, BaseException))

    async def is_modified(self) -> bool:
        """Tell whether a file was added, removed, or changed since the last load."""
        try:
            names = await self._names()
        except SourceUnavailable:
            return self._seen is not None
        if names != self._seen:
            return True
        return any([await self._files[name].is_modified() for name in names])

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return the flaws of `config`, and the credentials written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when a file is added, removed or changed."""
        if await self.is_modified():
            yield
        async with aclosing(directory_events(self.path / "any file")) as events:
            async for _ in events:
                if await self.is_modified():
                    yield

    async def _names(self) -> list[str]:
        return await asyncio.to_thread(file_names, self.path)

    def _file(self, name: str) -> FileConfigSource:
        return FileConfigSource(
            self.path / name, name=name, environment=self._environment, rules=self.rules
        )


def file_names(directory: Path) -> list[str]:
    """Return the names of the files that are read, in order. Raises SourceUnavailable."""
    try:
        # Names such as ..data are the symlinks by which Kubernetes swaps the files.
        return sorted(
            entry.name
            for entry in directory.iterdir()
            if suffix_of(entry.name) in _SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()  # a symlink may be dangling while files are swapped
        )
    except OSError as error:
        raise SourceUnavailable(f"cannot be read: {error.strerror}") from None


async def _load_file(file: FileConfigSource) -> Mapping[str, Any]:
    try:
        return await file.load_config()
    except SourceUnavailable as error:
        raise SourceUnavailable(f"{file.name}: {error}") from error
    except ReloadError as error:
        raise BadConfig(f"{file.name}: {error}") from error
