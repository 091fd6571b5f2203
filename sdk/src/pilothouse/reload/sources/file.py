"""A YAML or JSON file as a source."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from pathlib import Path
from typing import Any

from pilothouse.reload.documents import SUFFIXES, read_document, suffix_of, write_document
from pilothouse.reload.errors import InvalidConfig, SourceUnavailable
from pilothouse.reload.expansion import expand_tree
from pilothouse.reload.regular_files import read_regular_file
from pilothouse.reload.sources.file_watch import Signature, directory_events, signature
from pilothouse.reload.validation import Flaw, Rules, hard_coded, texts_of

_UNKNOWN = b"unknown"
_ABSENT = b"absent"


class FileConfigSource:
    """A file that is YAML, JSON, TOML or .env by its suffix, with `${VAR:default}` in its texts.

    Only texts are expanded, never names, and never the value of a variable. A file that is empty,
    has a repeated member or NaN, or is not a mapping is refused.
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
        # Absolute but not resolved: the file may change because a symlink on the path does.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100
        self._suffix = suffix_of(self.path.name)
        if self._suffix not in SUFFIXES:
            raise ValueError(f"{self.path.name} ends in none of {', '.join(SUFFIXES)}")
        self.priority = priority
        self.name = name or f"file:{path}"
        self._environment = os.environ if environment is None else environment
        self.rules = rules or Rules()
        self.warnings: tuple[str, ...] = ()
        """Credentials in the last load, if the rules are to warn of them."""
        self._digest = _UNKNOWN  # of the content at the last load, valid or not
        self._signature: Signature = None
        self.from_variables: AbstractSet[tuple[str, str]] = frozenset()
        """Paths and texts of the last load that come from variables, not from the file."""

    async def load_config(self) -> Mapping[str, Any]:
        """Return the file's content, expanded.

        Raises SourceUnavailable if it cannot be read, BadConfig for its content, MissingVariable
        for a variable that is not set, and InvalidConfig for credentials if the rules refuse them.
        """
        return await asyncio.to_thread(self._load)

    async def save_config(self, config: Mapping[str, Any]) -> None:
        """Replace the file as a whole; a reader sees the old or the new one.

        `config` is written as it is: the references of the earlier file are not restored. Raises
        BadConfig and SourceUnavailable.
        """
        content = write_document(config, self._suffix)
        await asyncio.to_thread(self._write, content)

    async def is_modified(self) -> bool:
        """Tell whether the content of the file differs from the last load."""
        return await asyncio.to_thread(self._is_modified)

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return the flaws of `config`, and the credentials written in it."""
        return self.rules.all_flaws(config)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Yield when the file changes, appears or disappears."""
        if await self.is_modified():
            yield
        async with aclosing(directory_events(self.path)) as events:
            async for _ in events:
                if await self.is_modified():
                    yield

    def _load(self) -> Mapping[str, Any]:
        self._signature = signature(self.path)
        try:
            content = read_regular_file(self.path)
        except OSError as error:
            self._digest = _ABSENT
            raise SourceUnavailable(f"cannot be read: {error.strerror}") from None
        self._digest = _digest(content)
        tree = read_document(content, self._suffix)
        self._look_for_credentials(tree)
        # Without these no text can contain a reference, in any escaping.
        may_refer = b"${" in content or b"\\" in content
        config = expand_tree(tree, self._environment) if may_refer else tree
        self.from_variables = _texts_from_variables(tree, config) if may_refer else frozenset()
        return config

    def _look_for_credentials(self, tree: Mapping[str, Any]) -> None:
        # Before expansion: a password from a variable is allowed.
        self.warnings = ()
        if self.rules.credentials == "ignore":
            return
        flaws = list(hard_coded(tree))
        if flaws and self.rules.credentials == "refuse":
            raise InvalidConfig(flaws)
        self.warnings = tuple(map(str, flaws))

    def _is_modified(self) -> bool:
        current = signature(self.path)
        if current is not None and current == self._signature:
            return False
        try:
            digest = _digest(read_regular_file(self.path))
        except OSError:
            digest = _ABSENT
        if digest == self._digest:
            self._signature = current
        return digest != self._digest

    def _write(self, content: bytes) -> None:
        target = self.path.resolve()
        try:
            with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary = Path(file.name)
            temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o600)
            temporary.replace(target)
        except OSError as error:
            raise SourceUnavailable(f"cannot be written: {error.strerror}") from None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _texts_from_variables(
    written: Mapping[str, Any], config: Mapping[str, Any]
) -> AbstractSet[tuple[str, str]]:
    """Return the texts of `config` that are not in the file, not even as a reference's default."""
    texts: dict[str, list[str]] = {}
    for path, text in texts_of(written):
        texts.setdefault(path, []).append(text)
    return frozenset(
        (path, text)
        for path, text in texts_of(config)
        if not any(text in one for one in texts.get(path, ()))
    )
