"""Environment variables as a source."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pilothouse.reload.errors import BadConfig
from pilothouse.reload.expansion import read_value
from pilothouse.reload.validation import Flaw, Rules
from pilothouse_core.trees import KeysConflict, Tree, graft

_FILE = "_FILE"


class EnvironmentConfigSource:
    """The variables that begin with `PREFIX_`, in lower case, read as JSON or else as text.

    What follows the prefix is split into nested names. `separator=None` decides for each variable:
    where `__` stands anywhere after the prefix, also right after it, only `__` separates; else
    every `_` does. So with the prefix APP `APP_DB_HOST` is `db.host`, `APP_DB__MAX_SIZE` is
    `db.max_size`, and `APP__LOG_LEVEL` is `log_level`. With `secret_files` a variable
    `APP_DB_PASSWORD_FILE` names a file that holds `db.password`, as text.
    """

    kind = "environment"

    def __init__(  # noqa: PLR0913 - each is a choice of its own
        self,
        prefix: str,
        *,
        priority: int = 500,
        name: str | None = None,
        separator: Literal["_", "__"] | None = None,
        secret_files: bool = False,
        ignore: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        rules: Rules | None = None,
    ) -> None:
        if not prefix.rstrip("_"):
            raise ValueError("a prefix is needed: the whole environment is no configuration")
        self.prefix = prefix.rstrip("_")
        self.priority = priority
        self.name = name or f"environment:{self.prefix}"
        self._separator = separator
        self._secret_files = secret_files
        self._ignored = frozenset(ignore)
        self._environment = os.environ if environment is None else environment
        self.rules = rules or Rules()
        self._loaded: Tree | None = None

    async def load_config(self) -> Mapping[str, Any]:
        """Return the variables as a tree.

        Raises BadConfig, which names the variable, for empty names, for two variables of which one
        is the section of the other or that say the same, and for a secret's file that is not there.
        """
        self._loaded = None
        self._loaded = self._read()
        return self._loaded

    async def is_modified(self) -> bool:
        return self._loaded is None or self._read() != self._loaded

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return what is wrong with `config`, and credentials that are written in it."""
        return self.rules.all_flaws(config)

    def _read(self) -> Tree:
        tree: Tree = {}
        seen: dict[str, str] = {}
        for variable, text in sorted(dict(self._environment).items()):
            if not variable.startswith(f"{self.prefix}_") or variable in self._ignored:
                continue
            is_file = self._secret_files and variable.endswith(_FILE)
            path = self._path(variable, variable.removesuffix(_FILE) if is_file else variable)
            if path in seen:
                raise BadConfig(f"{seen[path]} and {variable} both set {path}")
            seen[path] = variable
            value = _secret(variable, text) if is_file else read_value(text)
            try:
                graft(tree, path, value)
            except KeysConflict as error:
                raise BadConfig(f"{variable}: {error}") from None
        return tree

    def _path(self, variable: str, spelling: str) -> str:
        rest = spelling[len(self.prefix) :]
        separator = self._separator or ("__" if "__" in rest else "_")
        names = rest.removeprefix(separator).removeprefix("_").lower().split(separator)
        if not all(names):
            raise BadConfig(f"{variable} has an empty name between its underscores")
        return ".".join(names)


def _secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadConfig(f"the file that {variable} names cannot be read: {reason}") from None
