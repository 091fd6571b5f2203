"""One state of a configuration: its values, their source, and the masked secrets. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pilothouse.conversions import UNREADABLE
from pilothouse.copies import deep_copy
from pilothouse_core.keys import canonical_key, join_item, join_member
from pilothouse_core.layers import merge
from pilothouse_core.trees import OWN_VALUE, Tree, child_key, is_secret, is_section, node_at

Source = Literal["service", "snapshot", "defaults"]


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
        own: Tree = deep_copy(self.data)
        return own


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


def without_secrets(
    tree: Mapping[str, Any], prefix: str = "", *, keeps_sections: bool = False
) -> tuple[Tree, set[str]]:
    """Return a copy without its secrets, and their keys.

    In a list, a secret item is None: the others keep their numbers. A section of which nothing is
    left is left out, unless `keeps_sections`.
    """
    plain: Tree = {}
    masked: set[str] = set()
    for name, value in tree.items():
        key = child_key(prefix, name)
        if is_secret(value):
            masked.add(key)
        elif is_section(value):
            below, hidden = without_secrets(value, key, keeps_sections=keeps_sections)
            masked |= hidden
            if below or keeps_sections:
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
