"""Rendering of a template for a document: its parameters are judged, then take their places."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from app.rules.errors import ParametersInvalid, SchemaTooCostly, SecretInTemplate
from app.rules.templates.reading import Template
from pilothouse_core.keys import is_below
from pilothouse_core.rendering import BadParameter, RenderingTooLarge, render
from pilothouse_core.schema_index import join_pointer
from pilothouse_core.suggestions import did_you_mean
from pilothouse_core.trees import (
    SECRET,
    BadKey,
    DuplicateKey,
    KeysConflict,
    Tree,
    leaves,
    nested_tree,
)

MOST_PARAMETER_BYTES: Final = 64 * 1024


def render_template(template: Template, parameters: Mapping[str, Any]) -> Tree:
    """Return the rendering, as a document that has nothing else.

    Raises ParametersInvalid, with the place of each flaw, and SecretInTemplate for a secret among
    the parameters: a document remembers them plainly.
    """
    _check_parameters(template, parameters)
    values = {**template.defaults, **parameters}
    try:
        rendered = render(template.data, values, template.declared)
        return nested_tree({template.at: rendered} if template.at and rendered else rendered)
    except BadParameter as error:
        raise ParametersInvalid([(join_pointer("", error.name), error.reason)]) from None
    except (RenderingTooLarge, BadKey, DuplicateKey, KeysConflict) as error:
        raise ParametersInvalid([("", str(error))]) from None


def refuse_secret_places(tree: Mapping[str, Any], secret_keys: Collection[str]) -> None:
    """Raise SecretInTemplate if a rendering has a value at, in or above one of these keys."""
    for key, _ in leaves(tree) if secret_keys else ():
        if any(_overlap(key, secret) for secret in secret_keys):
            raise SecretInTemplate(key)


def _overlap(one: str, other: str) -> bool:
    return one == other or is_below(one, other) or is_below(other, one)


def _check_parameters(template: Template, parameters: Mapping[str, Any]) -> None:
    secret = next(_secret_places(parameters), None)
    if secret is not None:
        raise SecretInTemplate(secret[0], "/parameters" + secret[1])
    unknown = [name for name in parameters if name not in template.declared]
    if unknown:
        raise ParametersInvalid(_unknown_flaws(unknown, template.declared))
    if len(json.dumps(parameters).encode()) > MOST_PARAMETER_BYTES:
        raise ParametersInvalid([("", f"more than {MOST_PARAMETER_BYTES} bytes")])
    values = {**template.defaults, **parameters}
    try:
        template.costs.check_cost(values)
    except SchemaTooCostly as error:
        raise ParametersInvalid([("", str(error))]) from None
    violations = [(each.pointer, each.message) for each in template.parameters.violations(values)]
    if violations:
        raise ParametersInvalid(violations)


def _unknown_flaws(unknown: Iterable[str], declared: frozenset[str]) -> list[tuple[str, str]]:
    return [
        (join_pointer("", name[:80]), f"no such parameter{did_you_mean(name, declared)}")
        for name in unknown
    ]


def _secret_places(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (parameter, pointer) of every object that would be a secret in a document."""
    waiting = [(name, join_pointer("", name), value) for name, value in parameters.items()]
    while waiting:
        name, pointer, value = waiting.pop()
        if isinstance(value, dict):
            if SECRET in value:
                yield name, pointer
            waiting += [(name, join_pointer(pointer, each), one) for each, one in value.items()]
        elif isinstance(value, list):
            waiting += [(name, join_pointer(pointer, n), one) for n, one in enumerate(value)]
