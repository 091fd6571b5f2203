"""A client for tests of programs that use one: no service, no thread, no file.

It takes the very way that answers of the service take, and passes the same tests as the real
client does against the real service.
"""

from collections.abc import Mapping
from typing import Any

from pilothouse.client import Pilothouse
from pilothouse.config_state import state_of
from pilothouse.flags.overrides import definition_of
from pilothouse.flags.state import Key, Kind, apply_update
from pilothouse_core.trees import Tree, copy_sections, set_in, without_key


class FakePilothouse(Pilothouse):
    """What a `Pilothouse` is, and whatever is set is there when the call returns.

    It inherits so that it may stand wherever a program asks for a `Pilothouse`; for an
    `AsyncPilothouse` there is `client`. Callbacks have run when the call that caused them returns.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
        service: str = "fake",
        environment: str = "default",
        *,
        user: str | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin with `config`, nested as it is read, and with `flags` by their values."""
        super().__init__(
            "http://fake.invalid", service, environment, user=user, defaults=defaults, offline=True
        )
        for held in (self.config, self.flags):
            held.age_of = lambda: 0.0
            held.stale_after = 1.0
        self._revision = 0
        self._data: Tree = {}
        self._definitions: Mapping[Key, Mapping[str, Any]] = {}
        self._hold({})
        self.replace(config or {})
        for name, value in (flags or {}).items():
            self.set_flag(name, value)

    def ready(self, within: float | None = None) -> bool:  # noqa: ARG002 - as the real one
        return True

    # Configuration

    def set(self, key: str, value: Any) -> None:
        """Set the value at a dotted key; raises KeysConflict where it would lie below a value."""
        data = copy_sections(self._data)
        set_in(data, key, value)
        self.replace(data)

    def unset(self, key: str) -> None:
        """Remove a key, or a section with all that is in it."""
        self.replace(without_key(self._data, key))

    def replace(self, data: Mapping[str, Any]) -> None:
        """Make this the whole configuration, nested as it is read."""
        self._data = copy_sections(data)
        revision, version = self._next()
        self.config.swap(
            state_of(
                self._data,
                self.config.defaults,
                source="service",
                revision=revision,
                version=version,
            )
        )

    # Flags

    def set_flag(self, name: str, value: Any) -> None:
        """Serve `value` to all callers: a boolean, string, number, dict or list.

        Raises ValueError for what no flag can be.
        """
        self.define_flag(definition_of(name, value))

    def define_flag(self, definition: Mapping[str, Any]) -> None:
        """Set a flag with variants, rules and prerequisites, written as for the service.

        Raises ValueError for one that the service would refuse.
        """
        self._define("flag", definition)

    def define_segment(self, definition: Mapping[str, Any]) -> None:
        """Set a segment, written as for the service; raises ValueError."""
        self._define("segment", definition)

    def remove_flag(self, name: str) -> None:
        """Remove a flag; raises ValueError where another needs it."""
        key: Key = ("flag", name)
        self._hold(
            {known: definition for known, definition in self._definitions.items() if known != key}
        )

    def _define(self, kind: Kind, definition: Mapping[str, Any]) -> None:
        key = (kind, str(definition.get("name")))
        version = self._definitions.get(key, {"version": 0})["version"] + 1
        self._hold({**self._definitions, key: {**definition, "version": version}})

    def _hold(self, definitions: Mapping[Key, Mapping[str, Any]]) -> None:
        revision, version = self._next()
        kinds: dict[Kind, list[Any]] = {"flag": [], "segment": []}
        for (kind, _), definition in definitions.items():
            kinds[kind].append(definition)
        body = {"revision": revision, "flags": kinds["flag"], "segments": kinds["segment"]}
        held = apply_update(self.flags.state, body, "service", version)
        if held.unreadable or held.broken:
            needy = f"flags or segments that {', '.join(held.broken)} needs are missing"
            raise ValueError(str(held.error or needy))
        self._definitions = definitions
        self.flags.swap(held)

    def _next(self) -> tuple[int, str]:
        self._revision += 1
        return self._revision, f'"{self._revision}"'
