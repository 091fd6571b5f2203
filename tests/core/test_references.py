from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.conditions.reading import MAX_DEPTH
from pilothouse_core.evaluation import EMPTY, FlagSet
from pilothouse_core.explanation import explain_flag
from pilothouse_core.flags.model import Flag, Segment
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.references import (
    MAX_CHAIN,
    MAX_NESTING,
    MAX_STEPS,
    BrokenReference,
    StillNeeded,
    check_references,
)
from tests.core.drawn import boolean
from tests.trials import trials

Json = Any
Named = TypeVar("Named", Flag, Segment)
quick = settings(max_examples=trials(100))


def flag(
    name: str, *needs: str, uses: Sequence[str] = (), variants: Sequence[str] = ("on",)
) -> Flag:
    return read_flag(
        boolean(
            *({"when": {"segment": used}, "serve": {"variant": "on"}} for used in uses),
            name=name,
            default_variant="on",
            prerequisites=[{"flag": need, "variants": list(variants)} for need in needs],
        )
    )


def segment(name: str, *uses: str, below: int = 0) -> Segment:
    when: Json = {"all": [{"segment": used} for used in uses]}
    for _ in range(below):
        when = {"not": when}
    return read_segment({"name": name, "when": when})


def by_name(*named: Named) -> dict[str, Named]:
    return {each.name: each for each in named}


def check(flags: Mapping[str, Flag], segments: Mapping[str, Segment] | None = None) -> None:
    """Check a set as if all of it had changed."""
    check_references(flags, segments or {}, flags, segments or {})


def flag_set(flags: Mapping[str, Flag], segments: Mapping[str, Segment] | None = None) -> FlagSet:
    return EMPTY.with_changes(
        [(name, flag, 1) for name, flag in flags.items()], (segments or {}).items()
    )


def broken_reference(
    flags: Mapping[str, Flag], segments: Mapping[str, Segment] | None = None
) -> tuple[str, str, str]:
    with pytest.raises(BrokenReference) as refusal:
        check(flags, segments)
    return refusal.value.of, refusal.value.pointer, refusal.value.code


def test_a_set_in_which_everything_is_there_is_accepted() -> None:
    flags = by_name(flag("a", "b", "c"), flag("b", "c", uses=["s"]), flag("c", uses=["s", "t"]))

    check(flags, by_name(segment("s", "t", "u"), segment("t", "u"), segment("u")))
    check({}, {})


def test_a_missing_flag_segment_or_variant_is_named_with_its_place() -> None:
    some = by_name(segment("s"))

    assert broken_reference(by_name(flag("a", "b"))) == (
        "a",
        "/prerequisites/0/flag",
        "unknown_flag",
    )
    assert broken_reference(by_name(flag("a", "b", variants=["off", "third"]), flag("b"))) == (
        "a",
        "/prerequisites/0/variants/1",
        "unknown_variant",
    )
    assert broken_reference(by_name(flag("a", uses=["s", "t"])), some) == (
        "a",
        "/rules/1/when",
        "unknown_segment",
    )
    assert broken_reference({}, by_name(segment("s", "t"))) == ("s", "/when", "unknown_segment")


@pytest.mark.parametrize("length", [1, 2, 3, 60, 5000])
def test_a_cycle_is_refused_whatever_its_length(length: int) -> None:
    names = [f"f{n}" for n in range(length)]
    after = [*names[1:], names[0]]
    flags = by_name(*(flag(name, need) for name, need in zip(names, after, strict=True)))
    segments = by_name(*(segment(name, used) for name, used in zip(names, after, strict=True)))

    of, pointer, code = broken_reference(flags)
    assert (of in names, pointer, code) == (True, "/prerequisites", "cycle")
    of, pointer, code = broken_reference({}, segments)
    assert (of in names, pointer, code) == (True, "/when", "cycle")


def test_a_cycle_is_blamed_on_what_has_changed() -> None:
    flags = by_name(flag("a", "b"), flag("b", "c"), flag("c", "a"), flag("z", "a"))

    for changed in ("a", "b", "c"):
        with pytest.raises(BrokenReference) as refusal:
            check_references(flags, {}, [changed], [])
        assert refusal.value.of == changed
        assert "->" in refusal.value.detail


def chain(length: int) -> dict[str, Flag]:
    return by_name(*(flag(f"f{n}", f"f{n + 1}") for n in range(length - 1)), flag(f"f{length - 1}"))


def chained_segments(length: int, below: int = 0) -> dict[str, Segment]:
    inner = (segment(f"s{n}", f"s{n + 1}", below=below) for n in range(length - 1))
    return by_name(*inner, segment(f"s{length - 1}"))


def test_a_chain_of_prerequisites_has_an_end() -> None:
    check(chain(MAX_CHAIN))

    of, pointer, code = broken_reference(chain(MAX_CHAIN + 1))

    assert (of in chain(MAX_CHAIN + 1), pointer, code) == (True, "/prerequisites", "too_deep")


def test_a_chain_of_segments_has_an_end() -> None:
    check({}, chained_segments(MAX_CHAIN))

    of, pointer, code = broken_reference({}, chained_segments(MAX_CHAIN + 1))

    assert (of[0], pointer, code) == ("s", "/when", "too_deep")


def test_a_chain_that_grows_in_its_middle_is_refused_for_what_has_changed() -> None:
    flags = {**chain(MAX_CHAIN), "new": flag("new", "f3"), "f2": flag("f2", "new")}

    with pytest.raises(BrokenReference) as refusal:
        check_references(flags, {}, ["f2", "new"], [])

    assert (refusal.value.of, refusal.value.code) == ("f2", "too_deep")


