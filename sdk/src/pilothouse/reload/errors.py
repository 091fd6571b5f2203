"""What can go wrong with configurations that are read while a program runs."""

from collections.abc import Mapping, Sequence


class ReloadError(Exception):
    """Something a source or its content cannot be used for; the last good part stays."""


class BadConfig(ReloadError):
    """The content of a source cannot be read, or cannot be read in only one way."""


class MissingVariable(BadConfig):
    """`${NAME}` without a default names an environment variable that is not set."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"not set in the environment, and without default: {', '.join(names)}")
        self.names = tuple(names)


class Undecryptable(BadConfig):
    """A value is encrypted, and no key that was given opens it."""


class SourceUnavailable(ReloadError):
    """What holds a source's content cannot be reached, refuses, or answers something else."""


class InvalidConfig(ReloadError):
    """A configuration breaks its rules; `flaws` names each place, never a value."""

    def __init__(self, flaws: Sequence[object]) -> None:
        super().__init__("; ".join(map(str, flaws)))
        self.flaws = tuple(flaws)


class StartFailed(ReloadError):
    """A source that must be there could not be loaded when the manager started."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in errors.items()))
        self.errors = dict(errors)


class NotInitialized(ReloadError):
    """`initialize_config_manager` has not been called in this process."""
