"""Keys that a schema marks with `x-environment: true`: each environment has its own. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from app.rules.schemas.index import Mounted
from pilothouse_core.schema_index import BadSchema, TooCostly
from pilothouse_core.schema_walk import SchemaWalk

_MARK: Final = "x-environment"


def environment_keys(mounted: Iterable[Mounted], data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of all leaves of a document at marked places.

    A mark that is not true or false, or lies below `not`, marks nothing.
    """
    for schema, at in mounted:
        index = schema.compiled.walk.index
        if any(_MARK in index.members(pointer) for pointer in index.at):
            with suppress(BadSchema, TooCostly):
                # The walk finds secret places; with another mark, those of the mark.
                yield from SchemaWalk(index.root, (_MARK,)).secret_keys(data, at)
