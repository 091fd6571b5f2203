"""Contexts as JSON would carry them, so that rules see here what they see at the service."""

from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

_PLAIN = frozenset({str, int, float, bool, NoneType})


def plain(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the context itself when there is nothing to convert, which is nearly always."""
    for value in context.values():
        if type(value) not in _PLAIN:
            return {name: _plain(one) for name, one in context.items()}
    return context


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one case a line
    match value:
        case _ if type(value) in _PLAIN:
            return value
        case Enum():
            return _plain(value.value)
        case str() | UUID():
            return str.__str__(value) if isinstance(value, str) else str(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case datetime():
            return (value if value.tzinfo else value.astimezone()).isoformat()
        case date():
            return value.isoformat()
        case Mapping():
            return {str(name): _plain(one) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in value]
        case _:
            return value
