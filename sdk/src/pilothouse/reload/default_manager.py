"""The one manager of a process, for programs that do not pass theirs around."""

from typing import Any

from pilothouse.reload.errors import NotInitialized
from pilothouse.reload.manager import ConfigManager
from pilothouse.reload.wiring import manager_from_environment

_current: ConfigManager | None = None


async def initialize_config_manager(manager: ConfigManager | None = None) -> ConfigManager:
    """Start a manager and make it the one of this process; return it.

    Without an argument it is created from `CONFIG_DIR`, `APP_CONFIG_WATCH` and
    `APP_CONFIG_SOURCES`, see `manager_from_environment`. The previous manager is stopped once the
    new one has started. Raises StartFailed and BadConfig.
    """
    before, started = _current, manager or manager_from_environment()
    await started.start()
    _make_current(started)
    if before is not None and before is not started:
        await before.stop()
    return started


def initialize_config_manager_sync(manager: ConfigManager | None = None) -> ConfigManager:
    """The form of `initialize_config_manager` for a program without an event loop."""
    before, started = _current, manager or manager_from_environment()
    started.start_sync()
    _make_current(started)
    if before is not None and before is not started:
        before.stop_sync()
    return started


async def shutdown_config_manager() -> None:
    """Stop the manager of this process, if there is one, and forget it."""
    before = _current
    _make_current(None)
    if before is not None:
        await before.stop()


def shutdown_config_manager_sync() -> None:
    """The form of `shutdown_config_manager` for a program without an event loop."""
    before = _current
    _make_current(None)
    if before is not None:
        before.stop_sync()


def get_config_manager() -> ConfigManager:
    """Return the manager of this process. Raises NotInitialized."""
    if _current is None:
        raise NotInitialized("call initialize_config_manager first")
    return _current


def find_config_manager() -> ConfigManager | None:
    """Return the manager of this process, None if there is none."""
    return _current


def get_config(path: str, default: Any = None) -> Any:
    """Return a value of the manager of this process. Raises NotInitialized."""
    return get_config_manager().get_config(path, default)


def get_config_section(path: str = "") -> dict[str, Any]:
    """Return a section of the manager of this process. Raises NotInitialized and TypeError."""
    return get_config_manager().get_section(path)


def _make_current(manager: ConfigManager | None) -> None:
    global _current  # noqa: PLW0603 - the state of this module: one for the process
    _current = manager
