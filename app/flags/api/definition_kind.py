"""What differs between the routes of flags and those of segments."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.flags.api.schemas import FlagEdit, FlagIn, FlagOut, SegmentEdit, SegmentIn, SegmentOut
from app.flags.model import Kind
from app.web.paging import Page

FLAGS: Final = "/api/v1/feature-flags"
SEGMENTS: Final = "/api/v1/segments"


@dataclass(frozen=True, slots=True)
class DefinitionKind:
    """Flags or segments: their path, request bodies and responses."""

    kind: Kind
    path: str
    tag: str
    body: type[FlagIn | SegmentIn]
    edit: type[FlagEdit | SegmentEdit]
    answer: type[FlagOut | SegmentOut]
    page: type[Page[FlagOut] | Page[SegmentOut]]
    lacks: frozenset[str] = frozenset()  # parameters that its routes do not have
    descriptions: Mapping[str, str] = field(default_factory=dict)  # of routes, by their verb

    def shape_endpoint(
        self, endpoint: Callable[..., Any], body: type[Any] | None = None
    ) -> Callable[..., Any]:
        """Give an endpoint the `body` of this kind, and remove the parameters it lacks.

        FastAPI reads the signature, and passes only the parameters in it.
        """
        signature = inspect.signature(endpoint)
        parameters = [
            each.replace(annotation=body) if each.name == "body" else each
            for each in signature.parameters.values()
            if each.name not in self.lacks
        ]
        shaped = signature.replace(parameters=parameters)
        endpoint.__signature__ = shaped  # type: ignore[attr-defined]  # what `inspect` returns
        return endpoint


FLAG: Final = DefinitionKind(
    "flag",
    FLAGS,
    "feature flags",
    FlagIn,
    FlagEdit,
    FlagOut,
    Page[FlagOut],
    descriptions={
        "replace": "A body in the simple form keeps the members that it does not name; a body with"
        " rules or variants replaces the whole flag.",
        "delete": "The history is kept. A flag that is created later under the same name continues"
        " the version numbers.\n\nAn archived flag is deleted permanently.",
    },
)
SEGMENT: Final = DefinitionKind(
    "segment",
    SEGMENTS,
    "segments",
    SegmentIn,
    SegmentEdit,
    SegmentOut,
    Page[SegmentOut],
    lacks=frozenset({"archived", "enabled", "force", "stale_days", "tag"}),
    descriptions={"delete": "Refused while a flag or another segment uses it."},
)
