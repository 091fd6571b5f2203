"""Errors of configurations that are read while a program runs."""

from collections.abc import Mapping, Sequence


class ReloadError(Exception):
    """A source or its content cannot be used; its last good content stays in force."""


class BadConfig(ReloadError):
    """The content of a source is malformed or ambiguous."""


class MissingVariable(BadConfig):
    """`${NAME}` without a default names an environment variable that is not set."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"not set in the environment, and without default: {', '.join(names)}")
        self.names = tuple(names)


class Undecryptable(BadConfig):
    """A value is encrypted, and none of the given keys decrypts it."""


class SourceUnavailable(ReloadError):
    """The server or file of a source is unreachable, refuses, or gives an unexpected answer."""


class InvalidConfig(ReloadError):
    """A configuration breaks its rules; `flaws` has each path, never a value."""

    def __init__(self, flaws: Sequence[object]) -> None:
        super().__init__("; ".join(map(str, flaws)))
        self.flaws = tuple(flaws)


class StartFailed(ReloadError):
    """A required source could not be loaded when the manager started."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in errors.items()))
        self.errors = dict(errors)


class NotInitialized(ReloadError):
    """`initialize_config_manager` has not been called in this process."""
