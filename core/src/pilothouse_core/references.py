"""Checks of the references between flags and segments of one environment."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pilothouse_core.conditions.model import nesting, segments_in
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.flags.model import Flag, Segment, segment_references

MAX_CHAIN = 50  # of prerequisites behind each other, or of segments
# An evaluation goes down into every condition, and the interpreter's stack has an end.
MAX_NESTING = 200
# What is needed in two ways is evaluated twice: a chain of diamonds doubles at every link.
MAX_STEPS = 10_000


class BrokenReference(DefinitionError):
    """The flag or segment `of` needs one that does not exist, or that needs it in turn."""

    def __init__(self, of: str, pointer: str, detail: str, code: str) -> None:
        super().__init__(pointer, detail, code)
        self.of = of


class StillNeeded(ValueError):
    """Something that others need would go; `users` names them."""

    def __init__(self, what: str, users: Sequence[str]) -> None:
        super().__init__(f"{what} is needed by {', '.join(users[:10])}")
        self.users = users


def check_references(
    flags: Mapping[str, Flag],
    segments: Mapping[str, Segment],
    changed_flags: Iterable[str],
    changed_segments: Iterable[str],
) -> None:
    """Check a set in which these have changed or gone.

    Raises BrokenReference where a changed one needs what is missing or closes a cycle, and
    StillNeeded where others need what is gone.
    """
    changed_flags, changed_segments = set(changed_flags), set(changed_segments)
    for name in sorted(changed_flags & flags.keys()):
        _check_flag(flags[name], flags, segments)
    for name in sorted(changed_segments & segments.keys()):
        for used in segments_in(segments[name].when):
            if used not in segments:
                raise _missing_segment(name, "/when", used)
    if changed_segments:
        _check_segment_users(flags, segments, changed_segments)
        needs = {name: list(segments_in(segment.when)) for name, segment in segments.items()}
        depths = {name: nesting(segment.when) for name, segment in segments.items()}
        _check_chains(needs, depths, changed_segments, ("segments", "/when"))
    if changed_flags:
        _check_flag_users(flags, changed_flags)
        needs = {name: [need.flag for need in flag.prerequisites] for name, flag in flags.items()}
        depths = dict.fromkeys(needs, 1)
        _check_chains(needs, depths, changed_flags, ("flags", "/prerequisites"))


def _missing_segment(of: str, pointer: str, name: str) -> BrokenReference:
    return BrokenReference(of, pointer, f"there is no segment {name!r}", "unknown_segment")


def _check_flag(flag: Flag, flags: Mapping[str, Flag], segments: Mapping[str, Segment]) -> None:
    for used, pointer in segment_references(flag):
        if used not in segments:
            raise _missing_segment(flag.name, pointer, used)
    for number, need in enumerate(flag.prerequisites):
        pointer = f"/prerequisites/{number}"
        if need.flag not in flags:
            detail = f"there is no flag {need.flag!r}"
            raise BrokenReference(flag.name, f"{pointer}/flag", detail, "unknown_flag")
        for place, variant in enumerate(need.variants):
            if variant not in flags[need.flag].variants:
                at = f"{pointer}/variants/{place}"
                detail = f"flag {need.flag!r} has no variant {variant!r}"
                raise BrokenReference(flag.name, at, detail, "unknown_variant")


def _check_segment_users(
    flags: Mapping[str, Flag], segments: Mapping[str, Segment], changed: set[str]
) -> None:
    gone = changed - segments.keys()
    if not gone:
        return
    users = defaultdict(list)
    for flag in flags.values():
        for used in {name for name, _ in segment_references(flag)}:
            users[used].append(f"flag {flag.name}")
    for segment in segments.values():
        for used in set(segments_in(segment.when)):
            users[used].append(f"segment {segment.name}")
    for name in sorted(gone & users.keys()):
        raise StillNeeded(f"segment {name!r}", users[name])


def _check_flag_users(flags: Mapping[str, Flag], changed: set[str]) -> None:
    """Refuse to remove flags and variants that unchanged flags need."""
    for flag in flags.values():
        if flag.name in changed:
            continue  # it was checked as what it is now
        for need in flag.prerequisites:
            if need.flag not in flags:
                raise StillNeeded(f"flag {need.flag!r}", _dependents(flags, need.flag))
            for variant in need.variants:
                if variant not in flags[need.flag].variants:
                    what = f"variant {variant!r} of flag {need.flag!r}"
                    raise StillNeeded(what, _dependents(flags, need.flag))


def _dependents(flags: Mapping[str, Flag], name: str) -> list[str]:
    return [
        f"flag {flag.name}"
        for flag in flags.values()
        if any(need.flag == name for need in flag.prerequisites)
    ]


class _Reach(NamedTuple):
    """The depth and number of steps that evaluating one flag or segment takes."""

    chain: int
    nested: int
    steps: int

    def excess(self, what: str) -> tuple[str, str] | None:
        if self.chain > MAX_CHAIN:
            return f"more than {MAX_CHAIN} {what} would depend on each other in a chain", "too_deep"
        if self.nested > MAX_NESTING:
            return f"more than {MAX_NESTING} conditions would be nested", "too_deep"
        if self.steps > MAX_STEPS:
            return f"one evaluation would take more than {MAX_STEPS} {what}", "too_many"
        return None


def _check_chains(
    needs: Mapping[str, Sequence[str]],
    depths: Mapping[str, int],
    changed: set[str],
    kind: tuple[str, str],
) -> None:
    """Refuse cycles, and chains that are too deep or take too many steps."""
    what, pointer = kind
    reached: dict[str, _Reach] = {}
    for start in needs:
        path: list[str] = []
        waiting = [(start, iter(needs[start]))] if needs[start] and start not in reached else []
        while waiting:
            name, others = waiting[-1]
            if len(path) < len(waiting):
                path.append(name)
            other = next((o for o in others if o not in reached), None)
            if other is None:
                reached[name] = _reach(depths[name], [reached[o] for o in needs[name]])
                if excess := reached[name].excess(what):
                    raise BrokenReference(
                        _changed_dependent(name, needs, changed), pointer, *excess
                    )
                waiting.pop()
                path.pop()
            elif other in path:
                cycle = [*path[path.index(other) :], other]
                of = next((n for n in cycle if n in changed), other)
                raise BrokenReference(of, pointer, f"{' -> '.join(cycle)} is a cycle", "cycle")
            elif needs[other]:
                waiting.append((other, iter(needs[other])))
            else:
                reached[other] = _reach(depths[other], [])


def _reach(depth: int, below: Sequence[_Reach]) -> _Reach:
    return _Reach(
        1 + max((reach.chain for reach in below), default=0),
        depth + max((reach.nested for reach in below), default=0),
        1 + sum(reach.steps for reach in below),
    )


def _changed_dependent(name: str, needs: Mapping[str, Sequence[str]], changed: set[str]) -> str:
    """Return a changed flag or segment that `name` needs, or `name` itself."""
    seen = {name}
    waiting = [name]
    while waiting:
        dependency = waiting.pop()
        if dependency in changed:
            return dependency
        others = [other for other in needs[dependency] if other not in seen]
        seen.update(others)
        waiting += others
    return name
