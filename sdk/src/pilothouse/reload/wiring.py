"""A manager configured by environment variables alone."""

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
KEY_FILE, URL = "APP_CONFIG_KEY_FILE", "APP_CONFIG_URL"
OWN = (WATCH, SOURCES, KEY_FILE, URL)
"""Variables with the prefix of the program that are not part of its configuration."""
_PREFIX = "APP"
_WORDS = "dir, file, env, remote, vault, pilothouse"
_FIRST_PRIORITY, _STEP = 100, 10
_SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on", ""), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def manager_from_environment(environment: Mapping[str, str] | None = None) -> ConfigManager:
    """Return a manager, not started, for these variables.

    `CONFIG_DIR`: a directory; its YAML and JSON files are read, later names override earlier ones,
    and files may be added and removed.
    `APP_CONFIG_WATCH`: whether to watch files, true by default.
    `APP_CONFIG_SOURCES`: sources separated by commas, each overriding those before it: `file` or
    `dir` (that directory), `file:PATH`, `env` (the prefix APP) or `env:PREFIX`, `remote` (the URL
    in `APP_CONFIG_URL`) or an http or https URL, `vault:PATH`, `pilothouse`.
    The default is `dir`, if `CONFIG_DIR` is set, and then `env`.
    `APP_CONFIG_KEY_FILE`: the file with the key of encrypted values.
    A variable of `env` that ends in `_FILE` names a file with the value, as text; `APP_DEBUG_MODE`
    is both `debug.mode` and `debug_mode`.

    Raises BadConfig, which names the invalid variable.
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
    make = _MAKERS.get(kind)
    if make is None:
        raise BadConfig(f"{SOURCES}: {kind!r} is not one of {_WORDS} and a URL")
    try:
        return make(text, rest, known, priority)
    except ValueError as error:
        raise BadConfig(f"{SOURCES}: {kind}: {error}") from None


def _file(_: str, path: str, known: Mapping[str, str], priority: int) -> ConfigSource:
    if not path:
        return _directory(_, path, known, priority)
    return FileConfigSource(path, priority=priority, environment=known)


def _environment(_: str, prefix: str, known: Mapping[str, str], priority: int) -> ConfigSource:
    return EnvironmentConfigSource(
        prefix or _PREFIX,
        priority=priority,
        secret_files=True,
        flat_names=True,
        ignore=OWN,
        environment=known,
    )


def _url(url: str, _: str, __: Mapping[str, str], priority: int) -> ConfigSource:
    return RemoteConfigSource(url, priority=priority)


def _remote(_: str, __: str, known: Mapping[str, str], priority: int) -> ConfigSource:
    return RemoteConfigSource(_required_variable(known, URL), priority=priority)


def _pilothouse(_: str, __: str, known: Mapping[str, str], priority: int) -> ConfigSource:
    return PilothouseConfigSource(
        _required_variable(known, "PILOTHOUSE_URL"),
        _required_variable(known, "PILOTHOUSE_SERVICE"),
        known.get("PILOTHOUSE_ENVIRONMENT", "default"),
        _token(known, "PILOTHOUSE_TOKEN"),
        priority=priority,
    )


def _vault(_: str, path: str, known: Mapping[str, str], priority: int) -> ConfigSource:
    token = _token(known, "VAULT_TOKEN")
    return VaultConfigSource(
        _required_variable(known, "VAULT_ADDR"), path, token, priority=priority
    )


def _directory(_: str, __: str, known: Mapping[str, str], priority: int) -> ConfigSource:
    path = Path(_required_variable(known, DIRECTORY))
    try:
        file_names(path)
    except SourceUnavailable as error:
        raise BadConfig(f"{DIRECTORY}: {error}") from None
    return DirectoryConfigSource(path, priority=priority, environment=known)


def _required_variable(known: Mapping[str, str], variable: str) -> str:
    if not known.get(variable):
        raise BadConfig(f"{variable} is not set")
    return known[variable]


def _token(known: Mapping[str, str], variable: str) -> str | Callable[[], str] | None:
    """Return a token, or a function that reads it: a token renewed in its file is used at once."""
    path = known.get(f"{variable}_FILE")
    if not path:
        return known.get(variable)
    if known.get(variable):
        raise BadConfig(f"{variable} and {variable}_FILE are both set")
    file = Path(path)
    return lambda: file.read_text(encoding="utf-8").strip()


_MAKERS: Mapping[str, Callable[[str, str, Mapping[str, str], int], ConfigSource]] = {
    "dir": _directory,
    "file": _file,
    "env": _environment,
    "remote": _remote,
    "http": _url,
    "https": _url,
    "vault": _vault,
    "pilothouse": _pilothouse,
}
"""By the word before the colon; arguments: the whole text, the part after it, and variables."""
