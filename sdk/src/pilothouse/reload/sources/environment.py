"""Environment variables as a source."""

import os
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from pilothouse.reload.errors import BadConfig
from pilothouse.reload.expansion import read_variable
from pilothouse.reload.names import path_of_variable
from pilothouse.reload.regular_files import read_regular_file
from pilothouse.reload.validation import Flaw, Rules
from pilothouse_core.trees import KeysConflict, Tree, set_in

_FILE = "_FILE"
_LINK = re.compile(r"(?P<service>.+)_PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?", re.ASCII)
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://[^/\s]+:\d+", re.ASCII)


class EnvironmentConfigSource:
    """The variables that begin with `PREFIX_`, in lower case, read as JSON or else as text.

    The part after the prefix is split into nested names. `separator=None` decides for each
    variable: if `__` occurs after the prefix, also directly after it, only `__` separates names;
    otherwise every `_` does. With the prefix APP, `APP_DB_HOST` is `db.host`, `APP_DB__MAX_SIZE` is
    `db.max_size`, and `APP__LOG_LEVEL` is `log_level`. With `secret_files` a variable
    `APP_DB_PASSWORD_FILE` names a file with the value of `db.password`, as text. `True` and `FALSE`
    are booleans as well. With `flat_names` `APP_DB_HOST` is both `db.host` and `db_host`.

    Variables that Kubernetes and Docker set for a Service called `app` or `app-db` are ignored
    (`APP_PORT=tcp://10.0.0.1:80`, `APP_PORT_80_TCP_ADDR`, `APP_SERVICE_HOST`).
    """

    kind = "environment"

    def __init__(  # noqa: PLR0913 - independent options
        self,
        prefix: str,
        *,
        priority: int = 500,
        name: str | None = None,
        separator: Literal["_", "__"] | None = None,
        secret_files: bool = False,
        flat_names: bool = False,
        ignore: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        rules: Rules | None = None,
    ) -> None:
        if not prefix.rstrip("_"):
            raise ValueError("a prefix is needed: the whole environment is not a configuration")
        self.prefix = prefix.rstrip("_")
        self.priority = priority
        self.name = name or f"environment:{self.prefix}"
        self._separator = separator
        self._secret_files = secret_files
        self._flat_names = flat_names
        self._ignored = frozenset(ignore)
        self._environment = os.environ if environment is None else environment
        self.rules = rules or Rules()
        self._loaded: Tree | None = None

    async def load_config(self) -> Mapping[str, Any]:
        """Return the variables as a tree.

        Raises BadConfig, which names the variable, for empty names, for two variables of which one
        is the section of the other or that set the same key, and for a missing file of a secret.
        """
        self._loaded = None
        self._loaded = self._read()
        return self._loaded

    async def is_modified(self) -> bool:
        return self._loaded is None or self._read() != self._loaded

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return the flaws of `config`, and the credentials written in it."""
        return self.rules.all_flaws(config)

    def _read(self) -> Tree:
        tree: Tree = {}
        flat: Tree = {}
        seen: dict[str, str] = {}
        known = dict(self._environment)
        ignored = self._ignored | find_service_links(known)
        for variable, text in sorted(known.items()):
            if not variable.startswith(f"{self.prefix}_") or variable in ignored:
                continue
            is_file = self._secret_files and variable.endswith(_FILE)
            spelling = variable.removesuffix(_FILE) if is_file else variable
            path = path_of_variable(variable, spelling[len(self.prefix) :], self._separator)
            if path in seen:
                raise BadConfig(f"{seen[path]} and {variable} both set {path}")
            seen[path] = variable
            value = _secret(variable, text) if is_file else read_variable(text)
            try:
                set_in(tree, path, value)
            except KeysConflict as error:
                raise BadConfig(f"{variable}: {error}") from None
            if self._flat_names:
                flat[path.replace(".", "_")] = value
        return {**flat, **tree}


def find_service_links(known: Mapping[str, str]) -> frozenset[str]:
    """Return the variables that Kubernetes and Docker set for each Service that a program sees."""
    links = {name: match["service"] for name in known if (match := _LINK.fullmatch(name))}
    services = {links[name] for name in links if _LINK_ADDRESS.fullmatch(known[name])}
    names = {name for name, service in links.items() if service in services}
    for name, text in known.items():
        if name.endswith("_PORT") and _LINK_ADDRESS.fullmatch(text):
            services.add(name.removesuffix("_PORT"))
            names.add(name)
    for service in services:
        if _is_address(known.get(f"{service}_SERVICE_HOST", "")):
            names.add(f"{service}_SERVICE_HOST")
        ports = f"{service}_SERVICE_PORT"
        names |= {
            name
            for name, text in known.items()
            if (name == ports or name.startswith(f"{ports}_")) and text.isdecimal()
        }
    return frozenset(names)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _secret(variable: str, path: str) -> str:
    try:
        return read_regular_file(Path(path)).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadConfig(f"the file that {variable} names cannot be read: {reason}") from None