def test_segments_in_a_row_may_nest_only_so_deep_in_all() -> None:
    """Each condition is a frame on the interpreter's stack, which ends at a thousand."""
    each = MAX_DEPTH - 1
    many = MAX_NESTING // (each + 2)

    check({}, chained_segments(many, below=each))
    _, pointer, code = broken_reference({}, chained_segments(many + 2, below=each))

    assert (pointer, code) == ("/when", "too_deep")


def test_the_deepest_set_that_is_accepted_is_evaluated_and_explained() -> None:
    many = MAX_NESTING // (MAX_DEPTH + 1)
    segments = chained_segments(many, below=MAX_DEPTH - 1)
    when: Json = {"segment": "s0"}
    for _ in range(MAX_DEPTH):
        when = {"not": when}
    last = read_flag(boolean({"when": when, "serve": {"variant": "on"}}, name=f"f{MAX_CHAIN - 1}"))
    flags = {**chain(MAX_CHAIN), last.name: last}
    check(flags, segments)
    deepest = flag_set(flags, segments)

    assert deepest.evaluate("f0", {}, 0).reason
    assert explain_flag(deepest, last.name, {}, 0)["rules"][0]["when"]["holds"] in {True, False}


def test_a_chain_of_diamonds_is_refused_before_it_doubles_too_often() -> None:
    """Thirty links of two would be a billion evaluations of one flag."""
    flags = by_name(
        *(flag(f"a{n}", f"a{n + 1}", f"b{n + 1}") for n in range(30)),
        *(flag(f"b{n}", f"a{n + 1}", f"b{n + 1}") for n in range(30)),
        flag("a30"),
        flag("b30"),
    )
    segments = by_name(*(segment(f"s{n}", *[f"s{n + 1}"] * 2) for n in range(30)), segment("s30"))

    assert broken_reference(flags)[1:] == ("/prerequisites", "too_many")
    assert broken_reference({}, segments)[1:] == ("/when", "too_many")


def test_many_may_need_the_same() -> None:
    many = by_name(flag("base"), *(flag(f"f{n}", "base") for n in range(999)))
    check({**many, "top": flag("top", *(f"f{n}" for n in range(999)))})

    assert MAX_STEPS > 1999


# What is still needed.


def test_what_others_need_cannot_go() -> None:
    flags = by_name(flag("a", "base"), flag("b", "base", uses=["s"]), flag("base"))
    segments = by_name(segment("s", "t"), segment("t"))
    without_base = {name: flag for name, flag in flags.items() if name != "base"}

    with pytest.raises(StillNeeded) as refusal:
        check_references(without_base, segments, ["base"], [])
    assert list(refusal.value.users) == ["flag a", "flag b"]

    for gone, users in (("s", ["flag b"]), ("t", ["segment s"])):
        rest = {name: segment for name, segment in segments.items() if name != gone}
        with pytest.raises(StillNeeded, match=gone) as refusal:
            check_references(flags, rest, [], [gone])
        assert list(refusal.value.users) == users


def test_a_variant_that_others_need_cannot_go() -> None:
    flags = by_name(flag("a", "base", variants=["on"]), flag("base"))
    off = boolean(name="base", variants={"off": False})
    flags["base"] = read_flag(off)

    with pytest.raises(StillNeeded, match="variant 'on' of flag 'base' is needed by flag a"):
        check_references(flags, {}, ["base"], [])


def test_what_goes_together_with_its_users_may_go() -> None:
    check_references({}, {}, ["a", "base"], ["s", "t"])
    check_references(by_name(flag("a")), {}, ["a", "base"], ["s"])


def test_a_message_names_a_few_users_and_the_refusal_all() -> None:
    flags = by_name(*(flag(f"f{n:02}", "base") for n in range(30)))

    with pytest.raises(StillNeeded) as refusal:
        check_references(flags, {}, ["base"], [])

    assert len(refusal.value.users) == 30
    assert "f09" in str(refusal.value)
    assert "f10" not in str(refusal.value)


NAMES = "abcdef"


@quick
@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3)))
def test_what_is_accepted_has_no_gap_and_no_cycle(needs: dict[str, list[str]]) -> None:
    flags = by_name(*(flag(name, *others) for name, others in needs.items()))
    segments = by_name(*(segment(name, *others) for name, others in needs.items()))
    sound = all(other in needs for others in needs.values() for other in others) and not any(
        name in reachable(name, needs) for name in needs
    )

    assert is_accepted(flags, {}) is is_accepted({}, segments) is sound


def reachable(name: str, needs: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(needs.get(name, ()))
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += needs.get(other, ())
    return found


def is_accepted(flags: Mapping[str, Flag], segments: Mapping[str, Segment]) -> bool:
    try:
        check(flags, segments)
    except BrokenReference:
        return False
    return True


@quick
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.none() | st.lists(st.sampled_from(NAMES), max_size=2)),
        max_size=12,
    )
)
def test_changes_one_by_one_never_lead_to_a_broken_set(
    edits: list[tuple[str, list[str] | None]],
) -> None:
    flags: dict[str, Flag] = {}
    for name, needs in edits:
        after = {other: kept for other, kept in flags.items() if other != name}
        if needs is not None:
            after[name] = flag(name, *needs)
        try:
            check_references(after, {}, [name], [])
        except (BrokenReference, StillNeeded):
            continue
        flags = after

        check(flags)
        for other in flags:
            assert flag_set(flags).evaluate(other, {}, 0).reason
