"""Copies of configuration values that a caller may change."""

from typing import Any


def deep_copy(value: Any) -> Any:
    """Return `value` with dicts and lists of its own; other values are shared."""
    if isinstance(value, dict):
        return {name: deep_copy(member) for name, member in value.items()}
    return [deep_copy(item) for item in value] if isinstance(value, list) else value
