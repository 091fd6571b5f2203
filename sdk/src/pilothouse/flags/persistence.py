"""A flag set from the snapshot: each flag is read when it is first asked for.

Reading 1,000 flags takes a tenth of a second, which a program that begins does not have. What
wrote the snapshot had read them all, so none is expected to be refused; another release reads them
all again.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from pilothouse.errors import BadAnswer
from pilothouse.flags.state import Definition, FlagState, Key, apply_update, broken_flag, read
from pilothouse_core.evaluation import CompiledFlag, Evaluator, FlagSet, compile_flag


@lru_cache(maxsize=1)
def release() -> str:
    """Return the release of the code that reads and evaluates definitions."""
    return f"{version('pilothouse-client')} {version('pilothouse-core')}"


def snapshot_content(held: FlagState) -> dict[str, Any]:
    """Return the state as JSON for the snapshot, which `restore_snapshot` reads."""
    whole = "" if held.unreadable or held.broken else release()
    return {**held.to_body(), "version": held.version, "whole_for": whole}


def restore_snapshot(content: Any) -> FlagState:
    """Return the saved state; raises BadAnswer if the content is not a flag set."""
    if not isinstance(content, dict):
        raise BadAnswer("a snapshot without a flag set")
    tag = str(content.get("version", ""))
    if content.get("whole_for") != release():
        return apply_update(FlagState(), content, "snapshot", tag)
    segments = apply_update(FlagState(), {**content, "flags": []}, "snapshot", tag)
    definitions: dict[Key, Definition] = dict(segments.definitions)
    definitions.update((("flag", flag["name"]), flag) for flag in content["flags"])
    flags = _FlagsLater({flag["name"]: flag for flag in content["flags"]})
    held = segments.flags
    lazy = FlagSet(flags, held.segments, held.segment_definitions, _DecidesLater(flags))
    return FlagState(lazy, "snapshot", segments.revision, tag, definitions, is_read=False)


class _FlagsLater(Mapping[str, CompiledFlag]):
    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self._definitions = definitions
        self._compiled: dict[str, CompiledFlag] = {}

    def __getitem__(self, name: str) -> CompiledFlag:
        """Return a flag; raises DefinitionError for what cannot be read."""
        compiled_flag = self._compiled.get(name)
        if compiled_flag is None:
            definition = self._definitions[name]
            compiled_flag = compile_flag(read("flag", definition), definition["version"])
            self._compiled[name] = compiled_flag
        return compiled_flag

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)


class _DecidesLater(dict[str, Evaluator]):
    """A dict subclass, so that an evaluation needs one lookup."""

    def __init__(self, flags: _FlagsLater) -> None:
        super().__init__()
        self._flags = flags

    def __missing__(self, name: str) -> Evaluator:
        try:
            decide = self._flags[name].evaluate
        except ValueError:
            decide = broken_flag(name)
        self[name] = decide
        return decide
