"""Options of reads: resolving placeholders and relaxing names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.configs.documents.candidates import ReleaseArm
from app.configs.documents.effective import Effective
from app.configs.errors import ContradictoryOptions, PlaceholderCycle, PlaceholderLimit
from app.configs.services.answers import KeyAnswer, UsedPlaceholder, source_of
from pilothouse_core import placeholders
from pilothouse_core.layers import merge
from pilothouse_core.placeholders import PlaceholderUse, Resolution
from pilothouse_core.relaxed_names import align_spellings, relaxed_finder


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """`resolve_placeholders`: `${name}` is replaced by the value of that key.

    `relaxed_names`: names that differ in case, dashes and underscores only are the same.
    `defaults`: the defaults of schemas are a layer below all others.
    `instance`: who reads. `arm` is its arm where a release is running, see `KeyService.with_arm`.
    """

    resolve_placeholders: bool = False
    relaxed_names: bool = False
    defaults: bool = False
    instance: str | None = None
    arm: ReleaseArm | None = None

    def __bool__(self) -> bool:
        is_named = self.instance is not None
        return self.resolve_placeholders or self.relaxed_names or self.defaults or is_named

    def form_of(self, form: str = "json") -> str:
        """Return the part of an entity tag that depends on the options."""
        parts = (
            form,
            "resolved" * self.resolve_placeholders,
            "relaxed" * self.relaxed_names,
            "defaults" * self.defaults,
            # Of the stable arm nothing: its instances read what all others read.
            f"candidate {self.arm.release}" if self.arm and self.arm.is_candidate else "",
        )
        return "-".join(filter(None, parts))

    def demand_all_layers(self, *, resolve: bool, version: int | None) -> None:
        """Raise ContradictoryOptions if only one layer is asked for."""
        if self and (not resolve or version is not None):
            raise ContradictoryOptions(
                "resolve_placeholders, relaxed_names, defaults and instance concern all layers, as "
                "they are now"
            )


AS_STORED = ReadOptions()


def relax_names(effective: Effective) -> Effective:
    """Merge the layers again, with one spelling for all names that are the same."""
    layers = align_spellings([(layer, body.data) for layer, body in effective.bodies.items()])
    merged = merge(layers.layers)
    stored = {
        key: layers.stored[source, key]
        for key, source in merged.sources.items()
        if (source, key) in layers.stored
    }
    return replace(effective, merged=merged, stored=stored)


def key_in(effective: Effective, key: str, options: ReadOptions) -> str:
    """Return the key that `key` means."""
    if not options.relaxed_names:
        return key
    return relaxed_finder(effective.merged.data)(key) or key


def resolve_values(
    effective: Effective, data: Mapping[str, Any], options: ReadOptions, key: str = ""
) -> Resolution:
    """Resolve the placeholders at `key`, or all; raises PlaceholderCycle and PlaceholderLimit."""
    find = relaxed_finder(effective.merged.data) if options.relaxed_names else None
    try:
        return placeholders.resolve_placeholders(data, find, key)
    except placeholders.PlaceholderCycle as error:
        raise PlaceholderCycle(str(effective.addressed), error.keys) from None
    except placeholders.PlaceholdersExceedLimit as error:
        raise PlaceholderLimit(str(effective.addressed), error.key, str(error)) from None


def used_placeholders(
    effective: Effective, uses: Iterable[PlaceholderUse]
) -> list[UsedPlaceholder]:
    """Return the placeholders with the layers that their values come from."""
    return [
        UsedPlaceholder(
            use.name,
            use.outcome,
            use.key,
            None if use.key is None else source_of(effective, use.key),
        )
        for use in uses
    ]


def with_placeholders(effective: Effective, answer: KeyAnswer, resolution: Resolution) -> KeyAnswer:
    """Return the answer with the resolved value, and with every placeholder in it."""
    uses = [use for in_leaf in resolution.uses.values() for use in in_leaf]
    return replace(answer, value=resolution.value, placeholders=used_placeholders(effective, uses))
