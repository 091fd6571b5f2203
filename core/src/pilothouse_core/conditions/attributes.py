"""Attributes of an evaluation context: how they are found, and which can be bucketed."""

from collections.abc import Callable, Mapping
from typing import Any

from pilothouse_core.bucketing import Subject
from pilothouse_core.conditions.model import MAX_TEXT, Context

_TOO_LONG = 10**MAX_TEXT  # as decimals; CPython refuses to write one of more than 4,300 digits


def getter(path: str) -> Callable[[Context], Any]:
    """Return a function that finds an attribute in a context, None if it is missing."""
    names = path.split(".")
    if len(names) == 1:
        return lambda context: context.get(path)
    first, *others = names

    def get(context: Context) -> Any:
        value = context.get(first)
        for name in others:
            if not isinstance(value, Mapping):
                return None
            value = value.get(name)
        return value

    return get


def subject_of(value: object) -> Subject | None:
    """Return the subject of an attribute: a string, or an integer by its decimals; else None."""
    if type(value) is str:
        return value if len(value) <= MAX_TEXT else None
    return value if type(value) is int and -_TOO_LONG < value < _TOO_LONG else None


def is_too_long(value: object) -> bool:
    """Tell whether a text is longer than operators and hashes look at."""
    return type(value) is str and len(value) > MAX_TEXT
