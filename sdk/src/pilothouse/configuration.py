"""The configuration that is held: every read is a look into memory, and answers at once."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, overload

from pilothouse.callbacks import call_back
from pilothouse.changes import ConfigChange, changes_between, concerns
from pilothouse.conversions import UNREADABLE, read_boolean, read_integer, read_list, read_number
from pilothouse.copies import deep_copy
from pilothouse_core.keys import canonical_key, join_item, join_member
from pilothouse_core.layers import merge
from pilothouse_core.trees import (
    OWN_VALUE,
    Tree,
    child_key,
    copy_sections,
    is_secret,
    is_section,
    node_at,
)

Source = Literal["service", "snapshot", "defaults"]
Default = TypeVar("Default")
OnChange = Callable[[ConfigChange], object]
OnUpdate = Callable[["ConfigState", tuple[ConfigChange, ...]], object]
_log = logging.getLogger("pilothouse")


class Model(Protocol):
    """What `as_model` needs: a Pydantic model has it."""

    @classmethod
    def model_validate(cls, obj: Any, /) -> Any: ...


ModelType = TypeVar("ModelType", bound=Model)


@dataclass(frozen=True)
class ConfigState:
    """One state of the configuration, never changed: a new one takes its place.

    `data` are the nested values; masked secrets have no value here, their keys are `masked`.
    `revision` is that of the newest change in it, `version` the service's ETag ("" for none).
    """

    data: Tree = field(default_factory=dict)
    source: Source = "defaults"
    revision: int = 0
    version: str = ""
    masked: frozenset[str] = frozenset()
    index: Mapping[str, Any] = field(init=False, repr=False)  # every key, of sections as well

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", dict(_key_values(self.data, "")))

    def at(self, key: str, default: Any) -> Any:
        """Return the leaf or section at a key, in whatever spelling, or `default`."""
        value = self.index.get(key, UNREADABLE)
        if value is UNREADABLE:
            value = self.index.get(canonical_key(key), UNREADABLE) if "[" in key else value
            value = node_at(self.data, key, UNREADABLE) if value is UNREADABLE else value
        return default if value is UNREADABLE else value

    def own_data(self) -> Tree:
        """Return a copy of the nested values, for a caller that may change it."""
        return deep_copy(self.data)


def state_of(
    data: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    source: Source,
    revision: int = 0,
    version: str = "",
) -> ConfigState:
    """Return the state that holds `data` above `defaults`, without the secrets that are masked."""
    plain, masked = without_secrets(data)
    if defaults:
        plain = merge([("defaults", defaults), (source, plain)]).data
    return ConfigState(plain, source, revision, version, frozenset(masked))


def without_secrets(tree: Mapping[str, Any], prefix: str = "") -> tuple[Tree, set[str]]:
    """Return a copy without its secrets, and their keys.

    In a list, a secret item is None: the others keep their numbers.
    """
    plain: Tree = {}
    masked: set[str] = set()
    for name, value in tree.items():
        key = child_key(prefix, name)
        if is_secret(value):
            masked.add(key)
        elif is_section(value):
            below, hidden = without_secrets(value, key)
            masked |= hidden
            if below:
                plain[name] = below
        else:
            plain[name] = _without_items(value, key, masked)
    return plain, masked


def _without_items(value: Any, key: str, masked: set[str]) -> Any:
    """Return what lies in a leaf without its secrets, and add their keys to `masked`."""
    if isinstance(value, list):
        return [_without_items(item, join_item(key, i), masked) for i, item in enumerate(value)]
    if is_secret(value):
        masked.add(key)
        return None
    if is_section(value):
        inner = {n: _without_items(each, join_member(key, n), masked) for n, each in value.items()}
        return {name: each for name, each in inner.items() if not is_secret(value[name])}
    return value


def _key_values(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = child_key(prefix, name)
        yield key, value
        if is_section(value):
            yield from _key_values(value, key)
            if OWN_VALUE in value:  # what is read at the key is that, and not the section
                yield key, value[OWN_VALUE]


class Configuration:
    """Reads, and news of changes. Safe to use from every thread."""

    def __init__(
        self,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Hold `defaults`, until `swap` is called."""
        self.defaults = copy_sections(defaults or {})
        self._held = ConfigState(self.defaults)
        # What the client does before a read, on which thread callbacks run, what it knows of age.
        self.touch: Callable[[], None] = lambda: None
        self.deliver: Callable[[Callable[[], None]], None] = lambda call: call()
        self._listeners: dict[object, OnUpdate] = {}
        self._told: set[str] = set()
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
        return deep_copy(value)

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

    def _warn(self, key: str, what: str) -> None:
        """Say it once, and never the value."""
        if key not in self._told:
            self._told.add(key)
            _log.warning("configuration key %s %s; the default is used", key, what)

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
        token = object()
        self._listeners[token] = callback
        return lambda: self._listeners.pop(token, None) and None

    def swap(self, held: ConfigState) -> None:
        """Hold another state from now on, and tell the listeners."""
        before, self._held = self._held, held
        self._told.clear()
        if not self._listeners:
            return  # at a start, where all is new, to compare takes as long as to read
        if changes := changes_between(before.data, held.data):
            self.deliver(lambda: self._tell(held, changes))

    def _tell(self, held: ConfigState, changes: tuple[ConfigChange, ...]) -> None:
        for callback in list(self._listeners.values()):
            call_back("configuration", callback, held, changes)
