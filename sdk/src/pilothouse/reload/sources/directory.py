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
from pilothouse.reload.sources.file_watch import stirrings
from pilothouse.reload.validation import Flaw, Rules

_SUFFIXES = frozenset({".yaml", ".yml", ".json", ".toml"})
_SECOND_LOOK_SECONDS = 0.25


class DirectoryConfigSource:
    """All YAML, JSON and TOML files of a directory, later names over earlier ones.

    Files come and go.

    Each is read as `FileConfigSource` does. Names that begin with a dot are left out. The
    directory is one source: while one of its files is broken, what all of them held stays.
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
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - symlinks may come to change
        self.priority = priority
        self.name = name or f"dir:{path}"
        self.rules = rules or Rules()
        self.warnings: tuple[str, ...] = ()
        self._environment = environment
        self._files: dict[str, FileConfigSource] = {}  # what was there when last there was any
        self._seen: list[str] | None = None  # by the last load, whether it succeeded or not

    async def load_config(self) -> Mapping[str, Any]:
        """Return what the files hold, merged.

        Raises SourceUnavailable and BadConfig, which name the file, and SourceUnavailable where
        all files are gone at once: so looks a volume that is not mounted.
        """
        self._seen = None
        names = await self._names()
        if set(self._files) - set(names):
            # Editors and deployments take a file away before they put another in its place.
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            names = await self._names()
        self._seen = names
        if self._files and not names:
            raise SourceUnavailable("all files are gone")
        self._files = {name: self._files.get(name) or self._file(name) for name in names}
        files = self._files.values()
        # All of them, though one be broken: each remembers what it has seen.
        trees = await asyncio.gather(*map(_load_file, files), return_exceptions=True)
        for tree in trees:
            if isinstance(tree, BaseException):
                raise tree
        self.warnings = tuple(f"{file.name}: {one}" for file in files for one in file.warnings)
        return merge_layers(tree for tree in trees if not isinstance(tree, BaseException))

    async def is_modified(self) -> bool:
        """Tell whether a file came, went, or holds something else than the last load saw."""
        try:
            names = await self._names()
        except SourceUnavailable:
            return self._seen is not None
        if names != self._seen:
            return True
        return any([await self._files[name].is_modified() for name in names])

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return what is wrong with `config`, and credentials that are written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when a file comes, goes or changes."""
        if await self.is_modified():
            yield
        async with aclosing(stirrings(self.path / "any file")) as noticed:
            async for _ in noticed:
                if await self.is_modified():
                    yield

    async def _names(self) -> list[str]:
        return await asyncio.to_thread(file_names, self.path)

    def _file(self, name: str) -> FileConfigSource:
        return FileConfigSource(
            self.path / name, name=name, environment=self._environment, rules=self.rules
        )


def file_names(directory: Path) -> list[str]:
    """Return the files that are read, in their order. Raises SourceUnavailable."""
    try:
        # ..data and its like are how Kubernetes swaps the files, not files.
        return sorted(
            entry.name
            for entry in directory.iterdir()
            if suffix_of(entry.name) in _SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()  # a symlink may lead nowhere for a moment
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
