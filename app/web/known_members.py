"""The members that a request body may have at a place, for messages about unknown ones."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel


def known_members(annotation: Any, path: Sequence[str | int]) -> list[str]:
    """Return the names that the objects at `path` in a body of this type may have.

    Steps of `path` that are not members are skipped: Pydantic also names list items and branches
    of unions. Empty if the type has no known members.
    """
    models = list(_models(annotation))
    for step in path:
        below = [field for model in models for field in _fields(model, step)]
        if below:
            models = [model for field in below for model in _models(field)]
    names = (field.alias or name for model in models for name, field in model.model_fields.items())
    return sorted(set(names))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a value of this type may be, through unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _fields(model: type[BaseModel], step: str | int) -> Iterator[Any]:
    for name, field in model.model_fields.items():
        if step == (field.alias or name):
            yield field.annotation
