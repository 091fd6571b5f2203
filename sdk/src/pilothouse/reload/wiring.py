"""A manager from what the environment of the process says, and nothing else."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pilothouse.reload.encryption import key_from_file
from pilothouse.reload.errors import BadConfig, SourceUnavailable
from pilothouse.reload.manager import ConfigManager
from pilothouse.reload.sources.directory import DirectoryConfigSource, file_names
from pilothouse.reload.sources.environment import EnvironmentConfigSource
from pilothouse.reload.sources.file import FileConfigSource
from pilothouse.reload.sources.port import ConfigSource
from pilothouse.reload.sources.remote import RemoteConfigSource
from pilothouse.reload.sources.service import PilothouseConfigSource
from pilothouse.reload.sources.vault import VaultConfigSource

DIRECTORY, WATCH, SOURCES = "CONFIG_DIR", "APP_CONFIG_WATCH", "APP_CONFIG_SOURCES"
KEY_FILE = "APP_CONFIG_KEY_FILE"
_PREFIX = "APP"
_OWN = (WATCH, SOURCES, KEY_FILE)
_FIRST_PRIORITY, _STEP = 100, 10
_SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on", ""), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def manager_from_environment(environment: Mapping[str, str] | None = None) -> ConfigManager:
    """Return a manager, not started, for these variables.

    `CONFIG_DIR`: a directory whose YAML and JSON files are read, later names over earlier ones;
    files that come later as well.
    `APP_CONFIG_WATCH`: whether to watch files; true unless it says false.
    `APP_CONFIG_SOURCES`: sources with commas between them, each over those before it: `dir` (that
    directory), `file:PATH`, `env:PREFIX`, `vault:PATH`, `pilothouse`, or an http or https URL.
    Without it: `dir` where there is `CONFIG_DIR`, and `env:APP`.
    `APP_CONFIG_KEY_FILE`: the file that holds the key of encrypted values.
    A variable of `env:PREFIX` that ends in `_FILE` names a file with the value, as text.

    Raises BadConfig, which names the variable that is wrong.
    """
    known = os.environ if environment is None else environment
    watch = known.get(WATCH, "").strip().lower()
    if watch not in _SWITCH:
        raise BadConfig(f"{WATCH} is neither true nor false")
    manager = ConfigManager(watch_files=_SWITCH[watch], encryption_key=_keys(known))
    priority = _FIRST_PRIORITY
    for text in _named_sources(known):
        source = _source(text, known, priority)
        try:
            manager.add_source(source)
        except ValueError as error:
            raise BadConfig(f"{SOURCES}: {error}") from None
        priority += _STEP
    return manager


def _keys(known: Mapping[str, str]) -> list[bytes | str]:
    path = known.get(KEY_FILE)
    if not path:
        return []
    try:
        return [key_from_file(path)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadConfig(f"{KEY_FILE}: {reason}") from None


def _named_sources(known: Mapping[str, str]) -> list[str]:
    named = [text.strip() for text in known.get(SOURCES, "").split(",") if text.strip()]
    return named or [*(["dir"] if known.get(DIRECTORY) else []), f"env:{_PREFIX}"]


def _source(text: str, known: Mapping[str, str], priority: int) -> ConfigSource:
    kind, _, rest = text.partition(":")
    try:
        match kind:
            case "dir":
                return _directory(known, priority)
            case "file":
                return FileConfigSource(rest, priority=priority, environment=known)
            case "env":
                return EnvironmentConfigSource(
                    rest or _PREFIX,
                    priority=priority,
                    secret_files=True,
                    ignore=_OWN,
                    environment=known,
                )
            case "http" | "https":
                return RemoteConfigSource(text, priority=priority)
            case "pilothouse":
                return PilothouseConfigSource(
                    _needed(known, "PILOTHOUSE_URL"),
                    _needed(known, "PILOTHOUSE_SERVICE"),
                    known.get("PILOTHOUSE_ENVIRONMENT", "default"),
                    _token(known, "PILOTHOUSE_TOKEN"),
                    priority=priority,
                )
            case "vault":
                token = _token(known, "VAULT_TOKEN")
                address = _needed(known, "VAULT_ADDR")
                return VaultConfigSource(address, rest, token, priority=priority)
    except ValueError as error:
        raise BadConfig(f"{SOURCES}: {kind}: {error}") from None
    raise BadConfig(f"{SOURCES}: {kind!r} is none of dir, file, env, vault, pilothouse and a URL")


def _directory(known: Mapping[str, str], priority: int) -> ConfigSource:
    path = Path(_needed(known, DIRECTORY))
    try:
        file_names(path)
    except SourceUnavailable as error:
        raise BadConfig(f"{DIRECTORY}: {error}") from None
    return DirectoryConfigSource(path, priority=priority, environment=known)


def _needed(known: Mapping[str, str], variable: str) -> str:
    if not known.get(variable):
        raise BadConfig(f"{variable} is not set")
    return known[variable]


def _token(known: Mapping[str, str], variable: str) -> str | Callable[[], str] | None:
    """Return a token, or what reads it: one that is renewed in its file is used at once."""
    path = known.get(f"{variable}_FILE")
    if not path:
        return known.get(variable)
    if known.get(variable):
        raise BadConfig(f"{variable} and {variable}_FILE are both set")
    file = Path(path)
    return lambda: file.read_text(encoding="utf-8").strip()
