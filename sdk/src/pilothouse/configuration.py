"""The configuration in memory: reads never wait, and listeners learn of changes."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

from pilothouse import config_state
from pilothouse.callbacks import Listeners, WarnOnce, call_back
from pilothouse.changes import ConfigChange, changes_between, concerns
from pilothouse.config_state import ConfigState, Source
from pilothouse.conversions import UNREADABLE, read_boolean, read_integer, read_list, read_number
from pilothouse.copies import deep_copy
from pilothouse_core.keys import canonical_key
from pilothouse_core.trees import copy_sections, node_at

Default = TypeVar("Default")
OnChange = Callable[[ConfigChange], object]
OnUpdate = Callable[[ConfigState, tuple[ConfigChange, ...]], object]
__all__ = ["ConfigState", "Configuration", "Model", "OnChange", "OnUpdate", "Source"]
_MOVED = ("state_of", "without_secrets")


class Model(Protocol):
    """What `as_model` needs: a Pydantic model has it."""

    @classmethod
    def model_validate(cls, obj: Any, /) -> Any: ...


ModelType = TypeVar("ModelType", bound=Model)


class Configuration:
    """Reads of one configuration, and callbacks for its changes. Safe to use from every thread."""

    def __init__(
        self,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Hold `defaults`, until `swap` is called."""
        self.defaults = copy_sections(defaults or {})
        self._held = ConfigState(self.defaults)
        # Hooks of the client: before a read, for callbacks, for the age of the content.
        self.touch: Callable[[], None] = lambda: None
        self.deliver: Callable[[Callable[[], None]], None] = lambda call: call()
        self._listeners = Listeners("configuration")
        self._warnings = WarnOnce()
        self.age_of: Callable[[], float] = lambda: math.inf
        self.stale_after = 0.0

    # Reading

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at a dotted key, a section as a dict; `default` where there is none.

        Lists and dicts are the caller's own copies. A `null` that was configured is None.
        """
        self.touch()
        value = self._held.at(key, UNREADABLE)
        if value is UNREADABLE:
            if {key, canonical_key(key)} & self._held.masked:
                self._warn(key, "is a secret; read it with reveal_secrets=True")
            return default
        return deep_copy(value) if isinstance(value, (dict, list)) else value

    @overload
    def get_int(self, key: str) -> int | None: ...
    @overload
    def get_int(self, key: str, default: Default) -> int | Default: ...
    def get_int(self, key: str, default: Any = None) -> Any:
        """Return a whole number, also one that is spelled as text; else `default`."""
        return self._read(key, default, read_integer)

    @overload
    def get_float(self, key: str) -> float | None: ...
    @overload
    def get_float(self, key: str, default: Default) -> float | Default: ...
    def get_float(self, key: str, default: Any = None) -> Any:
        """Return a finite number, also one that is spelled as text; else `default`."""
        return self._read(key, default, read_number)

    @overload
    def get_bool(self, key: str) -> bool | None: ...
    @overload
    def get_bool(self, key: str, default: Default) -> bool | Default: ...
    def get_bool(self, key: str, default: Any = None) -> Any:
        """Return a boolean; true, yes, on, 1 and their opposites are read as well."""
        return self._read(key, default, read_boolean)

    @overload
    def get_list(self, key: str) -> list[Any] | None: ...
    @overload
    def get_list(self, key: str, default: Default) -> list[Any] | Default: ...
    def get_list(self, key: str, default: Any = None) -> Any:
        """Return a list; text is split at its commas."""
        return self._read(key, default, read_list)

    def section(self, key: str = "") -> dict[str, Any]:
        """Return everything below `key` as nested dicts, a copy; {} where there is no section."""
        self.touch()
        value = node_at(self._held.data, key) if key else self._held.data
        return deep_copy(value) if isinstance(value, dict) else {}

    def as_model(self, model: type[ModelType], section: str = "") -> ModelType:
        """Return a section as a Pydantic model; raises its ValidationError."""
        validated: ModelType = model.model_validate(self.section(section))
        return validated

    def __contains__(self, key: object) -> bool:
        self.touch()
        return isinstance(key, str) and self._held.at(key, UNREADABLE) is not UNREADABLE

    def _read(self, key: str, default: Any, reader: Callable[[Any], Any]) -> Any:
        value = self.get(key, UNREADABLE)
        if value is UNREADABLE:
            return default
        read = reader(value)
        if read is UNREADABLE:
            self._warn(key, f"is not readable as {reader.__name__.removeprefix('read_')}")
            return default
        return read

    def _warn(self, key: str, reason: str) -> None:
        """Log a warning once for each key, never with its value."""
        self._warnings.warn(key, "configuration key %s %s; the default is used", key, reason)

    # What is held, and how old it is

    @property
    def held(self) -> ConfigState:
        """The whole state; several reads of one `held` never see two versions."""
        self.touch()
        return self._held

    @property
    def source(self) -> Source:
        return self._held.source

    @property
    def revision(self) -> int:
        return self._held.revision

    @property
    def version(self) -> str:
        return self._held.version

    @property
    def age(self) -> float:
        """The seconds since the service last confirmed what is held; infinite if it never did."""
        return self.age_of()

    @property
    def is_stale(self) -> bool:
        """Whether the service may have something newer."""
        return self.source != "service" or self.age > self.stale_after

    # Changes

    def on_change(self, key_or_prefix: str, callback: OnChange) -> Callable[[], None]:
        """Call `callback` with every ConfigChange of a key, or below a section; "" is everything.

        Returns a function that ends it. What a callback raises is logged. With `AsyncPilothouse`
        it may be a coroutine function.
        """

        def report(_: ConfigState, changes: tuple[ConfigChange, ...]) -> None:
            for change in changes:
                if concerns(key_or_prefix, change.path):
                    call_back("configuration", callback, change)

        return self.on_update(report)

    def on_update(self, callback: OnUpdate) -> Callable[[], None]:
        """Call `callback` once for each new state, with all that changed; as `on_change`."""
        self.touch()
        return self._listeners.add(callback)

    def swap(self, held: ConfigState) -> None:
        """Replace the state, and notify the listeners."""
        before, self._held = self._held, held
        self._warnings.clear()
        if not self._listeners:
            return  # at a start, where all is new, to compare takes as long as to read
        if changes := changes_between(before.data, held.data):
            self.deliver(lambda: self._listeners.call(held, changes))


def __getattr__(name: str) -> Any:
    """Return a function of `pilothouse.config_state` under its earlier name, with a warning."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.{name} is deprecated: use pilothouse.config_state.{name}",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(config_state, name)
