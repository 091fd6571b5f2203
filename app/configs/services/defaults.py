"""Defaults of schemas as layer 0 of an effective configuration. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from app.configs.documents.effective import Effective
from app.configs.model import Body, DefaultsLayer, DocumentId, Stamp
from app.rules.schemas.index import Mounted
from app.rules.schemas.reading import Schema
from pilothouse_core.layers import merge
from pilothouse_core.trees import Tree, leaves

_DEFAULTED_BY = "schema"


def defaults_layers(
    addressed: DocumentId, mounted: Sequence[Mounted]
) -> list[tuple[DefaultsLayer, Tree]]:
    """Return the defaults of each schema that judges a configuration and has any."""
    by_schema: dict[DefaultsLayer, list[Tree]] = {}
    for schema, at in mounted:
        if defaults := schema.defaults.get(at):
            by_schema.setdefault(_layer(addressed, schema), []).append(defaults)
    return [(layer, merge(enumerate(trees)).data) for layer, trees in by_schema.items()]


def with_defaults(effective: Effective, mounted: Sequence[Mounted]) -> Effective:
    """Merge the defaults of schemas below all layers; each names its schema and version."""
    layers = defaults_layers(effective.addressed, mounted)
    if not layers:
        return effective
    bodies: dict[DocumentId, Body] = {
        layer: Body(layer.version, Stamp("", "created", _DEFAULTED_BY, "", ""), "", "", data=tree)
        for layer, tree in layers
        if any(True for _ in leaves(tree))
    }
    versions = tuple((layer, body.version) for layer, body in bodies.items())
    bodies |= effective.bodies
    merged = merge((layer, body.data) for layer, body in bodies.items())
    return replace(effective, merged=merged, layers=(*versions, *effective.layers), bodies=bodies)


def _layer(addressed: DocumentId, schema: Schema) -> DefaultsLayer:
    return DefaultsLayer(
        addressed.environment, addressed.service, None, schema.name, schema.version
    )
