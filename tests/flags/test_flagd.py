"""Flags of flagd mean here what they mean there: its own evaluator is the judge."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from app.flags.formats.flagd import read_flagd, write_flagd
from app.flags.formats.model import Imported
from pilothouse_core.flags import read_flag, read_segment
from tests.flags.drawn_flagd import (
    any_conditions,
    conditions,
    contexts,
    documents,
    targeting_keys,
)
from tests.flags.imported import evaluated
from tests.trials import trials

Json = Any
OURS = object()
many = settings(
    max_examples=trials(40),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # flagd logs each rollout without a key
    yield
    logging.disable(logging.NOTSET)


def judged(document: Json, key: str | None, context: Json) -> tuple[str | None, Json]:
    """Return the variant and the value that flagd serves."""
    core = FlagdCore()
    core.set_flags(copy.deepcopy(document))
    found = core._resolve(  # noqa: SLF001 - any type of flag
        "flag", OURS, EvaluationContext(key, dict(context))
    )
    return found.variant, None if found.value is OURS else found.value


def ours(imported: Imported, key: str | None, context: Json) -> tuple[str | None, Json]:
    found = evaluated(imported, "flag", {**context, "targetingKey": key})
    return found.variant, found.value


def one_flag(targeting: Json, **members: Json) -> Json:
    flag = {"state": "ENABLED", "variants": {"a": "A", "b": "B"}, "defaultVariant": "a"}
    return {"flags": {"flag": {**flag, "targeting": targeting, **members}}}


@many
@given(
    documents(conditions), st.lists(st.tuples(targeting_keys, contexts), min_size=6, max_size=12)
)
def test_a_flag_serves_everybody_what_flagd_serves_them(document: Json, asked: Json) -> None:
    imported = read_flagd(document)

    for key, context in asked:
        if imported.flags:
            assert ours(imported, key, context) == judged(document, key, context)


@many
@given(documents(any_conditions), st.lists(st.tuples(targeting_keys, contexts), min_size=6))
def test_a_flag_is_imported_whole_or_reported_and_left_out(document: Json, asked: Json) -> None:
    imported = read_flagd(document)

    assert bool(imported.flags) is not bool(imported.report)
    for key, context in asked:
        if imported.flags:
            assert ours(imported, key, context) == judged(document, key, context)


@many
@given(
    documents(conditions), st.lists(st.tuples(targeting_keys, contexts), min_size=6, max_size=12)
)
def test_a_flag_that_goes_to_flagd_and_comes_back_evaluates_the_same(
    document: Json, asked: Json
) -> None:
    there = read_flagd(document)
    flags = [read_flag(found) for found in there.flags]
    written, report = write_flagd(flags, [read_segment(found) for found in there.segments])
    back = read_flagd(written)

    assert report == back.report == ()
    for key, context in asked:
        # true and false count as numbers in flagd, here only where it says so
        if flags and not isinstance(context.get("beta"), bool):
            assert ours(back, key, context) == ours(there, key, context)
            assert judged(written, key, context) == ours(there, key, context)


VAR = {"var": "x"}


@pytest.mark.parametrize(
    ("targeting", "pointer"),
    [
        ({"if": [{"==": [VAR, {"var": "y"}]}, "b"]}, "/if/0"),
        ({"if": [{"and": [VAR, {"==": [VAR, 0]}]}, "b"]}, "/if/0/and/1"),
        ({"if": [{"some": [VAR, True]}, "b"]}, "/if/0"),
        ({"if": [{"<": [VAR, "text"]}, "b"]}, "/if/0"),
        ({"if": [{">": [{"var": "$flagd.timestamp"}, 1]}, "b"]}, "/if/0/>/0"),
        ({"if": [{"!": {"var": "items.0"}}, "b"]}, "/if/0/!"),
        ({"if": [{"sem_ver": [VAR, "=", "one"]}, "b"]}, "/if/0/sem_ver/2"),
        ({"if": [{"sem_ver": [VAR, "?", "1.0"]}, "b"]}, "/if/0/sem_ver/1"),
        ({"if": [{"in": [VAR, [["nested"]]]}, "b"]}, "/if/0/in/1/0"),
        ({"if": [True, "no variant"]}, "/if/1"),
        ({"if": [True, 5]}, "/if/1"),
        ({"if": [{"$ref": "nobody"}, "b"]}, "/if/0"),
        ({"var": "variant"}, ""),
        ({"==": [VAR, "a"]}, ""),  # true is no variant
        ({"fractional": [["a", 50], ["nobody", 50]]}, "/fractional/1/0"),
        ({"fractional": [["a", 1.5]]}, "/fractional/0/1"),
        ({"fractional": [["a", 0]]}, ""),
        ({"fractional": [["a", 2**31]]}, ""),
        ({"fractional": [["a", VAR]]}, "/fractional/0/1"),
        ({"fractional": [{"cat": [VAR, "behind"]}, ["a", 1]]}, "/fractional/0"),
        ({"fractional": [{"cat": [VAR]}, ["a", 1]]}, "/fractional/0"),
        ({"fractional": [{"merge": []}, ["a", 1]]}, "/fractional/0"),
        ({"fractional": [[{"fractional": [["a", 1]]}, 1]]}, "/fractional/0/0"),
    ],
)
def test_what_cannot_be_said_exactly_is_reported_by_its_place(
    targeting: Json, pointer: str
) -> None:
    imported = read_flagd(one_flag(targeting))

    assert imported.flags == ()
    assert [note.flag for note in imported.report] == ["flag"] * len(imported.report)
    assert f"/flags/flag/targeting{pointer}" in [note.pointer for note in imported.report]


def test_a_report_names_all_of_a_flag_that_cannot_be_said() -> None:
    targeting = {"if": [{"==": [VAR, 0]}, "nobody", {"some": [VAR, True]}, "a"]}

    report = read_flagd(one_flag(targeting)).report

    assert [note.pointer.removeprefix("/flags/flag/targeting") for note in report] == [
        "/if/0",
        "/if/1",
        "/if/2",
    ]


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"variants": {"a": 1, "b": "B"}}, "/variants"),
        ({"variants": {}, "defaultVariant": None}, ""),
        ({"variants": {"a": None}}, "/variants"),
        ({"defaultVariant": "nobody"}, "/defaultVariant"),
        ({"state": "ON"}, "/state"),
        ({"targeting": ["if"]}, "/targeting"),
    ],
)
def test_a_flag_that_flagd_would_not_take_is_reported(members: Json, pointer: str) -> None:
    imported = read_flagd(one_flag(**{"targeting": {}, **members}))

    assert imported.flags == ()
    assert [note.pointer for note in imported.report] == [f"/flags/flag{pointer}"]


def test_a_flag_whose_name_is_none_here_is_reported_and_the_others_are_read() -> None:
    flag = one_flag({})["flags"]["flag"]

    imported = read_flagd({"flags": {"with space": flag, "good": flag}})

    assert [found["name"] for found in imported.flags] == ["good"]
    assert [note.flag for note in imported.report] == ["with space"]


@pytest.mark.parametrize("document", [None, [], {}, {"flags": []}, {"flags": {}, "$evaluators": 1}])
def test_what_is_no_document_of_flagd_is_reported_once(document: Json) -> None:
    imported = read_flagd(document)

    assert (imported.flags, len(imported.report)) == ((), 1)


@pytest.mark.parametrize(
    "evaluators", [{"loop": {"$ref": "loop"}}, {"loop": {"!": {"!": {"$ref": "loop"}}}}]
)
def test_an_evaluator_that_names_itself_is_reported(evaluators: Json) -> None:
    targeting = {"if": [{"$ref": "loop"}, "b"]}

    imported = read_flagd({**one_flag(targeting), "$evaluators": evaluators})

    assert imported.flags == ()
    assert imported.report


EITHER = [{"==": [VAR, "a"]}, {"$ref": "loop"}, {"$ref": "loop"}]  # two of each: 2 ** 40 in all
CHOICE = [{"if": [{"==": [VAR, "a"]}, "a", "b"]}, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "targeting",
    [
        {"if": [{"$ref": "loop"}, "b"]},
        {"$ref": "loop"},
        {"if": [False, {"$ref": "loop"}]},
        {"if": [False, {"fractional": [CHOICE] * 40}]},
        {"if": [{"if": [{"==": [VAR, "a"]}] * 20_000}, "b"]},
    ],
)
@pytest.mark.parametrize("default", ["a", None])
def test_what_would_grow_beyond_measure_is_reported_and_harms_no_other(
    targeting: Json, default: str | None
) -> None:
    document = one_flag(targeting, defaultVariant=default)
    document["flags"]["good"] = one_flag({})["flags"]["flag"]

    imported = read_flagd({**document, "$evaluators": {"loop": {"if": EITHER}}})

    assert [found["name"] for found in imported.flags] == ["good"]
    assert "is too much to be read, with all that is referred to" in {
        note.reason for note in imported.report if note.flag == "flag"
    }


def test_an_evaluator_becomes_a_segment_and_metadata_a_description() -> None:
    targeting = {"if": [{"$ref": "staff"}, "b"]}
    metadata = {"description": "What for", "owner": "team", "tags": "x, y", "n": 7, "beta": True}
    document = one_flag(targeting, metadata=metadata)

    imported = read_flagd(
        {**document, "$evaluators": {"staff": {"==": [VAR, "yes"]}, "not used": 1}}
    )

    (flag,) = map(read_flag, imported.flags)
    assert (flag.description, flag.owner) == ("What for", "team")
    assert flag.tags == ("x", "y", "n=7", "beta=true")
    assert [found["name"] for found in imported.segments] == ["staff"]
    assert evaluated(imported, "flag", {"x": "yes"}).variant == "b"
    assert evaluated(imported, "flag", {"x": "no"}).variant == "a"


def test_only_an_empty_targeting_key_has_a_bucket_that_flagd_does_not_give_it() -> None:
    document = one_flag({"fractional": [["b", 1]]})
    imported = read_flagd(document)

    assert judged(document, "", {})[0] == judged(document, None, {})[0] == "a"
    assert ours(imported, None, {})[0] == "a"
    assert ours(imported, "", {})[0] == "b"


def test_who_is_bucketed_by_a_fraction_gets_what_those_get_who_have_nothing() -> None:
    document = one_flag({"fractional": [{"cat": ["salt-", VAR]}, ["b", 1], ["a", 1]]})
    imported = read_flagd(document)

    nothing = judged(document, None, {})
    assert ours(imported, None, {"x": 1.5}) == ours(imported, None, {}) == nothing
    assert judged(document, None, {"x": 1.5}) != nothing


EVERYTHING = {"by": "targetingKey", "salt": "flag", "hash": "flagd-2", "weights": {"a": 1, "b": 1}}
WHEN = {"attribute": "x", "op": "in", "values": ["y"]}


def own_flag(**members: Json) -> Json:
    flag = {"name": "flag", "type": "string", "variants": {"a": "A", "b": "B"}}
    return {**flag, "default_variant": "a", "enabled": True, **members}


def rule(serve: Json | None = None, **members: Json) -> Json:
    return {"rules": [{"serve": serve or {"variant": "b"}, **members}]}


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"prerequisites": [{"flag": "other", "variants": ["on"]}]}, "/prerequisites"),
        (rule(active={"from": "2026-01-01T00:00:00Z"}), "/rules/0/active"),
        (rule({"rollout": {**EVERYTHING, "salt": "other"}}), "/rules/0/serve/rollout/salt"),
        (rule({"rollout": {**EVERYTHING, "by": "org"}}), "/rules/0/serve/rollout/by"),
        (rule({"rollout": {"weights": {"a": 100}}}), "/rules/0/serve/rollout/hash"),
        (rule(when={"rollout": {"salt": "", "percent": 1}}), "/rules/0/when"),
        (rule(when={"not": {**WHEN, "op": "matches"}}), "/rules/0/when/not/op"),
        (
            rule(when={"all": [WHEN, {**WHEN, "op": "cidr", "values": ["::1"]}]}),
            "/rules/0/when/all/1/op",
        ),
        (rule(when={**WHEN, "case_insensitive": True}), "/rules/0/when/case_insensitive"),
        (rule(when={**WHEN, "attribute": "x.length"}), "/rules/0/when/attribute"),
        (rule(when={"segment": "matching"}), "/segments/matching/when/op"),
        (rule(when={"segment": "nobody"}), "/rules"),
    ],
)
def test_what_flagd_cannot_say_is_reported_by_its_place_in_the_flag(
    members: Json, pointer: str
) -> None:
    segment = {"name": "matching", "when": {**WHEN, "op": "matches"}}

    written, report = write_flagd([read_flag(own_flag(**members))], [read_segment(segment)])

    assert written == {"flags": {}}
    assert [(note.flag, note.pointer) for note in report] == [("flag", pointer)]


def test_a_disabled_flag_serves_in_flagd_what_it_serves_here() -> None:
    off = read_flag(own_flag(enabled=False, off_variant="b", **rule({"variant": "a"})))
    nothing = read_flag(own_flag(enabled=False))

    assert judged(write_flagd([off], [])[0], "u", {}) == ("b", "B")
    assert judged(write_flagd([nothing], [])[0], "u", {}) == (None, None)


def test_segments_in_segments_are_written_in_the_order_in_which_flagd_replaces_them() -> None:
    inner = {"name": "a-inner", "when": WHEN}
    outer = {"name": "outer", "when": {"not": {"segment": "a-inner"}}}
    flag = read_flag(own_flag(**rule(when={"segment": "outer"})))

    written, report = write_flagd([flag], [read_segment(inner), read_segment(outer)])

    assert (report, list(written["$evaluators"])) == ((), ["outer", "a-inner"])
    assert judged(written, "u", {"x": "y"})[0] == "a"
    assert judged(written, "u", {"x": "z"})[0] == "b"
